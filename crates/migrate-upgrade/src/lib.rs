//! Kubernetes component upgrade drivers: what changes a node or a
//! control-plane member, behind [`UpgradeComponents`].
//!
//! * [`CommandHook`] runs a program of yours per node and per control-plane
//!   member. Its environment and exit codes are the contract, see there.
//! * [`SimulatedDriver`] upgrades the nodes of an embedded cluster through
//!   annotations that its kubelets understand.
//!
//! Both are idempotent by action id, return from `begin` at once, and answer
//! `probe` from the target itself, so that a new process can take over.
//!
//! ```no_run
//! # fn example() -> Result<(), migrate_upgrade::Error> {
//! use std::time::Duration;
//! use migrate_upgrade::CommandHook;
//!
//! let driver = CommandHook::new("./upgrade-node.sh", "./upgrade-control-plane.sh")?
//!     .with_timeout(Duration::from_secs(20 * 60));
//! # let _: &dyn migrate_core::UpgradeComponents = &driver;
//! # Ok(())
//! # }
//! ```

mod error;
mod hook;
mod simulated;

pub use error::Error;
pub use hook::CommandHook;
pub use simulated::SimulatedDriver;

#[doc(no_inline)]
pub use migrate_core::UpgradeComponents;
