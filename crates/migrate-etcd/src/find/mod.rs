//! Finding the members of etcd when a backup begins, and the one to take it of.

mod choose;
mod found;
#[cfg(feature = "seal")]
mod kubeadm;
mod named;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

#[cfg(feature = "seal")]
pub use kubeadm::KubeadmMembers;
pub use named::NamedMembers;

use crate::{Error, Member};

/// How long a member may take to say how it is; after as long it is away, or asked over
/// another way.
const ANSWER: Duration = Duration::from_secs(5);

/// Finds the members of etcd. It is asked anew for each backup: the one after the
/// control plane meets renewed certificates and other leaders.
#[async_trait]
pub trait FindMembers: Send + Sync {
    /// The members, and which of them a snapshot is best taken of.
    ///
    /// # Errors
    /// [`Error::Node`] for a node that cannot be read, [`Error::NoMember`] if none of
    /// the members can be backed up.
    async fn find(&self) -> Result<FoundMembers, Error>;
}

/// What was found; the ways to the members are open while it lives.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundMembers {
    /// To take the snapshot of: a voting member that knows a leader, has caught up,
    /// and does not lead itself if another one does as well.
    pub source: Member,
    /// Version of its server (`3.6.16`), where it was asked.
    pub version: Option<String>,
    /// To compare it with: all of them, those too that did not answer.
    pub members: Vec<Member>,
    /// Ways that were opened for it.
    pub ways: Vec<Way>,
    /// None of them knows a leader, and it is taken all the same
    /// ([`SnapshotBackup::forced`](crate::SnapshotBackup::forced)).
    pub is_forced: bool,
}

impl FoundMembers {
    /// These, without ways of their own.
    pub fn new(source: Member, members: Vec<Member>) -> Self {
        Self {
            source,
            version: None,
            members,
            ways: Vec::new(),
            is_forced: false,
        }
    }
}

/// An open way from an address of this machine to a member.
pub struct Way {
    address: SocketAddr,
    _open: Box<dyn Send + Sync>,
}

impl Way {
    /// It begins at `address`, and is open until `open` is dropped.
    pub fn new(address: SocketAddr, open: impl Send + Sync + 'static) -> Self {
        Self {
            address,
            _open: Box::new(open),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Way").field(&self.address).finish()
    }
}
