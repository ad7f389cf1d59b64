//! One version of one object, and the changes that lead from version to version.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Resource;
use crate::object;

/// One immutable version of one object.
///
/// Handed out as `Arc<Object>` only; a write makes a new one.
#[derive(Debug)]
pub struct Object {
    /// Kind of the object.
    pub resource: &'static Resource,
    /// Namespace, empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// resourceVersion of this version.
    pub rv: u64,
    /// The object as JSON, with `apiVersion` and `kind`.
    pub json: Value,
    bytes: OnceLock<Bytes>,
    metadata_bytes: OnceLock<Bytes>,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The object came into being.
    Added,
    /// A new version of the object.
    Modified,
    /// The object is gone; the change carries its last version.
    Deleted,
}

/// One entry of the change log.
#[derive(Debug, Clone)]
pub struct Change {
    /// resourceVersion of the change; consecutive changes have consecutive numbers.
    pub rv: u64,
    /// Cluster time in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The version after the change; of a deletion the last version, stamped with `rv`.
    pub object: Arc<Object>,
    /// The version before the change; none for an addition.
    pub previous: Option<Arc<Object>>,
}

/// An object ordered by kind, namespace and name, for indexes.
#[derive(Debug, Clone)]
pub(super) struct ByKey(pub(super) Arc<Object>);

impl Object {
    pub(super) fn new(resource: &'static Resource, rv: u64, json: Value) -> Self {
        let text = |field: &str| {
            json["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            resource,
            namespace: text("namespace"),
            name: text("name"),
            rv,
            json,
            bytes: OnceLock::new(),
            metadata_bytes: OnceLock::new(),
        }
    }

    /// The JSON text of this version; made once, shared by every reader.
    pub fn bytes(&self) -> Bytes {
        self.bytes.get_or_init(|| encode(&self.json)).clone()
    }

    /// The JSON text of this version as `PartialObjectMetadata`; made once, shared
    /// by every reader.
    pub fn metadata_bytes(&self) -> Bytes {
        let bytes = self
            .metadata_bytes
            .get_or_init(|| encode_metadata(&self.json));
        bytes.clone()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        object::uid(&self.json)
    }

    /// `metadata.labels`, if there are any.
    pub fn labels(&self) -> Option<&Map<String, Value>> {
        object::labels(&self.json)
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&str> {
        object::label(&self.json, key)
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        object::annotation(&self.json, key)
    }

    /// `metadata.generation`, 0 for kinds without one.
    pub fn generation(&self) -> u64 {
        self.json["metadata"]["generation"]
            .as_u64()
            .unwrap_or_default()
    }

    /// Whether the object waits for its removal.
    pub fn is_terminating(&self) -> bool {
        object::is_terminating(&self.json)
    }

    /// The entry of `metadata.ownerReferences` with `controller: true`.
    pub fn controller(&self) -> Option<&Value> {
        object::controller_of(&self.json)
    }

    /// `metadata.ownerReferences`.
    pub fn owners(&self) -> &[Value] {
        object::items_at(&self.json, &["metadata", "ownerReferences"])
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> &[Value] {
        object::items_at(&self.json, &["metadata", "finalizers"])
    }

    /// `spec.nodeName` of a pod, empty if it is not bound.
    pub fn node_name(&self) -> &str {
        object::node_name(&self.json)
    }

    /// `status.phase` of a pod; a pod without one is `Pending`.
    pub fn phase(&self) -> &str {
        object::phase(&self.json)
    }

    /// Whether the condition `Ready` is true.
    pub fn is_ready(&self) -> bool {
        object::is_ready(&self.json)
    }

    fn key(&self) -> (usize, &str, &str) {
        (self.resource.index, &self.namespace, &self.name)
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(&other.0.key())
    }
}

/// JSON text of the `PartialObjectMetadata` of an object.
pub(crate) fn encode_metadata(object: &Value) -> Bytes {
    let mut text =
        br#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":"#.to_vec();
    text.extend_from_slice(&encode(&object["metadata"]));
    text.push(b'}');
    Bytes::from(text)
}

/// JSON text of a value.
pub(crate) fn encode(value: &Value) -> Bytes {
    // Serialising a `Value` cannot fail: its keys are strings and its numbers finite.
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_encoded_once_and_is_all_there_is() {
        let json = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n-1"},
            "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "\"b\""}},
        });
        let pod = Object::new(Resource::PODS, 7, json);
        let first = pod.metadata_bytes();
        let read: Value = serde_json::from_slice(&first).unwrap();
        assert_eq!(
            read,
            json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": pod.json["metadata"],
            })
        );
        assert_eq!(first.as_ptr(), pod.metadata_bytes().as_ptr());
    }
}
