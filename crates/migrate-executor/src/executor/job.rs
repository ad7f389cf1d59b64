//! Work under way: futures that the executor polls, and what they end with.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use migrate_core::steps::{BackupReport, Baseline, DrainEvents, VerifyScope};
use migrate_core::{
    Action, ActionId, ActionStatus, ClusterModel, Event, EventKind, Finding, KubeVersion,
    Migration, ObjectName, Outcome, Phase, StepContext, StepError, StepErrorKind, StepInput,
    Target, UpgradeAddons, UpgradeComponents,
};
use migrate_kube::{Claim, RunMark};
use migrate_plan::{ActionResult, Input};

use super::verify::{CheckKey, Trial};
use crate::access::AnchorState;
use crate::{ClusterAccess, MarkedNode};

/// Work under way. Owned by the executor, so that leaving a `step` in the
/// middle leaves it where it is.
pub(super) type Job = BoxFuture<'static, Ended>;

/// What a piece of work ended with.
pub(super) enum Ended {
    Prepared(Result<Vec<Finding>, StepError>),
    Baseline(Result<Baseline, StepError>),
    BackedUp(Result<BackupReport, StepError>),
    BackedUpAgain(ActionId, Result<BackupReport, StepError>),
    /// The epoch taken.
    Claimed(Result<u64, StepError>),
    /// The anchor after a renewal, ours or not.
    Renewed(Result<AnchorState, StepError>),
    /// Nodes whose cordons are this run's now.
    TakenOver(Result<Vec<String>, StepError>),
    /// Whether the scheduler prefers upgraded nodes now.
    Preferred(Result<(), StepError>),
    /// For the gate.
    Anchor(Result<AnchorState, StepError>),
    Begun(ActionId, Result<(), StepError>),
    /// And what the driver has found meanwhile.
    Probed(ActionId, Result<ActionStatus, StepError>, Vec<Finding>),
    /// What is there under the name of a node that is to be upgraded, and the
    /// anchor after that.
    Looked(ActionId, Result<(Input, AnchorState), StepError>),
    /// What is there under it, after something had failed there.
    LookedAfter(ActionId, ActionResult, Result<Input, StepError>),
    /// The number of the observation that was asked for.
    Observed(u64, Result<Baseline, StepError>),
    /// A trial for a verification, and what it misses.
    Tried(CheckKey, Result<Vec<Finding>, StepError>),
    Drainer(Result<DrainEvents, StepError>),
    /// The cluster, for how replicas stand.
    Spread(Result<ClusterModel, StepError>),
    /// The anchor cleared, where the run is over, and the marks that are left.
    Closed(Result<Vec<MarkedNode>, StepError>),
}

/// Makes jobs: everything they need, cheap to clone.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) cx: StepContext,
    pub(super) input: StepInput,
    pub(super) migration: Migration,
    pub(super) access: Arc<dyn ClusterAccess>,
    /// The longest wait for one answer.
    pub(super) answer: Duration,
}

impl Workshop {
    pub(super) fn prepare(&self) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let mut findings = Vec::new();
            for check in &shop.migration.prepare {
                match check.run(&shop.cx, &shop.input).await {
                    Ok(report) => findings.extend(report.findings),
                    Err(error) => return Ended::Prepared(Err(error)),
                }
            }
            Ended::Prepared(Ok(findings))
        })
    }

    pub(super) fn baseline(&self) -> Job {
        let shop = self.clone();
        Box::pin(async move { Ended::Baseline(shop.migration.verify.observe(&shop.cx).await) })
    }

    pub(super) fn back_up(&self) -> Job {
        let shop = self.clone();
        Box::pin(
            async move { Ended::BackedUp(shop.migration.back_up.run(&shop.cx, &shop.input).await) },
        )
    }

    pub(super) fn back_up_again(&self, id: ActionId) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let result = shop.migration.back_up.run(&shop.cx, &shop.changed()).await;
            Ended::BackedUpAgain(id, result)
        })
    }

    /// What a step is told about a target that goes to `target`, which may be a version
    /// of its pool's own.
    pub(super) fn input_of(&self, target: Option<&KubeVersion>) -> Cow<'_, StepInput> {
        match target {
            Some(own) if *own != self.input.target => {
                Cow::Owned(self.input.clone().with_target(own.clone()))
            }
            _ => Cow::Borrowed(&self.input),
        }
    }

    /// What steps are told once every member of the control plane is at the target.
    pub(super) fn changed(&self) -> StepInput {
        let mut input = self.input.clone();
        let mut model = ClusterModel::clone(&input.model);
        for member in &mut model.control_plane {
            member.version = input.target.clone();
        }
        input.model = Arc::new(model);
        input
    }

    pub(super) fn claim(&self, claim: Claim) -> Job {
        let shop = self.clone();
        let now = self.cx.clock.now();
        Box::pin(async move { Ended::Claimed(shop.asked(shop.access.claim(&claim, now)).await) })
    }

    pub(super) fn renew(&self, mark: RunMark) -> Job {
        let shop = self.clone();
        let (epoch, now) = (self.cx.fence.epoch, self.cx.clock.now());
        Box::pin(async move {
            let renewed = shop.access.renew(&mark, epoch, now);
            Ended::Renewed(shop.asked(renewed).await)
        })
    }

    pub(super) fn take_over(&self) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let taken = shop.access.take_over(&shop.cx.fence);
            Ended::TakenOver(shop.asked(taken).await)
        })
    }

    pub(super) fn prefer_upgraded(&self, nodes: BTreeMap<String, KubeVersion>) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let preferred = shop.access.prefer_upgraded(&shop.cx.fence, &nodes);
            Ended::Preferred(shop.asked(preferred).await)
        })
    }

    pub(super) fn anchor(&self) -> Job {
        let shop = self.clone();
        Box::pin(async move { Ended::Anchor(shop.asked(shop.access.anchor()).await) })
    }

    pub(super) fn begin(&self, action: Action, within: Duration) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let begun = async { shop.driver(&action)?.begin(&shop.cx, &action).await };
            let result = limited(within, action_name(&action), begun).await;
            Ended::Begun(action.id, result)
        })
    }

    /// Looks at `node`, which `id` is about to upgrade.
    pub(super) fn look(&self, id: ActionId, node: String) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            // In this order: who was superseded since is not to begin on it.
            let look = async {
                let seen = shop.access.look_at_node(&node).await?;
                let anchor = shop.access.anchor().await;
                anchor.map(|anchor| (seen, anchor))
            };
            Ended::Looked(id, shop.asked(look).await)
        })
    }

    /// Looks at `node`, where `id` has failed.
    pub(super) fn look_after(&self, id: ActionId, node: String, result: ActionResult) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let look = shop.access.look_at_node(&node);
            Ended::LookedAfter(id, result, shop.asked(look).await)
        })
    }

    pub(super) fn probe(&self, action: Action, within: Duration) -> Job {
        let mut shop = self.clone();
        Box::pin(async move {
            let notes = Arc::default();
            shop.cx = keeping_findings(&shop.cx, &notes);
            let probed = async {
                if action.phase == Phase::Verify {
                    let verified = shop.addons(&action)?.verify(&shop.cx, &action).await;
                    return verified.map(|()| ActionStatus::Succeeded(Outcome::SameNode));
                }
                shop.driver(&action)?.probe(&shop.cx, &action).await
            };
            let result = limited(within, action_name(&action), probed).await;
            let notes = std::mem::take(&mut *locked(&notes));
            Ended::Probed(action.id, result, notes)
        })
    }

    /// Observes what is to be compared with `before` within `scopes`.
    pub(super) fn observe(
        &self,
        round: u64,
        before: Arc<Baseline>,
        scopes: Vec<VerifyScope>,
        within: Duration,
    ) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let verify = &shop.migration.verify;
            let observed = verify.observe_for(&shop.cx, &shop.input, &before, &scopes);
            Ended::Observed(round, limited(within, api(), observed).await)
        })
    }

    /// Makes `trial`; without anything to do so it passes.
    pub(super) fn try_out(&self, key: CheckKey, trial: Trial, within: Duration) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let tried = async {
                let Migration {
                    change, trial: pod, ..
                } = &shop.migration;
                match (&trial, pod, change) {
                    (Trial::Node(node), Some(pod), _) => {
                        let tried = pod.try_node(&shop.cx, node).await;
                        tried.map(|()| Vec::new())
                    }
                    (Trial::Change, _, Some(change)) => change.see_change(&shop.cx).await,
                    _ => Ok(Vec::new()),
                }
            };
            let result = limited(within, trial.object(), tried).await;
            Ended::Tried(key, result)
        })
    }

    pub(super) fn look_at_spread(&self) -> Job {
        let shop = self.clone();
        let now = self.cx.clock.now();
        Box::pin(async move { Ended::Spread(shop.asked(shop.access.observe(now)).await) })
    }

    pub(super) fn drainer(&self, commands: migrate_core::steps::DrainCommands) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let migrate = shop
                .migration
                .migrate
                .migrate(&shop.cx, &shop.input, commands);
            Ended::Drainer(migrate.await)
        })
    }

    /// Clears the anchor of a run that is over, then looks for marks.
    pub(super) fn close(&self, is_over: bool) -> Job {
        let shop = self.clone();
        Box::pin(async move {
            let close = async {
                if is_over {
                    shop.access.clear(&shop.cx.fence).await?;
                }
                shop.access.marked_nodes().await
            };
            Ended::Closed(shop.asked(close).await)
        })
    }

    fn driver(&self, action: &Action) -> Result<&dyn UpgradeComponents, StepError> {
        match &action.target {
            Target::Addon { .. } => Ok(self.addons(action)?),
            _ => Ok(self.migration.upgrade.as_ref()),
        }
    }

    /// Opening a run with addons has made sure that there is one.
    fn addons(&self, action: &Action) -> Result<&dyn UpgradeAddons, StepError> {
        self.migration.addons.as_deref().ok_or_else(|| {
            let message = "nothing upgrades addons here; give the steps a driver for them";
            StepError::new(StepErrorKind::Invalid, action_name(action), message)
        })
    }

    /// Waits for the cluster's answer, but not for ever.
    async fn asked<T>(
        &self,
        question: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        limited(self.answer, api(), question).await
    }
}

/// `cx`, but findings are kept in `notes`, for the journal and the report: the run
/// announces them once they are its own.
fn keeping_findings(cx: &StepContext, notes: &Arc<Mutex<Vec<Finding>>>) -> StepContext {
    let (events, notes) = (Arc::clone(&cx.events), Arc::clone(notes));
    cx.clone()
        .with_events(Arc::new(move |event: &Event| match &event.kind {
            EventKind::Found { finding } => locked(&notes).push(finding.clone()),
            _ => events.emit(event),
        }))
}

fn locked(notes: &Mutex<Vec<Finding>>) -> MutexGuard<'_, Vec<Finding>> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn api() -> ObjectName {
    ObjectName::cluster("Cluster", "API")
}

fn action_name(action: &Action) -> ObjectName {
    ObjectName::cluster("Action", action.id.as_str())
}

/// Gives up waiting for `work` after `within`: what hangs does not hang the
/// run. What it did is found out by the next look.
async fn limited<T>(
    within: Duration,
    object: ObjectName,
    work: impl Future<Output = Result<T, StepError>>,
) -> Result<T, StepError> {
    match tokio::time::timeout(within, work).await {
        Ok(result) => result,
        Err(_) => Err(StepError::new(
            StepErrorKind::Deadline,
            object,
            format!(
                "no answer within {} s; see what keeps it, then go on with the run",
                within.as_secs()
            ),
        )),
    }
}
