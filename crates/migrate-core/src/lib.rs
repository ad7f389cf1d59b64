//! Kubernetes upgrade vocabulary: what every other crate of kube-migrate speaks.
//!
//! Pure data and pure decisions: no Kubernetes client, no async runtime, no
//! clock and no I/O of its own. Time is handed in as [`Moment`], waiting
//! belongs to the crates that do the work.
//!
//! * [`KubeVersion`] and [`skew`]: versions, their order, and the version-skew
//!   policy of every component as data and as checks with reasons.
//! * [`ClusterModel`]: what decisions here know about a cluster.
//! * [`BudgetLedger`]: who may be evicted now, over all nodes in flight, with
//!   real and assumed disruption budgets.
//! * [`disposition`] and [`only_host`]: what a drain does with each pod;
//!   [`Hosts`] asks the latter for all pods of a model.
//! * [`impossible`]: what can never work, found before the first cordon.
//! * [`preconditions`]: versions and nodes that are not fit to start from.
//! * [`Plan`], [`Action`], [`Event`], [`Finding`]: what is planned, done, seen.
//! * [`steps`]: the five steps as traits, and [`Migration`].
//! * [`cost`]: how long it takes, T = N·D/S included.
//!
//! # To read it in an hour
//! 1. [`model`] (`node.rs`, `pod.rs`, `workload.rs`): the nouns.
//! 2. `disposition.rs`: what becomes of a pod, on one page.
//! 3. [`budget`], its front page and `mod.rs`: the promise of no downtime.
//!    `account.rs` is the arithmetic of one budget.
//! 4. [`policy`] and `finding.rs`: what people decide, and what they are told.
//! 5. `plan.rs`, `action.rs`, `event.rs`: what is planned, done and shown.
//! 6. [`steps`] (`mod.rs`): the traits that all other crates implement or call.
//!
//! To be skipped until needed: `version/` and `skew/` (Kubernetes' own rules as
//! data), `selector/` (its label selectors), `model/placement.rs` and
//! `model/hosts.rs` (where pods may run), `impossible/` and `preconditions/`
//! (checks over the model, one file each), `spread/` (how replicas stand over nodes),
//! `cost/` (formulas), `context.rs`,
//! `time.rs` and `hash.rs` (small tools).
//!
//! ```
//! use migrate_core::{AssumedBudgetPolicy, BudgetLedger, Pod, PodId, Workload, WorkloadId};
//!
//! let web = WorkloadId::new("Deployment", "shop", "web");
//! let mut ledger = BudgetLedger::new(AssumedBudgetPolicy::default());
//! ledger.observe_workload(&Workload::new(web.clone(), 3));
//! for n in ["a", "b", "c"] {
//!     let mut pod = Pod::new(PodId::new("shop", n, n), "node-1");
//!     pod.workload = Some(web.clone().into());
//!     ledger.observe_pod(&pod);
//! }
//! assert!(ledger.hold("a").is_ok());
//! let blocked = ledger.hold("b").unwrap_err();
//! assert_eq!(blocked.to_string(), "assumed budget of shop/Deployment/web: needs 2 healthy pods and has 2");
//! ```

pub mod budget;
pub mod cost;
pub mod impossible;
pub mod model;
pub mod policy;
pub mod preconditions;
pub mod selector;
pub mod skew;
pub mod spread;
pub mod steps;
pub mod version;

mod action;
mod context;
mod disposition;
mod document;
mod event;
mod finding;
mod hash;
mod plan;
mod relocation;
mod time;

pub use action::{Action, ActionId, ActionStatus, Outcome, Phase, Point, Target};
pub use budget::{Blocked, BlockedReason, BudgetKey, BudgetKind, BudgetLedger, BudgetView};
pub use context::{Cancellation, Fence, StepContext};
pub use disposition::{Disposition, Leave, NeedsConsent, Wait, disposition};
pub use document::DocumentError;
pub use event::{Event, EventKind, EventSink, Step};
pub use finding::{Finding, ObjectName, Severity, listed};
pub use hash::{ContentHasher, content_hash, hex};
pub use model::{
    BudgetStatus, ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget,
    Hosts, Labels, Node, Placement, Pod, PodId, PodPhase, Resources, Role, Shared, Taint,
    TaintEffect, UnhealthyPodPolicy, Workload, WorkloadId, ZONE_LABEL, hosts_among, only_host,
};
pub use plan::{
    PLAN_SCHEMA, Plan, PlannedAction, PlannedMember, PlannedPool, PlannedRoom, PlannedSlot,
    PlannedTask,
};
pub use policy::{
    Addon, AssumedBudgetPolicy, BackupPolicy, CanaryChange, CanaryPod, Consent, Deadlines,
    JobPolicy, OnDeadline, Policy, PoolPolicy, RolloutPolicy,
};
pub use relocation::{Destination, Relocation, WaitForRoom};
pub use selector::{IntOrPercent, LabelSelector};
pub use steps::{
    BackUpData, MigratePods, Migration, PrepareEnvironment, ReachFrom, SeeChange, StepError,
    StepErrorKind, StepInput, StepReport, TryNode, UpgradeAddons, UpgradeComponents,
    VerifyMigration,
};
pub use time::{Clock, Moment};
pub use version::KubeVersion;
