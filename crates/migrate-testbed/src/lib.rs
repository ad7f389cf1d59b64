//! A real Kubernetes control plane of your own, as a test dependency: etcd,
//! kube-apiserver, kube-controller-manager, kube-scheduler and kwok as child
//! processes, and simulated nodes on which pods become ready.
//!
//! ```no_run
//! use migrate_testbed::{ControlPlane, skip_or_fail};
//! use serde_json::json;
//!
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! let started = ControlPlane::builder().minor(36).audit(true).start().await;
//! let Some(plane) = skip_or_fail(started) else { return Ok(()) };
//! plane.apply(vec![
//!     json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}),
//!     json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
//!            "spec": {"containers": [{"name": "web", "image": "web"}]}}),
//! ]).await?;
//! plane.swap_to(37).await?; // same etcd, same ports, same certificates
//! let version = plane.client().apiserver_version().await?;
//! assert_eq!(version.minor, "37");
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//! - **Nothing is left behind.** Every child ends when the test process ends,
//!   however it ends: return, panic, `SIGKILL`. So does the folder in the
//!   temporary directory, unless `KUBE_MIGRATE_TESTBED_KEEP` is set.
//! - **Several at once.** Each control plane has its own folder and its own
//!   ports, which no other testbed on this machine is given while it lives.
//! - **Only this machine.** All servers listen on 127.0.0.1.
//! - **Failures explain themselves.** A component that ends early is an error
//!   with the end of its log; a test that panics prints the ends of all logs.
//! - **What is real.** API server, storage, admission, eviction, disruption
//!   budgets, controllers and scheduler are the released ones. Nodes are not:
//!   kwok plays their kubelets, no container runs, and upgrading a node
//!   changes what its status says.
//!
//! # Where the programs come from
//! [`Binaries`] looks in `KUBEBUILDER_ASSETS`, then in the cache of an earlier
//! build, then builds them with Go from Go modules (about ten minutes for each
//! minor version on two cores, once). Without Go the error says what to
//! install; [`skip_or_fail`] turns it into a skipped test on a workstation and
//! into a failure in CI.
//!
//! # Assumptions
//! Linux or another Unix with `/bin/sh`; the hook program also needs `bash`.
//! Time is the real clock: do not use a paused tokio runtime.

mod audit;
mod binaries;
mod control_plane;
mod error;
mod hooks;
mod kubeadm;
mod kwok;
mod objects;
mod process;
mod releases;
mod skip;
mod text;
mod traffic;
mod wait;

pub use audit::{AuditEvent, AuditLog, AuditObject, AuditStatus, AuditUser};
pub use binaries::{Binaries, Progress};
pub use control_plane::{ControlPlane, ControlPlaneBuilder, Identity, Swap};
pub use error::Error;
pub use kubeadm::{Balancer, HeldLock, KubeadmCluster, KubeadmClusterBuilder, Node};
pub use objects::Applied;
pub use releases::Release;
pub use skip::skip_or_fail;
pub use traffic::{
    REQUEST_TIMEOUT, Tally, Target, Traffic, TrafficReport, traffic_main, traffic_program,
};
pub use wait::eventually;
