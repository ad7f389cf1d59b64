//! What an inspection tells.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::bolt::Structure;

/// What a sound snapshot or database holds.
///
/// It carries no key and no value of the database but the uid by which a cluster is
/// known: resources and folders, but no names of objects, and of what is encrypted the
/// name of the key that it needs.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 in hex of all but the trailer, which is equal to it. `None` where
    /// the file has no trailer: then only the structure was checked.
    pub trailer: Option<String>,
    /// Bytes of a page.
    pub page_size: u32,
    /// What the check of the structure has found.
    pub structure: Structure,
    /// Names of buckets that no etcd has, shortened, at most 10: of a newer one than is
    /// known here, or damaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_buckets: Vec<String>,
    /// Fields of records that no etcd has which is known here: of a newer one, or damaged.
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown_fields: u64,
    /// Revision of the store: a member that starts on the file has this one.
    pub revision: i64,
    /// Compactions.
    pub compaction: Compaction,
    /// Keys.
    pub keys: Keys,
    /// Index of the last raft entry that is in it.
    pub consistent_index: Option<u64>,
    /// Term of that entry (etcd 3.5 and later).
    pub term: Option<u64>,
    /// Schema of the file (`3.6.0`; etcd 3.6 and later).
    pub storage_version: Option<String>,
    /// Version that the cluster has agreed on (`3.6.0`).
    pub cluster_version: Option<String>,
    /// Members at the time.
    pub members: Vec<MemberRecord>,
    /// Members that were removed before.
    pub removed_members: u64,
    /// Leases.
    pub leases: u64,
    /// Alarms that are raised.
    pub alarms: u64,
    /// Authentication.
    pub auth: Auth,
    /// Folders that keys are in, largest first, at most 20.
    pub folders: Vec<FolderUse>,
    /// What it is to Kubernetes.
    pub kubernetes: Kubernetes,
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Inspection {
    /// Revision up to which old revisions are gone, or are about to; -1 without
    /// any compaction, as etcd has it.
    pub fn compact_revision(&self) -> i64 {
        let Compaction {
            scheduled,
            finished,
        } = self.compaction;
        scheduled.max(finished).unwrap_or(-1)
    }
}

/// Compactions of the store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Compaction {
    /// Revision of the last one that was asked for.
    pub scheduled: Option<i64>,
    /// Revision of the last one that is done; a smaller one than scheduled means
    /// that one is under way.
    pub finished: Option<i64>,
}

/// Keys of the store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// Keys that exist.
    pub alive: u64,
    /// Their keys and values in bytes, without older revisions.
    pub alive_bytes: u64,
    /// All revisions of all keys, tombstones included.
    pub revisions: u64,
    /// Deletions among them.
    pub tombstones: u64,
}

/// A member as the file has it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct MemberRecord {
    /// Id in hex, without leading zeros.
    pub id: String,
    /// Name; empty if it has not started yet.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it does not vote.
    pub is_learner: bool,
}

/// Authentication of etcd.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Whether it is on.
    pub enabled: bool,
    /// Its revision.
    pub revision: u64,
    /// Users.
    pub users: u64,
    /// Roles.
    pub roles: u64,
}

/// What the keys of a folder take.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct FolderUse {
    /// The folder, `/registry/pods/`.
    pub folder: String,
    /// Keys that exist.
    pub keys: u64,
    /// Their keys and values in bytes.
    pub bytes: u64,
}

/// What the file is to Kubernetes.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Kubernetes {
    /// What the cluster is known by: the uid of its namespace `kube-system`. `None` where
    /// there is none, or where it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Objects by resource, by name.
    pub resources: Vec<ResourceUse>,
    /// What can be read only with a key of the encryption configuration.
    pub encrypted: Vec<Encrypted>,
}

impl Kubernetes {
    /// The keys of the encryption configuration that it needs, each once, as manifests name
    /// them: `kms:foo`.
    pub fn needed_keys(&self) -> Vec<String> {
        let used = self.encrypted.iter();
        let keys = used.map(|used| format!("{}:{}", used.provider, used.key));
        let keys: BTreeSet<_> = keys.collect();
        keys.into_iter().collect()
    }
}

/// Objects of a resource.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ResourceUse {
    /// `pods`, `widgets.example.com`.
    pub resource: String,
    /// Objects.
    pub objects: u64,
    /// Their keys and values in bytes.
    pub bytes: u64,
}

/// Objects of a resource that are encrypted with a key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Encrypted {
    /// Provider: `aescbc`, `aesgcm`, `secretbox`, `kms`.
    pub provider: String,
    /// Its version, `v1` or `v2`.
    pub version: String,
    /// Name of the key, or of the KMS plugin.
    pub key: String,
    /// Resource.
    pub resource: String,
    /// Objects.
    pub objects: u64,
}
