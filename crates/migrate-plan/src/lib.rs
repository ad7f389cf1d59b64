//! Kubernetes upgrade planner: a pure state machine that decides which node is
//! upgraded when, and the plan made from it.
//!
//! [`Rollout`] decides: control plane first, one member at a time; then each
//! pool, its canary alone, then as many nodes as may be away, each as soon as
//! every disruption budget it touches has room. It is told what happens and
//! says what to begin; it neither waits nor acts, and knows no clock.
//! [`Planner`] drives the same machine with predicted durations, which gives a
//! plan before the first node is cordoned: order, times, the limit that decides,
//! and what can never be done.
//!
//! # What it guarantees
//! - The rules listed at [`Rollout`], in a plan and for real, because one
//!   machine takes both decisions.
//! - **Replay law**: inputs recorded in any run, fed to a fresh rollout, give
//!   the same commands ([`replay`]). So a crash loses no decision, and a plan
//!   can be checked against what was done.
//! - Pure: equal input gives equal bytes, no I/O, no clock, no randomness.
//! - Near linear in the cluster, whatever state it is in: see the figures in
//!   `docs/planner.md`.
//!
//! ```
//! use migrate_core::{ClusterId, ClusterModel, ControlPlaneMember, KubeVersion, Moment, Node, Policy};
//! use migrate_plan::{Command, Input, PlanTable, Planner, Rollout};
//!
//! let old: KubeVersion = "v1.36.3".parse()?;
//! let mut model = ClusterModel::new(ClusterId::new("demo"), Moment::EPOCH);
//! model.control_plane.push(ControlPlaneMember::new("cp-1", old.clone()));
//! model.nodes.push(Node::new("worker-1", old));
//! let policy = Policy::default();
//!
//! let plan = Planner::new(&model, &policy, "v1.37.2".parse()?).plan()?;
//! println!("{}", PlanTable::new(&plan));
//!
//! let mut rollout = Rollout::new(&plan, &model, &policy)?;
//! rollout.handle(Moment::EPOCH, &Input::Started);
//! let Some(Command::Begin { action }) = rollout.poll(Moment::EPOCH) else { unreachable!() };
//! assert_eq!(action.to_string(), "upgrade control plane cp-1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod error;
mod forecast;
pub mod html;
mod intern;
mod lint;
mod machine;
mod placement;
mod planner;
mod rollout;
mod view;

pub use error::Error;
pub use forecast::{
    Beliefs, End, EndedAction, Forecast, Forecaster, HISTORY_SCHEMA, History, Lasted, LiveWhatIf,
    Outlook, Quantiles, Stuck,
};
pub use lint::{lint, lint_revision};
pub use machine::NODE_GONE;
pub use planner::{
    Change, Difference, Journey, MEASURED_SCHEMA, Measured, MeasuredAction, MeasuredPhase, Planner,
    REORDER_GAIN, Replan, TargetKind, Timeline, Trace, WhatIf, rehearse,
};
pub use rollout::{
    ActionResult, Command, Input, Progress, Recorded, Rollout, Standing, StopReason, TargetState,
    Waiting, WaitingOn, replay,
};
pub use view::{
    BudgetTable, BudgetUse, ChangeKind, DIFF_SCHEMA, DiffTable, Gate, PlanDiff, PlanFacts,
    PlanMermaid, PlanPage, PlanTable, PlanTimeline, PoolChange, TargetChange, TargetSeen, Wave,
    Waves, budget_uses, plan_from_json, plan_to_json,
};
