//! Object metadata without the parts nobody here reads.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use migrate_core::model::ControllerRef;
use migrate_core::{ClusterId, Moment};
use serde::{Deserialize, Deserializer};

use super::Namespace;

/// What is kept of an object's metadata.
///
/// `managedFields` is often half of an object; leaving it out of every list
/// and watch is most of what makes the types of this module slim.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SlimMeta {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

pub(super) fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    SlimMeta::deserialize(deserializer).map(|meta| ObjectMeta {
        annotations: meta.annotations,
        creation_timestamp: meta.creation_timestamp,
        deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
        deletion_timestamp: meta.deletion_timestamp,
        finalizers: meta.finalizers,
        generation: meta.generation,
        labels: meta.labels,
        name: meta.name,
        namespace: meta.namespace,
        owner_references: meta.owner_references,
        resource_version: meta.resource_version,
        uid: meta.uid,
        ..ObjectMeta::default()
    })
}

/// Kubernetes reads `null` and an absent field alike.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The controller among an object's owners, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<ControllerRef> {
    let owner = meta
        .owner_references
        .as_ref()?
        .iter()
        .find(|owner| owner.controller == Some(true))?;
    Some(ControllerRef {
        group: owner
            .api_version
            .rsplit_once('/')
            .map_or("", |(group, _)| group)
            .to_owned(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    })
}

/// Whether a status whose `observedGeneration` is `observed` is of the newest
/// spec.
pub fn has_seen(observed: i64, meta: &ObjectMeta) -> bool {
    observed >= meta.generation.unwrap_or_default()
}

/// When an object's deletion takes effect, if it is being deleted.
pub fn deletion_of(meta: &ObjectMeta) -> Option<Moment> {
    meta.deletion_timestamp
        .as_ref()
        .map(|time| Moment::from(time.0))
}

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

impl Namespace {
    /// The identity of the cluster, if this is its `kube-system`.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        let is_system = self.metadata.name.as_deref() == Some("kube-system");
        self.metadata
            .uid
            .clone()
            .filter(|_| is_system)
            .map(ClusterId::new)
    }
}

pub(super) fn name_of(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

pub(super) fn namespace_of(meta: &ObjectMeta) -> String {
    meta.namespace.clone().unwrap_or_default()
}

pub(super) fn uid_of(meta: &ObjectMeta) -> String {
    meta.uid.clone().unwrap_or_default()
}
