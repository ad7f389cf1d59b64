//! Kubernetes component upgrade drivers: what changes a node or a
//! control-plane member, behind [`UpgradeComponents`].
//!
//! * [`Kubeadm`] upgrades clusters made by kubeadm, over [`Ssh`], by Jobs
//!   ([`JobShell`]) or [`Local`]ly: packages, `kubeadm upgrade`, the kubelet.
//! * [`CommandHook`] runs a program of yours per node and per control-plane
//!   member. Its environment and exit codes are the contract, see there.
//! * [`AddonHook`] runs programs of yours per addon of the policy.
//! * [`SimulatedDriver`] upgrades the nodes of an embedded cluster through
//!   annotations that its kubelets understand.
//!
//! All are idempotent by action id, return from `begin` without waiting for
//! the upgrade itself to end ([`Kubeadm`] makes its node ready first), and
//! answer `probe` from the target itself, so that a new process can take over.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use migrate_upgrade::{Kubeadm, Ssh};
//!
//! let ssh = Ssh::new().with_config("/etc/kube-migrate/ssh_config");
//! let driver = Kubeadm::new(Arc::new(ssh)).with_ignored_preflight_errors(["Swap"]);
//! let nodes = ["cp-1".to_owned(), "worker-1".to_owned()];
//! for finding in driver.pre_pull(&nodes, &"v1.37.2".parse()?).await.findings {
//!     eprintln!("{finding}");
//! }
//! # let _: &dyn migrate_core::UpgradeComponents = &driver;
//! # Ok(())
//! # }
//! ```

mod balancer;
mod error;
mod hook;
mod kubeadm;
mod shell;
mod simulated;
#[cfg(test)]
mod testing;
mod unit;

pub use balancer::{ApiServerBackend, ApiServerHook, Haproxy, Standing};
pub use error::Error;
pub use hook::{AddonHook, CommandHook};
pub use kubeadm::{Binaries, Cleaned, ImagePull, Kubeadm, Readiness, Undo};
pub use shell::{
    JobShell, Local, NodeShell, PerNode, Script, ScriptOutput, Ssh, Tunnel, scripts_on,
};
pub use simulated::SimulatedDriver;

#[doc(no_inline)]
pub use migrate_core::UpgradeComponents;
