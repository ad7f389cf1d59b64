//! The objects of Kubernetes that a snapshot holds, as JSON.

mod decode;
mod definition;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::inspect::kube::{BINARY, ENCRYPTED, LARGEST, ObjectKey, part};
use crate::state::State;
use crate::{Database, ReadError};

/// What a value in CBOR begins with.
const CBOR: &[u8] = b"\xd9\xd9\xf7";

/// An object of Kubernetes that a snapshot holds; its `Debug` tells no content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct StoredObject {
    /// Its resource, as far as the key says it: `pods`, `widgets.example.com`; empty for
    /// a key that is none of an object.
    pub resource: String,
    /// Namespace, empty for what is in none.
    pub namespace: String,
    /// Name; empty for a key that is none of an object.
    pub name: String,
    /// Revision of the last change: its resourceVersion.
    pub revision: i64,
    /// What it is.
    pub content: Content,
}

impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredObject")
            .field("resource", &self.resource)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// What an object of a snapshot is, as far as it can be read.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// The object as the API shows it in its storage version, without a resourceVersion.
    Object {
        /// The object.
        object: Value,
        /// Fields of a newer Kubernetes than this crate knows, as `MESSAGE NUMBER`; the
        /// object is without them.
        unknown: Vec<String>,
    },
    /// It is encrypted at rest.
    Encrypted,
    /// Its message is none that this crate knows.
    UnknownKind {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// It is no JSON and no protobuf: CBOR, which API servers may use for custom
    /// resources, or malformed; or it is, or would become, larger than 4 MiB: etcd takes none of
    /// more than 1.5 MiB unless it is told otherwise.
    Unreadable,
    /// The key is none of an object: bookkeeping of API servers, or of somebody else.
    NoObject,
}

/// Hands every key of a snapshot that exists to `visit`; the store's revision.
///
/// The file is checked as [`inspect`](crate::inspect) does before the first one is
/// told. JSON is given as it is, but definitions of custom resources, which API servers keep as
/// `v1beta1`, are `v1`. Protobuf, in which API servers keep all that is no
/// custom resource, becomes the JSON that they would answer with, but for what they fill in
/// when they read (such as the phase of a claim that nobody has looked at): of the kinds that
/// `schema.txt` lists, with the fields of Kubernetes 1.37. Memory is some 36 bytes for
/// each key, beside what `visit` keeps.
///
/// Secrets are among them: what becomes of them is the caller's to see to.
///
/// # Errors
/// [`ReadError`] at the first damage.
pub fn objects(path: &Path, visit: impl FnMut(StoredObject)) -> Result<i64, ReadError> {
    Database::open(path)?.objects(visit)
}

impl Database {
    /// Hands every key that exists to `visit`, see [`objects`]; the store's revision.
    ///
    /// # Errors
    /// [`ReadError`] at the first damage.
    pub fn objects(self, mut visit: impl FnMut(StoredObject)) -> Result<i64, ReadError> {
        let state = State::of_database(self)?;
        state.visit(|_, alive, kv| {
            let key = ObjectKey::parse(kv.key);
            let text = |of: fn(ObjectKey<'_>) -> Option<&str>| {
                key.and_then(of).unwrap_or_default().to_owned()
            };
            visit(StoredObject {
                resource: key.map_or_else(String::new, |key| key.resource()),
                namespace: text(|key| key.namespace),
                name: text(|key| Some(key.name)),
                revision: alive.changed,
                content: key.map_or(Content::NoObject, |_| Content::of(kv.value)),
            });
        })?;
        Ok(state.revision)
    }
}

impl Content {
    fn of(value: &[u8]) -> Self {
        if value.starts_with(ENCRYPTED) {
            return Self::Encrypted;
        }
        if value.len() > LARGEST {
            return Self::Unreadable;
        }
        if let Some(unknown) = value.strip_prefix(BINARY) {
            return Self::of_binary(unknown).unwrap_or(Self::Unreadable);
        }
        if value.starts_with(CBOR) {
            return Self::Unreadable;
        }
        match serde_json::from_slice::<Value>(value) {
            Ok(object) if object["kind"].is_string() => {
                let unknown = Vec::new();
                definition::renewed(object)
                    .map_or(Self::Unreadable, |object| Self::Object { object, unknown })
            }
            _ => Self::Unreadable,
        }
    }

    /// `runtime.Unknown`: type, message, and how it is encoded, which is empty.
    fn of_binary(unknown: &[u8]) -> Option<Self> {
        let meta = part(unknown, 1)?;
        let text = |field| String::from_utf8(part(meta, field)?.to_vec()).ok();
        let (api_version, kind) = (text(1)?, text(2)?);
        if part(unknown, 3).is_some_and(|encoding| !encoding.is_empty()) {
            return None;
        }
        let Some(message) = schema::message_of(&api_version, &kind) else {
            return Some(Self::UnknownKind { api_version, kind });
        };
        let decoded = decode::object(message, part(unknown, 2).unwrap_or_default())?;
        let (mut object, unknown) = decoded;
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.into());
        Some(Self::Object {
            object: Value::Object(object),
            unknown,
        })
    }
}
