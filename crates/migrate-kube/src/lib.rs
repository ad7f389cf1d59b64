//! Kubernetes API adapter for upgrades: what kube-migrate knows of the API, in
//! one place.
//!
//! * [`connect`]: a client that sends each request once; [`read_only`] and
//!   [`DryRunGuard`]: one that cannot change anything.
//! * [`evict`]: one eviction request with the right body, and every answer as a
//!   value.
//! * [`cordon`](cordon()) and [`restore_cordon`]: cordons that remember whose
//!   they are and what was before, and never lift another's.
//! * [`observe`](observe()): the cluster as a [`ClusterModel`](migrate_core::ClusterModel);
//!   [`list`], [`get`] and [`watch`](watch()): the parts it is made of.
//! * [`image_pulls`] and [`round_trip`]: what the links of the cluster have shown.
//! * [`Retries`]: reads that are tried again, each by itself.
//! * [`resources`]: slim types with only the fields that are read.
//! * [`anchor`]: which run is under way, who holds it, and the switch that pauses
//!   it.
//! * [`Error`]: by what a caller can do, with the missing RBAC rule spelled out.
//! * [`TokioClock`]: the clock of a run.
//!
//! Requests have deadlines and watches pauses: futures and streams are polled
//! inside a tokio runtime with its time enabled (`enable_time`), elsewhere they
//! panic. Nothing is spawned on it but what kube's own client needs.
//!
//! No TLS is chosen here: enable a TLS feature of kube in the program. No
//! version feature of k8s-openapi matters.
//!
//! ```no_run
//! use migrate_core::{Clock, PodId};
//! use migrate_kube::{EvictOptions, EvictionAnswer, TokioClock, connect, evict, observe};
//!
//! # async fn example() -> Result<(), migrate_kube::Error> {
//! let client = connect(kube::Config::infer().await?)?;
//! let model = observe(&client, TokioClock::system().now()).await?;
//! println!("{} nodes run {} pods", model.nodes.len(), model.pods.len());
//!
//! let pod = PodId::new("shop", "web-1", "6a5c6d0e-5d9b-4a52-8a4e-3a2c7f0f5a11");
//! match evict(&client, &pod, &EvictOptions::default().with_dry_run()).await {
//!     EvictionAnswer::Accepted => println!("{pod} may go"),
//!     answer => println!("{pod} stays: {answer}"),
//! }
//! # Ok(())
//! # }
//! ```

pub mod anchor;
pub mod resources;

mod address;
mod call;
mod client;
mod clock;
mod cordon;
mod error;
mod evict;
mod guard;
mod keys;
mod links;
mod observe;
mod patch;
mod retry;
#[cfg(test)]
mod testing;
mod watch;

pub use address::address_holder;
pub use anchor::{Anchor, Claim, Holder, RunMark};
pub use call::ApiCall;
pub use client::{
    READ_DEADLINE, Selection, cluster_id, connect, connect_anew, get, list, list_of, list_retried,
    read, server_version, within_deadline,
};
pub use clock::TokioClock;
pub use cordon::{
    CORDONED_BY, CordonMark, Cordoned, DRAINED_BY_HAND, Restored, TO_BE_UPGRADED,
    UNSCHEDULABLE_BEFORE, cordon, cordon_if, prefer_upgraded, restore_cordon, take_over_nodes,
    unstamp_nodes,
};
pub use error::Error;
pub use evict::{EvictOptions, EvictionAnswer, evict};
pub use guard::{DryRunGuard, DryRunGuardLayer, Refused, read_only};
pub use keys::{ClusterKeys, cluster_keys};
pub use links::{ImagePull, image_pulls, pulled_per_node, round_trip};
pub use observe::{Lists, control_plane, observe, observe_retried};
pub use retry::Retries;
pub use watch::{WatchEvent, Watchable, watch};
