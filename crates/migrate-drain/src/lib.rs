//! Kubernetes node drain as a library: many nodes at once under one
//! disruption-budget ledger, every answer of the API typed.
//!
//! # Guarantees
//! * Pods leave only through the Eviction API, each asked by the uid that a
//!   watch showed, only after the node's cordon was confirmed, and only if every
//!   budget that counts it can spare it: PodDisruptionBudgets and, for
//!   workloads without one, assumed budgets; jointly over all nodes in flight.
//! * A node is called empty only when its evictable pods are gone, the
//!   workloads that lost a pod are as ready as before, the volumes of the moved
//!   pods are detached, and one more list past all caches agrees. A node that is
//!   deleted meanwhile, or made anew under its name, is not called empty.
//! * Nothing is cordoned or evicted before consent is given to what hurts: pods
//!   without a controller, and pods that only their node can host.
//! * Every drain ends, by a deadline at the latest, with who blocks, counts and
//!   cure as data, and nothing of it is left running: a change of a node that is
//!   under way then is waited for or settled. Work is done only while it is
//!   polled.
//! * The cordon that a node had before is what it gets back.
//! * [`Drainer::rehearse`] asks what each pod's eviction would be answered now
//!   and changes nothing.
//!
//! [`Drainer`] does the work through a [`kube::Client`] and implements
//! [`MigratePods`](migrate_core::MigratePods); [`machine::Drain`] takes every
//! decision, free of I/O and clocks.
//!
//! ```no_run
//! use migrate_drain::Drainer;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let drainer = Drainer::new(kube::Client::try_default().await?);
//! let report = drainer.drain(["worker-1", "worker-2"]).await?;
//! for finding in &report.findings {
//!     eprintln!("{finding}");
//! }
//! report.ensure_empty()?; // what keeps which pod, as data
//! // ... patch the machines ...
//! drainer.release(["worker-1", "worker-2"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A client made by [`migrate_kube::connect`] is recommended. The default
//! client of kube repeats refused requests by itself, which makes a drain
//! slower, never wrong: each attempt has a deadline, after which its outcome is
//! unknown and settled by the watch.
//!
//! # Caveats
//! Budgets are joint over the nodes of one call of [`Drainer::drain`] or
//! [`MigratePods::migrate`](migrate_core::MigratePods::migrate). Two calls at once,
//! in one program or two, have a ledger each: PodDisruptionBudgets hold all the
//! same, for the API server counts those, but each call spends an assumed budget
//! once.
//!
//! Futures and streams are polled inside a tokio runtime with its time enabled
//! (`enable_time`); elsewhere they panic. Nothing is spawned on it.
//!
//! # What it needs to be allowed
//! `list` and `watch` on nodes, pods, poddisruptionbudgets, deployments,
//! replicasets, statefulsets, persistentvolumes, persistentvolumeclaims and
//! volumeattachments; `get` and `patch` on nodes; `create` on pods/eviction. In a
//! run, whose fence has an epoch above 0, also `get` on the Lease
//! `kube-system/kube-migrate`.

pub mod machine;

mod driver;
mod error;

pub use driver::{DrainReport, Drainer, Rehearsal, Rehearsed, Rehearser};
pub use error::Error;
