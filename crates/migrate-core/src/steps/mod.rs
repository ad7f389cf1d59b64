//! The five steps as object-safe traits, and [`Migration`], which composes them.
//!
//! Each trait says what an implementation guarantees; a tool replaces any of
//! them by its own. The one-method traits are implemented for closures:
//! [`prepare_fn`], [`back_up_fn`], [`migrate_fn`], [`try_node_fn`].
//!
//! # Errors of a step
//! The [`StepErrorKind`] says what the executor is to do, the message names the
//! object and the cure:
//!
//! | what failed | kind | trying again |
//! |---|---|---|
//! | out of reach, busy, a server error, a refusal that passes | `Unavailable` | helps |
//! | no answer in time; it may have been done | `Deadline` | helps |
//! | [`StepContext::cancel`] was set | `Cancelled` | the next runner does it |
//! | a newer epoch, another run, another cluster | `Conflict` | no |
//! | not allowed, no login | `Forbidden` | no |
//! | the input, the policy or an option is wrong | `Invalid` | no |
//! | anything else | `Permanent` | no |
//!
//! Once the run is cancelled nothing that a step gives is looked at any more:
//! the runner leaves off, and the run is as the journal has it. `Cancelled`
//! without that is a failure like `Permanent`. What is done about the others is
//! said at each trait.

mod addon;
mod backup;
mod by_node;
mod change;
mod closure;
mod drain;
mod error;
mod input;
mod trial;
mod verify;

pub use addon::{AddonFn, UpgradeAddons, addon_fn};
pub use backup::{
    BACKUP_AGAIN_FAILED, BACKUP_FOREIGN, BACKUP_OLD, BACKUP_OTHER_VERSION, BACKUP_UNPROVEN,
    BackupArtifact, BackupProof, BackupReport,
};
pub use change::{ReachFrom, SeeChange};
pub use closure::{back_up_fn, migrate_fn, prepare_fn};
pub use drain::{DrainCommand, DrainEvent, DrainFailure, DrainFailureKind, DrainOutcome};
pub use error::{StepError, StepErrorKind};
pub use input::{StepInput, StepReport};
pub use trial::{TryNode, try_node_fn};
pub use verify::{
    Baseline, BaselineLease, BaselineNode, BaselineRollout, BaselineWorkload, Verdict, VerifyScope,
};

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::Stream;

use crate::{Action, ActionStatus, StepContext};

/// Step 1: every node and the control plane meet the new version's
/// requirements.
///
/// # Guarantees
/// Changes nothing that runs; what it puts on a node beforehand, as images, it
/// puts there only when it finds no blocker that the policy does not waive.
/// Findings, also the worst, are an `Ok` report; an error means that the check
/// itself could not be made.
///
/// # Errors
/// `Unavailable` and `Deadline`: the executor makes all checks again, five times
/// in a row. After that, and at once for every other kind, the run is refused.
#[async_trait]
pub trait PrepareEnvironment: Send + Sync {
    /// Checks the cluster.
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError>;
}

/// Step 2: back up all data.
///
/// # Guarantees
/// `Ok` means that the artifacts named in the report exist, are complete and
/// durable, with the level of proof stated. On error or cancellation nothing
/// half written is left under a final name.
///
/// # Errors
/// Whatever its kind, an error refuses the run, with nothing changed: a provider
/// tries again by itself what is worth it. Of the backup after the control plane,
/// which is asked for in the same way and must not take the place of the first,
/// an error stops the run, `Unavailable` and `Deadline` after three attempts. That there is no backup, or none
/// that is proven, is no error but a finding.
#[async_trait]
pub trait BackUpData: Send + Sync {
    /// Makes a backup.
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError>;
}

/// Step 3: upgrade the components of one control-plane member or node.
///
/// # Guarantees
/// `begin` is idempotent by action id and returns soon: the work goes on
/// without the caller. `probe` looks at the target itself, not at the memory
/// of this process, so that it answers after a crash too. An older epoch than
/// the one stored on the target is refused. What `probe` emits as
/// [`EventKind::Found`](crate::EventKind::Found) the run writes down and reports: of
/// one code and object the newest, once. It may be emitted each time.
///
/// # Errors
/// They are about the call, not about the upgrade: one that ended badly is
/// [`ActionStatus::Failed`]. `Unavailable` and `Deadline` leave open whether
/// something began: the executor probes after a while, until
/// `deadlines.upgrade`. Every other kind ends the action as failed for good, so
/// give it only if nothing is under way; an older epoch is `Conflict`. The
/// executor believes that only after it has seen that it still holds the run.
#[async_trait]
pub trait UpgradeComponents: Send + Sync {
    /// Starts the action, or does nothing if it is going on or done.
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError>;
    /// Where the action stands.
    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError>;
}

/// Nodes to drain and to give back, in.
pub type DrainCommands = Pin<Box<dyn Stream<Item = DrainCommand> + Send>>;
/// What became of them, out.
pub type DrainEvents = Pin<Box<dyn Stream<Item = DrainEvent> + Send>>;

/// Step 4: move the pods away from nodes.
///
/// One call serves a whole run, so that budgets are joint over all nodes in
/// flight by construction.
///
/// # Guarantees
/// Pods leave only through the Eviction API. Work is done only while the
/// returned stream is polled; dropping it leaves nothing running. Draining a
/// node once more continues where it stands. Cordons of others are kept.
///
/// A node that comes in was admitted when its pool had room; by the time of its
/// cordon another may have died. So its pool is looked at once more right
/// before ([`DrainOutcome::NoRoom`]).
///
/// # Errors
/// Only that no drain can begin at all; what happens to one node is its
/// [`DrainOutcome`], with `retryable` in it. `Unavailable` and `Deadline`: the
/// executor calls again after a while, as it does when the stream ends early,
/// and hands over the nodes that are not done. Every other kind ends the drains
/// that were asked for as failed for good.
#[async_trait]
pub trait MigratePods: Send + Sync {
    /// Drains the nodes that come in over `commands`.
    async fn migrate(
        &self,
        cx: &StepContext,
        input: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError>;
}

/// Step 5: verify the migration against a baseline.
///
/// # Guarantees
/// Changes nothing. `compare` is pure, so a verdict can be made again from a
/// recorded observation.
///
/// # Errors
/// Only that the cluster could not be observed; what is worse is a [`Verdict`].
/// `Unavailable` and `Deadline`: the executor observes again after a while, of
/// the baseline five times in a row, else until `deadlines.verify`. After that,
/// and at once for every other kind, the run is refused (the baseline), or the
/// verification has failed. A refusal (403) is `Unavailable` while an API server
/// that has just started may give it.
#[async_trait]
pub trait VerifyMigration: Send + Sync {
    /// What the cluster is like now.
    async fn observe(&self, cx: &StepContext) -> Result<Baseline, StepError>;

    /// What the cluster is like now, as far as `compare` with `before` within
    /// one of `scopes` looks: what none of them asks about may be left out, so
    /// it is compared within these alone. By default all of it.
    async fn observe_for(
        &self,
        cx: &StepContext,
        _input: &StepInput,
        _before: &Baseline,
        _scopes: &[VerifyScope],
    ) -> Result<Baseline, StepError> {
        self.observe(cx).await
    }

    /// Compares `now` with `before` within `scope`.
    fn compare(
        &self,
        input: &StepInput,
        scope: &VerifyScope,
        before: &Baseline,
        now: &Baseline,
    ) -> Verdict;

    /// Observes and compares once.
    async fn run(
        &self,
        cx: &StepContext,
        input: &StepInput,
        scope: &VerifyScope,
        before: &Baseline,
    ) -> Result<Verdict, StepError> {
        let scopes = std::slice::from_ref(scope);
        let now = self.observe_for(cx, input, before, scopes).await?;
        Ok(self.compare(input, scope, before, &now))
    }
}

/// The five steps of one migration.
#[derive(Clone)]
#[non_exhaustive]
pub struct Migration {
    /// Step 1; several may look at different things: push further ones.
    pub prepare: Vec<Arc<dyn PrepareEnvironment>>,
    /// Step 2.
    pub back_up: Arc<dyn BackUpData>,
    /// Step 3.
    pub upgrade: Arc<dyn UpgradeComponents>,
    /// Step 4.
    pub migrate: Arc<dyn MigratePods>,
    /// Step 5.
    pub verify: Arc<dyn VerifyMigration>,
    /// Part of step 3: what upgrades the addons that the policy names. Without
    /// it no run of a plan with addons is opened.
    pub addons: Option<Arc<dyn UpgradeAddons>>,
    /// Part of step 5: tries each node out before its cordon is lifted.
    pub trial: Option<Arc<dyn TryNode>>,
    /// Part of step 5: sees that the agents of every node are back after a part
    /// of the control plane was away.
    pub change: Option<Arc<dyn SeeChange>>,
}

impl Migration {
    /// Composes a migration of these steps.
    pub fn new(
        prepare: Arc<dyn PrepareEnvironment>,
        back_up: Arc<dyn BackUpData>,
        upgrade: Arc<dyn UpgradeComponents>,
        migrate: Arc<dyn MigratePods>,
        verify: Arc<dyn VerifyMigration>,
    ) -> Self {
        Self {
            prepare: vec![prepare],
            back_up,
            upgrade,
            migrate,
            verify,
            addons: None,
            trial: None,
            change: None,
        }
    }

    /// Upgrades the addons of the policy with `addons`.
    #[must_use]
    pub fn with_addons(mut self, addons: Arc<dyn UpgradeAddons>) -> Self {
        self.addons = Some(addons);
        self
    }

    /// Lifts no node's cordon before `trial` has found that it works.
    #[must_use]
    pub fn with_trial(mut self, trial: Arc<dyn TryNode>) -> Self {
        self.trial = Some(trial);
        self
    }

    /// Goes on after a part of the control plane only once `change` was seen by
    /// the agents of every node.
    #[must_use]
    pub fn with_change(mut self, change: Arc<dyn SeeChange>) -> Self {
        self.change = Some(change);
        self
    }
}

impl std::fmt::Debug for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migration")
            .field("prepare", &self.prepare.len())
            .finish_non_exhaustive()
    }
}
