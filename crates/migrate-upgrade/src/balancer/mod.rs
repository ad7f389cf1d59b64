//! Taking one API server out of its load balancer: the seam
//! [`ApiServerBackend`] and its implementations.

mod configured;
mod examined;
mod haproxy;
mod hook;

use async_trait::async_trait;
use migrate_core::{Fence, Finding};

use crate::Error;

pub use haproxy::Haproxy;
pub use hook::ApiServerHook;

/// The load balancer before the API servers of a control plane.
///
/// An API server that shares a node with its etcd answers 500 on an open port
/// while that etcd is swapped, and a kubelet that is restarted may end it
/// without a word: until the balancer's own checks have seen that, requests
/// fail. So it is taken out before it is touched, and put back when it serves
/// again. Who calls this keeps count of what was taken out and asks the API
/// server before it is put back.
///
/// # Guarantees
/// * Both calls are idempotent, and one that was broken off may be repeated.
/// * After `quiesce` no new connection goes to the member, and none is left:
///   a client that had one opens another, to one of the others.
/// * `quiesce` takes nobody out when no other API server would be left.
///
/// Both are told the run and the epoch of the holder that asks: an implementation that
/// remembers the newest one may refuse older ones (I7). None has to: a superseded holder
/// takes its last word back by itself.
///
/// # Errors
/// [`Error::LoadBalancer`]: it refused or could not be reached; some of its
/// instances may have done as asked.
#[async_trait]
pub trait ApiServerBackend: Send + Sync {
    /// Takes the API server of `member`, a node's name, out.
    async fn quiesce(&self, member: &str, fence: &Fence) -> Result<Standing, Error>;

    /// Puts the API server of `member` in.
    async fn restore(&self, member: &str, fence: &Fence) -> Result<(), Error>;

    /// What is found before the start, of a control plane of `members`, that
    /// would keep `quiesce` from doing its work or make it worth less. Changes
    /// nothing; that it cannot be asked is a finding. Nothing unless an
    /// implementation looks.
    async fn examine(&self, members: &[String]) -> Vec<Finding> {
        let _ = members;
        Vec::new()
    }
}

/// Where an API server stood before it was taken out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// It was in.
    WasIn,
    /// Somebody had taken it out before, so it is not ours to put back.
    WasOut,
}

fn refused(member: &str, said: impl Into<String>) -> Error {
    Error::LoadBalancer {
        member: member.to_owned(),
        said: said.into(),
    }
}

#[cfg(test)]
mod tests;
