//! Kubernetes in memory: API semantics, controllers, scheduler and kubelets under virtual time behind a kube::Client.
//!
//! A [`SimCluster`] answers a [`kube::Client`] as a cluster does: it evicts
//! only what a disruption budget allows, replaces what is gone, schedules,
//! drains, attaches volumes and changes the version of a kubelet. It guarantees
//! - **the same requests as in production**: the seam is HTTP, so request
//!   bodies, pages, watches and error answers are those of a real API server;
//! - **determinism to the byte**: on a paused, single-threaded runtime one seed
//!   and one sequence of requests give the same uids, resourceVersions,
//!   timestamps and order of events;
//! - **virtual time**: hours of cluster time pass as fast as their work is done.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use migrate_sim::{Budget, Pool, SimCluster, Workload};
//!
//! let cart = Workload::deployment("shop", "cart", 3).with_budget(Budget::min_available(2));
//! let cluster = SimCluster::builder().seed(7).nodes(Pool::new("general", 3)).workload(cart).start().await?;
//! cluster.wait_until_settled(std::time::Duration::from_secs(60)).await?;
//!
//! let client: kube::Client = cluster.client(); // any code that takes a client runs on it
//! assert_eq!(client.apiserver_version().await?.git_version, "v1.36.3");
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `snapshot` a cluster is saved as a snapshot of etcd, and one is made
//! of a snapshot, be it of a real cluster: an upgrade is rehearsed on a copy.
//!
//! How a driver changes versions is in [`annotations`], how a cluster is
//! described in a file in [`scenario`]. What the world leaves out: preemption,
//! autoscalers, CronJobs, ReplicationControllers, container restarts, and
//! anything that moves bytes.

pub mod annotations;
pub mod api;
pub mod rules;
pub mod scenario;
pub mod store;

mod builder;
mod cluster;
mod error;
mod object;
mod selector;
#[cfg(feature = "snapshot")]
mod snapshot;
mod world;

pub use self::builder::SimClusterBuilder;
pub use self::cluster::{SimCluster, is_settled};
pub use self::error::SimError;
pub use self::scenario::{Budget, Pool, Scenario, ScenarioError, Spread, VolumeReach, Workload};
#[cfg(feature = "snapshot")]
pub use self::snapshot::{LeftOut, Snapshot, Why};
pub use self::world::{NodeFault, Times};
