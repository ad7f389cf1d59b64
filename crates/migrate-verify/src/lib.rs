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
//! * [`CanaryTrial`] tries a node out by a pod before its cordon is lifted: whether
//!   Services and names are reached from there is no condition of a node.
//! * [`CanaryChange`] makes a change after a part of the control plane has come back,
//!   and asks whether the agents of every node have seen it: their watches are no
//!   condition of anything either.
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
//! use migrate_verify::{ClusterHealth, Verdict, compare_baselines};
//!
//! let health = ClusterHealth::new(kube::Client::try_default().await?);
//! let cx = StepContext::new(Arc::new(TokioClock::system()), Fence::without_lease("look"));
//! let before = health.observe(&cx).await?;
//! // ... change what you like ...
//! let later = health.observe(&cx).await?;
//! match compare_baselines(&before, &later) {
//!     Verdict::Pass { notes } => println!("as well as before, {} notes", notes.len()),
//!     Verdict::Pending { missing: worse, .. } | Verdict::Fail { findings: worse } => {
//!         worse.iter().for_each(|finding| println!("{finding}"));
//!     }
//!     _ => {}
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With a target version, [`VerifyMigration::run`] looks and compares at once,
//! also a single node or the workloads it hosted.
//!
//! # What it needs to be allowed
//! `list` on nodes, pods, deployments, replicasets, statefulsets and daemonsets;
//! `get` on `/readyz` and `/version`. With `list` on leases
//! (`coordination.k8s.io`) and csinodes (`storage.k8s.io`) it asks more.
//! [`CanaryTrial`] needs `create`, `get`, `list` and `delete` on pods of one
//! namespace, [`CanaryChange`] there also on services and endpointslices.
//!
//! # Costs
//! `observe` reads every node, pod and controller once, in pages of 500: 300
//! pages of pods at 150,000. A look at one node reads its pods alone, one at its
//! workloads the namespaces these are in. Nothing is kept between looks.
//!
//! [`VerifyMigration::run`]: migrate_core::VerifyMigration::run

mod baseline;
mod canary;
mod compare;
mod extent;
mod health;
mod signals;

pub use baseline::baseline;
pub use canary::{CanaryChange, CanaryTrial, GatesLeftOut};
pub use compare::{RETRY_AFTER, SETTLE, compare, compare_baselines};
pub use health::ClusterHealth;

#[doc(no_inline)]
pub use migrate_core::steps::{Baseline, Verdict, VerifyScope};
