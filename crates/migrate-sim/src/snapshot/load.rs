//! The objects of a snapshot, as the state that a cluster begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use migrate_etcd::{Content, StoredObject, objects};
use serde_json::Value;

use crate::error::SimError;
use crate::object::{condition, items_at, name, parse_timestamp, served_versions, str_at};
use crate::store::{Resource, Store};

/// The objects of an etcd snapshot, for
/// [`SimClusterBuilder::snapshot`](crate::SimClusterBuilder::snapshot).
///
/// # Guarantees
/// * Objects keep what they are: uid, resourceVersion, generation, times and status. Nothing
///   is filled in; what the snapshot has as protobuf is the JSON of the API.
/// * What the cluster cannot have is told by [`left_out`](Self::left_out), by kind and
///   count; nothing is dropped in silence.
/// * Nodes that were not heard of any more are cut off in the copy as well.
///
/// # Caveats
/// What nodes, containers and volumes are is known from their objects alone. From
/// the start on the controllers of the embedded cluster act on what they find. It
/// holds every Secret of the cluster that it is of.
pub struct Snapshot {
    /// With their revisions: definitions first, then by revision.
    objects: Vec<(u64, Value)>,
    revision: u64,
    left_out: Vec<LeftOut>,
}

/// What of a snapshot the embedded cluster has not.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LeftOut {
    /// `flowschemas`, `widgets.example.com`; empty for keys of no object.
    pub resource: String,
    /// Why.
    pub why: Why,
    /// Objects.
    pub count: u64,
}

/// Why something of a snapshot is not in the cluster.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Why {
    /// It is encrypted at rest.
    Encrypted,
    /// The embedded cluster does not serve the kind in this version.
    NotServed {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// It is in a form that is not read, such as CBOR, or malformed.
    Unreadable,
    /// It is bookkeeping of API servers, or none of theirs.
    NoObject,
    /// The object is there, but without fields of a Kubernetes newer than this program.
    WithoutFields(
        /// Message and number of each.
        Vec<String>,
    ),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resource,
            why,
            count,
        } = self;
        let resource = if resource.is_empty() {
            "keys"
        } else {
            resource
        };
        write!(f, "{count} {resource}: {why}")
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encrypted => write!(f, "encrypted at rest"),
            Self::NotServed { api_version, kind } => {
                write!(
                    f,
                    "the embedded cluster does not serve {api_version} {kind}"
                )
            }
            Self::Unreadable => write!(f, "neither JSON nor protobuf that can be read"),
            Self::NoObject => write!(f, "no objects"),
            Self::WithoutFields(fields) => write!(f, "without {}", fields.join(", ")),
        }
    }
}

impl Snapshot {
    /// Reads a snapshot, or the database file of a data folder that no etcd has open;
    /// it is checked as [`migrate_etcd::inspect`] does.
    ///
    /// This blocks, and holds all objects in memory.
    ///
    /// # Errors
    /// [`SimError::Unreadable`].
    pub fn read(path: &Path) -> Result<Self, SimError> {
        let mut stored = Vec::new();
        let revision = objects(path, |object| stored.push(object))?;
        let custom = defined(&stored);
        let mut left_out: BTreeMap<(String, Why), u64> = BTreeMap::new();
        let mut found = Vec::new();
        for object in stored {
            let StoredObject {
                resource,
                revision,
                content,
                ..
            } = object;
            let mut leave = |why| *left_out.entry((resource.clone(), why)).or_default() += 1;
            match content {
                Content::Object { object, unknown } => {
                    let (api_version, kind) = kind_of(&object);
                    let is_served = Resource::by_kind(&api_version, &kind).is_some()
                        || custom.contains(&(api_version.clone(), kind.clone()));
                    if !is_served {
                        leave(Why::NotServed { api_version, kind });
                        continue;
                    }
                    if !unknown.is_empty() {
                        leave(Why::WithoutFields(unknown));
                    }
                    found.push((u64::try_from(revision).unwrap_or_default(), object));
                }
                Content::Encrypted => leave(Why::Encrypted),
                Content::UnknownKind { api_version, kind } => {
                    leave(Why::NotServed { api_version, kind });
                }
                Content::NoObject => leave(Why::NoObject),
                _ => leave(Why::Unreadable),
            }
        }
        found.sort_by_key(|(revision, object)| (object["kind"] != DEFINITION, *revision));
        let left_out = left_out
            .into_iter()
            .map(|((resource, why), count)| LeftOut {
                resource,
                why,
                count,
            })
            .collect();
        Ok(Self {
            objects: found,
            revision: u64::try_from(revision).unwrap_or_default(),
            left_out,
        })
    }

    /// What the cluster will not have, by resource.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// How many objects it will have.
    pub fn count(&self) -> usize {
        self.objects.len()
    }

    /// resourceVersion of its last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The newest version of a kubelet, which no API server is older than.
    pub(crate) fn version(&self) -> Option<String> {
        let of_nodes = self.objects.iter().map(|(_, object)| object);
        let versions = of_nodes
            .filter(|object| object["kind"] == "Node")
            .map(|node| str_at(node, &["status", "nodeInfo", "kubeletVersion"]))
            .filter(|version| !version.is_empty());
        let newest = versions.max_by_key(|version| crate::world::version_order(version));
        newest.map(str::to_owned)
    }

    /// The last moment that any object tells of, in milliseconds since the Unix epoch.
    pub(crate) fn newest_ms(&self) -> Option<u64> {
        let objects = self.objects.iter();
        objects.flat_map(|(_, object)| times_of(object)).max()
    }

    /// Nodes whose kubelets were not heard of any more.
    pub(crate) fn silent_nodes(&self) -> impl Iterator<Item = &str> {
        let is_silent = |node: &Value| {
            let ready = condition(node, "Ready");
            ready.is_some_and(|ready| str_at(ready, &["status"]) == "Unknown")
        };
        let objects = self.objects.iter().map(|(_, object)| object);
        objects
            .filter(move |object| object["kind"] == "Node" && is_silent(object))
            .map(name)
    }

    /// Puts all of it into a store that has nothing yet.
    pub(crate) fn fill(self, store: &mut Store) -> Result<(), SimError> {
        for (revision, object) in self.objects {
            let (api_version, kind) = kind_of(&object);
            let Some(resource) = store.by_kind(&api_version, &kind) else {
                return Err(SimError::UnknownKind { api_version, kind });
            };
            store.adopt(resource, object, revision);
        }
        Ok(())
    }
}

/// Without the objects: Secrets are among them.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("objects", &self.objects.len())
            .field("revision", &self.revision)
            .field("left_out", &self.left_out)
            .finish()
    }
}

/// Kind of what defines other kinds.
const DEFINITION: &str = "CustomResourceDefinition";

fn kind_of(object: &Value) -> (String, String) {
    let text = |field| str_at(object, &[field]).to_owned();
    (text("apiVersion"), text("kind"))
}

/// `apiVersion` and kind of all custom resources that are defined and served.
fn defined(stored: &[StoredObject]) -> BTreeSet<(String, String)> {
    let mut served = BTreeSet::new();
    for object in stored {
        let Content::Object { object, .. } = &object.content else {
            continue;
        };
        if str_at(object, &["kind"]) != DEFINITION {
            continue;
        }
        let group = str_at(object, &["spec", "group"]);
        let kind = str_at(object, &["spec", "names", "kind"]);
        for version in served_versions(&object["spec"]) {
            let api_version = format!("{group}/{}", str_at(version, &["name"]));
            served.insert((api_version, kind.to_owned()));
        }
    }
    served
}

/// Moments at which something happened to an object.
fn times_of(object: &Value) -> impl Iterator<Item = u64> {
    let own = [
        str_at(object, &["metadata", "creationTimestamp"]),
        str_at(object, &["spec", "renewTime"]),
    ];
    let of_conditions = items_at(object, &["status", "conditions"]).iter();
    let of_conditions = of_conditions.flat_map(|condition| {
        ["lastTransitionTime", "lastHeartbeatTime"].map(|field| str_at(condition, &[field]))
    });
    let times = own.into_iter().chain(of_conditions);
    times.filter_map(parse_timestamp)
}
