//! What has to be cured before an upgrade begins: versions that may not meet,
//! and nodes that are out of service already.
//!
//! What [`impossible`](crate::impossible) is for budgets and pods, this is for
//! nodes and members: the planner and a preflight ask the same question and
//! give the same answer.
//!
//! # Guarantees
//! Without a blocker every component is legal next to all versions its API
//! servers have on this hop, or no worse than it is today and legal at its end,
//! which a warning tells; and no node waits for ever for a slot of its pool
//! as long as nothing more goes out of service.
//!
//! # Caveats
//! A node that is away is taken to stay away, and a cordon of others to stay
//! where it is.

mod nodes;
mod runner;
mod skew;

pub use nodes::{CordonOwner, check_nodes};
pub use runner::check_runner;
pub use skew::{check_kubelet, check_skew};

/// Codes of the findings of this module.
pub mod codes {
    /// Versions run together, or would on the way, that may not meet.
    pub const SKEW: &str = "KM-SKEW-001";
    /// The run could not go on once its own pod is moved.
    pub const RUNNER: &str = "KM-RUN-008";
    /// A node is not Ready.
    pub const NOT_READY: &str = "KM-NODE-001";
    /// A node was cordoned by someone else.
    pub const CORDONED: &str = "KM-NODE-002";
    /// So many nodes of a pool are away that some could never be started.
    pub const POOL_AWAY: &str = "KM-NODE-003";
    /// A control-plane member is not ready.
    pub const MEMBER_NOT_READY: &str = "KM-NODE-004";
    /// A worker asks for the pool of the control plane.
    pub const POOL_RESERVED: &str = "KM-NODE-005";
    /// What a pool keeps for failures is all that it can spare.
    pub const ALL_RESERVED: &str = "KM-NODE-006";
}
