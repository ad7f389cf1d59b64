//! A backup that restores a cluster: the snapshot and what is on the nodes.

mod archive;
mod collect;
mod der;
mod halves;
mod jwk;
mod keys;
pub(crate) mod named;
mod node;
mod script;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;
use serde::{Deserialize, Serialize};

pub use keys::{LiveKeys, NodeKeys};
pub use node::{FolderNode, NodeFiles};
pub use script::ScriptNode;

use crate::blocking::off_the_runtime;
use crate::bolt::Told;
use crate::seal::KeyRing;
use crate::{Error, KeyInDoubt, PartFile, PrivateKey, Seal};

/// The form that this version writes and reads.
const SCHEMA: u32 = 1;

/// Most bytes of all files of a set together. etcd advises databases of 8 GiB; whoever knows
/// a public key can make a small set that says it is more than any disk holds.
const LARGEST: u64 = 128 << 30;

/// What is in a set; the file `set.json` in it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetRecord {
    schema: u32,
    /// The snapshot, `snapshot.db`.
    pub snapshot: FileRecord,
    /// The nodes, by their names.
    pub nodes: Vec<NodeRecord>,
}

/// A file of a set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileRecord {
    /// Where it was on the node.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes in hex. It is kept within what is encrypted.
    pub sha256: String,
}

/// What was taken of a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// Its files, by their paths; in the archive below `nodes/NAME`.
    pub files: Vec<FileRecord>,
    /// Files that a flag or a configuration names, or every node should have, and
    /// that are not there; and folders of Kubernetes that are links, which are not followed.
    pub missing: Vec<String>,
    /// Files that were not taken, because they are larger than 1 MiB.
    pub too_large: Vec<String>,
    /// Versions of packages by their names.
    pub packages: BTreeMap<String, String>,
    /// Its keys, by their fingerprints.
    pub keys: NodeKeys,
}

impl SetRecord {
    /// Bytes of all its files; refuses what no disk is to be filled with.
    fn bytes(&self, path: &Path) -> Result<u64, Error> {
        let files = self.nodes.iter().flat_map(|node| &node.files);
        let each = files.chain([&self.snapshot]).map(|file| file.bytes);
        let bytes = each.fold(0, u64::saturating_add);
        match bytes > LARGEST {
            false => Ok(bytes),
            true => Err(Error::TooLarge {
                path: path.to_owned(),
                bytes,
                most: LARGEST,
            }),
        }
    }

    /// Refuses a set that would restore a cluster that nobody trusts: there has to
    /// be a node, and each has to have the CA and the public key of service accounts that
    /// `live` uses, and no private key that belongs to another one. One that is not there, as
    /// of an external CA, or that cannot be compared is [`keys_in_doubt`](Self::keys_in_doubt),
    /// and a public one that cannot be [`signers_in_doubt`](Self::signers_in_doubt).
    ///
    /// # Errors
    /// [`Error::OtherKeys`].
    pub fn refuse_other_keys(&self, live: &LiveKeys) -> Result<(), Error> {
        let refuse = |node: &str, reason: &str| Error::OtherKeys {
            node: node.to_owned(),
            reason: reason.to_owned(),
        };
        if self.nodes.is_empty() {
            return Err(refuse("set", "it has the files of no node"));
        }
        for node in &self.nodes {
            if let Some(reason) = node.keys.other_than(live) {
                return Err(refuse(&node.name, reason));
            }
        }
        Ok(())
    }

    /// Private keys of the CA and of service accounts that nodes have not got, or that nobody
    /// here can compare with their public halves.
    pub fn keys_in_doubt(&self) -> Vec<KeyInDoubt> {
        keys::in_doubt(&self.nodes)
    }

    /// Nodes of whose `sa.pub` nobody here can tell whether it is what the cluster signs tokens
    /// with, if there are any: `live` has a key of which neither the id nor the numbers say
    /// which one it is.
    pub fn signers_in_doubt(&self, live: &LiveKeys) -> Option<KeyInDoubt> {
        keys::signers_in_doubt(&self.nodes, live)
    }

    /// Whether a control plane that is restored with it can sign tokens: one of its nodes has a
    /// private key for that, if perhaps one that nobody here can compare. Without one no API
    /// server starts, unless a program beside it signs for it.
    pub fn signs_tokens(&self) -> bool {
        let mut keys = self.nodes.iter().map(|node| node.keys.service_account_key);
        keys.any(|key| matches!(key, PrivateKey::There | PrivateKey::NotCompared))
    }
}

/// Makes a set: a snapshot, and the files of control-plane nodes.
///
/// It holds the keys of the cluster, so there is no way to write one that is
/// not encrypted. Which files those are, see
/// `docs/etcd-backup.md`.
#[derive(Clone)]
pub struct BackupSet {
    snapshot: BackupArtifact,
    nodes: Vec<Arc<dyn NodeFiles>>,
    live: Option<LiveKeys>,
    told: Told,
}

impl BackupSet {
    /// A set with this snapshot and no node.
    pub fn new(snapshot: BackupArtifact) -> Self {
        Self {
            snapshot,
            nodes: Vec::new(),
            live: None,
            told: Told::nobody(),
        }
    }

    /// Has to have the keys that a live cluster uses, as
    /// [`SetRecord::refuse_other_keys`] says: nobody shall find a set that restores another.
    #[must_use]
    pub fn with_live_keys(mut self, live: LiveKeys) -> Self {
        self.live = Some(live);
        self
    }

    /// Takes the files of a control-plane node, too.
    #[must_use]
    pub fn with_node(mut self, node: Arc<dyn NodeFiles>) -> Self {
        self.nodes.push(node);
        self
    }

    /// Tells how much of the snapshot is encrypted.
    #[cfg(any(feature = "client", test))]
    pub(crate) fn telling(mut self, told: Told) -> Self {
        self.told = told;
        self
    }

    /// Takes the files, and writes the set into `folder` as `NAME.tar` with
    /// [`Seal::suffix`]. The files of all nodes are held in memory, some 100 KiB
    /// of each.
    ///
    /// # Errors
    /// [`Error::Node`] for a node that cannot be read or whose name is none or
    /// there twice, [`Error::Changed`] if the snapshot is not the one that was
    /// saved, [`Error::TooLarge`] for more than 128 GiB, and as [`Seal::file`]. Nothing is left in `folder`. [`Error::OtherKeys`] where it
    /// has not got those of [`with_live_keys`](Self::with_live_keys): nothing was written then.
    pub async fn write(
        &self,
        folder: &Path,
        name: &str,
        seal: &Seal,
        cancel: &Cancellation,
    ) -> Result<(BackupArtifact, SetRecord), Error> {
        let mut nodes = BTreeMap::new();
        for node in &self.nodes {
            let name = node.node();
            if !is_name(name) || nodes.contains_key(name) {
                return Err(unnamed(name));
            }
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            nodes.insert(name.to_owned(), collect::collect(&**node).await?);
        }
        let record = SetRecord {
            schema: SCHEMA,
            snapshot: FileRecord {
                path: archive::SNAPSHOT.to_owned(),
                bytes: self.snapshot.bytes,
                sha256: self.snapshot.sha256.clone(),
            },
            nodes: nodes.values().map(|node| node.record.clone()).collect(),
        };
        record.bytes(&self.snapshot.path)?;
        // Before there is a file of any name: a kill between the two would leave one.
        if let Some(live) = &self.live {
            record.refuse_other_keys(live)?;
        }
        let files = nodes
            .into_iter()
            .map(|(name, node)| (name, node.files))
            .collect();
        let file = PartFile::create(folder, &format!("{name}.tar{}", seal.suffix())).await?;
        let writing = archive::Writing {
            seal: seal.clone(),
            snapshot: self.snapshot.clone(),
            record: record.clone(),
            files,
            told: self.told.clone(),
            cancel: cancel.clone(),
        };
        let (file, (bytes, sha256)) = file.fill(move |out, part| writing.run(out, part)).await?;
        let artifact = BackupArtifact::new(file.commit().await?, bytes, sha256);
        Ok((artifact, record))
    }

    /// Unpacks the set at `path` into `folder`, which must not be there yet, or be
    /// empty: `set.json`, `snapshot.db`, and the files of each node below
    /// `nodes/NAME`. Folders are 0700 and files 0600.
    ///
    /// # Errors
    /// [`Error::Locked`] for other keys, or a file that was changed or cut;
    /// [`Error::Malformed`] and [`Error::Changed`] for one that holds anything but
    /// what its `set.json` says; [`Error::TooLarge`] for one that says it has more than any set,
    /// and (feature `client`) `NoRoom` for one that the disk has not got the room for, before
    /// anything of it is written; [`Error::NotEmpty`]; [`Error::File`] and
    /// [`Error::DiskFull`]. Nothing is left in `folder`.
    pub async fn unpack(
        path: &Path,
        keys: Arc<KeyRing>,
        folder: &Path,
        cancel: &Cancellation,
    ) -> Result<SetRecord, Error> {
        let unpacking = archive::Unpacking {
            path: path.to_owned(),
            keys,
            folder: folder.to_owned(),
            cancel: cancel.clone(),
        };
        off_the_runtime(move || unpacking.run()).await
    }
}

/// Whether a node can be called so: RFC 1123, as Kubernetes says.
fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.chars().all(is_allowed)
        && name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && name.len() <= 253
}

fn unnamed(node: &str) -> Error {
    use migrate_core::{ObjectName, StepError, StepErrorKind};
    let message = "no node is called so, or it is there twice; name each node once";
    let object = ObjectName::cluster("Node", node);
    Error::Node {
        node: node.to_owned(),
        source: Box::new(StepError::new(StepErrorKind::Invalid, object, message)),
    }
}
