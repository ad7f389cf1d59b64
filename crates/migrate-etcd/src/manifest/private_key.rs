//! What is known of the private keys of a cluster that are in a backup.

use serde::{Deserialize, Serialize};

/// What there is of a private key of a node.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum PrivateKey {
    /// There is none: its file is not there, or has no key in it.
    #[default]
    Absent,
    /// There is one of which nobody here can tell which public key it belongs to.
    NotCompared,
    /// There is one that belongs to another public key than those beside it.
    Other,
    /// It is there, and the other half of the public key.
    There,
}

/// A private key of the cluster that a backup lacks, or that was not compared with its public
/// half.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyInDoubt {
    /// Its file below `/etc/kubernetes/pki`: `ca.key` or `sa.key`; `sa.pub` where that was not
    /// compared with the keys that the cluster signs tokens with.
    pub file: String,
    /// What there is of it on these nodes.
    pub key: PrivateKey,
    /// The nodes.
    pub nodes: Vec<String>,
    /// Another node of the backup has it.
    pub elsewhere: bool,
}
