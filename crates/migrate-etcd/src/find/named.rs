//! Members that somebody has named.

use async_trait::async_trait;
use futures::future::join_all;

use super::found::{Answer, found};
use super::{ANSWER, FindMembers, FoundMembers};
use crate::{Error, Member};

/// Members that somebody has named, in whatever order: which of them a snapshot is taken of
/// is asked of each. One that is away, a learner, or one that lags is in nobody's way as long
/// as another one is fit.
///
/// Whether all members of the cluster are among them is not known before there is a snapshot,
/// which tells: [`Proof::is_enough`](crate::Proof::is_enough).
#[derive(Clone, Debug)]
pub struct NamedMembers {
    members: Vec<Member>,
    is_forced: bool,
}

impl NamedMembers {
    /// These.
    pub fn new(members: Vec<Member>) -> Self {
        Self {
            members,
            is_forced: false,
        }
    }

    /// Where none of them knows a leader, takes the one that has got furthest
    /// ([`SnapshotBackup::forced`](crate::SnapshotBackup::forced)). As long as there is
    /// quorum it changes nothing.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.is_forced = true;
        self
    }
}

#[async_trait]
impl FindMembers for NamedMembers {
    async fn find(&self) -> Result<FoundMembers, Error> {
        let ask = async |member: &Member| -> Answer {
            let standing = member.standing(ANSWER).await;
            let standing = standing.map_err(|error| error.to_string())?;
            Ok((member.clone(), standing, None))
        };
        let asked = join_all(self.members.iter().map(ask)).await;
        found(self.members.iter().cloned().zip(asked), self.is_forced).map_err(|reasons| {
            let names: Vec<&str> = self.members.iter().map(|it| it.endpoint.as_str()).collect();
            Error::NoMember {
                nodes: names.join(", "),
                reasons,
            }
        })
    }
}
