//! The change that every node's agents have to see, a part of step 5.

use core::net::SocketAddr;

use async_trait::async_trait;

use super::StepError;
use crate::{Finding, StepContext};

/// A part of step 5: makes a change after a part of the control plane has come
/// back, and looks whether the agents of every node have seen it.
///
/// # Guarantees
/// What is made is removed again, also what an earlier one has left. It can be
/// asked any number of times; each time the change is new. Dropping the future
/// stops at once; what it has made then does no harm until the next one removes
/// it.
///
/// # Errors
/// `Unavailable` and `Deadline`: nobody knows; the executor asks again until
/// `deadlines.verify`. Every other kind: waiting does not help; the verification
/// has failed.
#[async_trait]
pub trait SeeChange: Send + Sync {
    /// What has not seen the change, each with a code; empty if all have. It is
    /// asked again until `deadlines.verify`.
    async fn see_change(&self, cx: &StepContext) -> Result<Vec<Finding>, StepError>;
}

/// A way to ask a node whether it reaches an address: its own network, with what
/// it makes of the cluster addresses of Services, is what is asked about.
///
/// # Errors
/// Only that the node could not be asked.
#[async_trait]
pub trait ReachFrom: Send + Sync {
    /// Whether a TCP connection from `node` to `address` succeeds, within some
    /// seconds.
    async fn reach(
        &self,
        cx: &StepContext,
        node: &str,
        address: SocketAddr,
    ) -> Result<bool, StepError>;
}
