//! What a restore has made.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Restore;
use crate::Error;

/// What a restore has made. As JSON it can be handed to where the next member is restored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restored {
    /// The member's name.
    pub member: String,
    /// Its id.
    pub member_id: u64,
    /// Id of its cluster.
    pub cluster_id: u64,
    /// The snapshot's last revision.
    pub snapshot_revision: i64,
    /// The revision that the cluster goes on from.
    pub revision: i64,
    /// SHA-256 of the snapshot's file in hex, trailer included.
    pub sha256: String,
    /// Length of the new database in bytes.
    pub bytes: u64,
    /// Damaged entries that are not in it, see [`Restore::salvaging`].
    #[serde(skip_serializing_if = "crate::inspect::is_zero", default)]
    pub left_out: u64,
    /// The snapshot's SHA-256 is not the one at its end, see [`Restore::salvaging`].
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub wrong_hash: bool,
}

impl Restored {
    /// Refuses members of one cluster that hold different data.
    ///
    /// A cluster of such members runs, and answers differently depending on who
    /// is asked. Where each member is restored on a machine of its own, give the
    /// first one to the others by [`Restore::beside`].
    ///
    /// # Errors
    /// [`Error::MixedMembers`].
    pub fn refuse_mixed(members: &[Self]) -> Result<(), Error> {
        let Some((first, others)) = members.split_first() else {
            return Ok(());
        };
        let of = |it: &Self| (it.cluster_id, it.sha256.clone(), it.revision);
        match others.iter().find(|other| of(other) != of(first)) {
            Some(other) => Err(Error::MixedMembers {
                member: other.member.clone(),
                other: first.member.clone(),
            }),
            None => Ok(()),
        }
    }
}
