//! Kubernetes upgrade executor: observe, decide, act and record, resumable
//! after a crash at any instant.
//!
//! An [`Executor`] runs a plan of `migrate_plan` through the five steps of a
//! [`Migration`](migrate_core::Migration): prepare, back up, then drain,
//! upgrade and verify target by target as the rollout decides, and a
//! verification of the whole at the end.
//!
//! * **Durable intents.** Each effect is announced in a [`Journal`] before it
//!   begins. A new process that opens the journal looks at what had begun and
//!   goes on; nothing is done twice.
//! * **Nothing before permission.** Preflight must pass and the backup must be
//!   proven, or each blocker be waived, before anything changes.
//! * **One run per cluster.** The cluster names the run and its journal;
//!   another or a missing journal is refused, unless the run is adopted.
//! * **A kill switch.** One annotation on the anchor keeps every further action
//!   from beginning.
//! * **A report** on every end: which cordons are ours, where each node stands,
//!   what can be undone and how.
//!
//! The journal's inputs obey the replay law: fed to `migrate_plan::replay` they
//! give exactly the actions this crate began.
//!
//! ```no_run
//! use migrate_core::{Cancellation, ClusterModel, Migration, Plan, Policy, StepContext};
//! use migrate_executor::{Error, Executor, FileJournal, Setup};
//!
//! # async fn example(
//! #     client: kube::Client, migration: Migration, context: StepContext,
//! #     plan: Plan, model: ClusterModel, policy: Policy,
//! # ) -> Result<(), Error> {
//! let journal = FileJournal::open("/var/lib/kube-migrate/prod.journal")?;
//! let setup = Setup::new(client, migration, Box::new(journal), context)
//!     .with_plan(plan, model, policy);
//! let mut executor = Executor::open(setup).await?;
//! let report = executor.run(&Cancellation::new()).await?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```
//!
//! Its futures are polled inside a tokio runtime with its time enabled
//! (`enable_time`); elsewhere they panic.
//!
//! A reconcile loop calls [`Executor::step`] instead, which returns after about
//! a second.

mod access;
mod deadlines;
mod error;
mod executor;
mod journal;
mod report;
mod setup;
mod standpoint;
mod state;

pub use access::{AnchorState, ClusterAccess, KubeAccess, MarkedNode, adoptable_model};
pub use deadlines::longest_silence;
pub use error::Error;
pub use executor::{Executor, StepOutcome, WaitReason};
pub use journal::{
    Entry, FileJournal, JOURNAL_SCHEMA, Journal, MemoryJournal, Origin, Record, RunEnd, RunOpened,
    RunStep, StepResult,
};
pub use report::{
    Durations, Outage, PhaseTimes, Position, REPORT_SCHEMA, RecordedRun, Report, ReportPage,
    RunOutcome, Stop, StopCause, TargetStanding, WaitSummary,
};
pub use setup::{Pace, Planned, Setup};
pub use standpoint::Standpoint;
