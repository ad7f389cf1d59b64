//! What is known of the private keys of a cluster that are in a backup.

use serde::{Deserialize, Deserializer, Serialize};

/// What there is of a private key of a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
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
    /// Its file below `/etc/kubernetes/pki`: `ca.key` or `sa.key`.
    pub file: String,
    /// What there is of it on these nodes.
    pub key: PrivateKey,
    /// The nodes.
    pub nodes: Vec<String>,
    /// Another node of the backup has it.
    pub elsewhere: bool,
}

/// By its name; records of before have whether it was there, and was compared.
impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Recorded {
            Was(bool),
            Is(Name),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        enum Name {
            Absent,
            NotCompared,
            Other,
            There,
        }
        Ok(match Recorded::deserialize(deserializer)? {
            Recorded::Was(true) | Recorded::Is(Name::There) => Self::There,
            Recorded::Was(false) | Recorded::Is(Name::Absent) => Self::Absent,
            Recorded::Is(Name::NotCompared) => Self::NotCompared,
            Recorded::Is(Name::Other) => Self::Other,
        })
    }
}
