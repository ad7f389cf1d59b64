//! Kubernetes health verification against a baseline taken before the upgrade.
//!
//! A cluster is never perfect, so [`ClusterHealth`] does not ask whether all
//! is well: it takes a [`Baseline`] before the start and asks whether anything
//! is *worse*, and whether what was to be upgraded is at the target.
//!
//! * Workloads are judged by availability, their Ready and not terminating
//!   pods. A Deployment that has completed stays `Progressing=True` for ever
//!   when it loses pods, so that condition says nothing here.
//! * Wanted is the smaller of the baseline and today's `spec.replicas`: who
//!   scales down during an upgrade is not blamed on it.
//! * DaemonSet pods, extended resources, CSI drivers and taints are judged per
//!   node, before the node's cordon is lifted.
//! * After a control-plane member, and after the kubelet of a control-plane
//!   node, nothing passes until the cluster has *settled*: leaders renew,
//!   kubelets renew, the agents in `kube-system` and the DNS are rolled out,
//!   and the control plane has been up for [`SETTLE`]. Time is the cluster's:
//!   the API's `Date` and the Leases themselves.
//! * What was not so in the baseline is not asked for: no leader election, no
//!   CSINodes, no right to read Leases.
//! * [`compare`] is pure: a verdict can be made again from a recorded
//!   observation.
//!
//! Requests have deadlines: futures are polled inside a tokio runtime with its
//! time enabled (`enable_time`), elsewhere they panic. [`compare`] needs none.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use migrate_core::{Fence, StepContext, VerifyMigration};
//! use migrate_kube::TokioClock;
//! use migrate_verify::ClusterHealth;
//!
//! let health = ClusterHealth::new(kube::Client::try_default().await?);
//! let cx = StepContext::new(Arc::new(TokioClock::system()), Fence::new("look", 1));
//! let baseline = health.observe(&cx).await?;
//! let poorly = baseline.workloads.iter().filter(|w| w.available < w.replicas);
//! println!("{} workloads are not whole even now", poorly.count());
//! # Ok(())
//! # }
//! ```

mod baseline;
mod compare;
mod health;
mod signals;

pub use baseline::baseline;
pub use compare::{RETRY_AFTER, SETTLE, compare};
pub use health::ClusterHealth;

#[doc(no_inline)]
pub use migrate_core::steps::{Baseline, Verdict, VerifyScope};
