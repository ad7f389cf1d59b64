//! Kubernetes cluster upgrades and migrations without downtime: **prepare,
//! back up, upgrade, move the pods, verify**, planned before it starts,
//! verified while it runs, resumable after any crash.
//!
//! This crate is the facade: it re-exports the crates of the workspace by
//! feature and reads `policy.toml`. Each of them is worth adding alone; see
//! `docs/architecture.md` for which one a need belongs to.
//!
//! Plan an upgrade of a cluster that is only a model yet:
//!
//! ```
//! use kube_migrate::core::{ClusterId, ClusterModel, ControlPlaneMember, Moment, Node};
//! use kube_migrate::plan::Planner;
//!
//! let mut model = ClusterModel::new(ClusterId::new("demo"), Moment::EPOCH);
//! model.control_plane = vec![ControlPlaneMember::new("cp-1", "v1.36.3".parse()?)];
//! model.nodes = vec![Node::new("worker-1", "v1.36.3".parse()?)];
//! let policy = kube_migrate::policy_from_toml("[pools]\nmax-unavailable = '10%'")?;
//! let plan = Planner::new(&model, &policy, "v1.37.2".parse()?).plan()?;
//! // Two phases of cp-1, the second backup, three phases of worker-1.
//! assert_eq!(plan.schedule.len(), 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! The default is everything that needs nothing but a `kube::Client`. `etcd`
//! adds etcd snapshots (its build needs a protobuf compiler), `sim` the
//! embedded cluster. TLS and the Kubernetes version of `k8s-openapi` are
//! chosen by the binary.

mod policy;

pub use policy::{PolicyError, policy_from_toml};

#[doc(inline)]
pub use migrate_core as core;
#[cfg(feature = "drain")]
#[doc(inline)]
pub use migrate_drain as drain;
#[cfg(feature = "etcd")]
#[doc(inline)]
pub use migrate_etcd as etcd;
#[cfg(feature = "executor")]
#[doc(inline)]
pub use migrate_executor as executor;
#[cfg(feature = "kube")]
#[doc(inline)]
pub use migrate_kube as kube;
#[cfg(feature = "plan")]
#[doc(inline)]
pub use migrate_plan as plan;
#[cfg(feature = "preflight")]
#[doc(inline)]
pub use migrate_preflight as preflight;
#[cfg(feature = "sim")]
#[doc(inline)]
pub use migrate_sim as sim;
#[cfg(feature = "upgrade")]
#[doc(inline)]
pub use migrate_upgrade as upgrade;
#[cfg(feature = "verify")]
#[doc(inline)]
pub use migrate_verify as verify;
