//! The rollout's turn: feed it, and carry out what it begins.

use migrate_core::steps::{Baseline, DrainEvent, DrainEvents, DrainFailureKind, DrainOutcome};
use migrate_core::{
    Action, ActionId, EventKind, Finding, Moment, Outcome, Phase, StepError, Target, WorkloadId,
};
use migrate_plan::{ActionResult, Input, NODE_GONE, StopReason};

use super::Executor;
use super::resumption::Resumption;
use super::upgrade::{Entry, failed};
use super::verify::{CheckKey, CheckOutput};
use crate::report::StopCause;
use crate::{Record, RunEnd, deadlines};

impl Executor {
    /// Tells the rollout what is new, and looks whether it is over.
    pub(super) fn act_on_rollout(&mut self, now: Moment) {
        if self.state.finished {
            if self.resumption.owes_lift() {
                self.act_on_gate(now);
                return;
            }
            self.view.close();
            if self.state.verified {
                self.inbox.push_back(Record::RunEnded { end: RunEnd::Done });
            }
            return;
        }
        self.view
            .open(self.shop.access.as_ref(), &self.shop.input, now);
        if self.view.is_synced() {
            self.looks.nodes_seen();
        }
        let news = self.view.news(now, &self.state.seen);
        self.inbox
            .extend(news.into_iter().map(|input| Record::Input { input }));
        // Who cancels before the rollout began wants it not to begin.
        let must_start = !self.state.aborting
            && self.resumption != Resumption::Cancelled
            && (self.state.started_at.is_none() || self.resumption.owes_restart());
        if must_start && self.view.is_synced() {
            self.resumption.restarted();
            self.inbox.push_back(Record::Input {
                input: Input::Started,
            });
        }
        if !self.inbox.is_empty() {
            return;
        }
        self.state.tick(now);
        if must_start {
            return;
        }
        match &self.state.stop {
            // Nodes are given back first, which somebody may hold.
            Some(StopReason::Aborted) if self.resumption.owes_lift() => self.act_on_gate(now),
            // What is under way goes on to its end first, also what a runner that
            // is gone has begun.
            Some(_) if !self.resumed.is_empty() || self.looks.is_anything_absent() => {
                self.act_on_gate(now);
            }
            Some(reason) if self.state.open.is_empty() && self.lifting.is_empty() => {
                let reason = reason.clone();
                self.view.close();
                match reason {
                    StopReason::Aborted => self.inbox.push_back(Record::RunEnded {
                        end: RunEnd::Aborted,
                    }),
                    reason => self.end(StopCause::Rollout { reason }),
                }
            }
            Some(_) => {}
            None => self.act_on_gate(now),
        }
    }

    /// Does what is due in drains, upgrades and verifications under way.
    pub(super) fn act_on_effects(&mut self, now: Moment) {
        let is_held = self.holding.rests_at().is_none_or(|at| now < at);
        let cure = self.cure(now);
        let (jobs, late) = self
            .upgrades
            .act(now, is_held, cure.as_ref(), &self.shop, &self.pace);
        self.jobs.extend(jobs);
        for (id, result) in late {
            self.action_ended(id, Some(result));
        }
        let before = self.state.baseline.as_ref();
        let (job, outputs) = self.checks.act(now, before, &self.shop);
        self.jobs.extend(job);
        self.jobs.extend(self.checks.trials(now, &self.shop));
        self.take_check_outputs(outputs);
        self.lifting.retain(|node, until| {
            let goes_on = *until > now;
            if !goes_on {
                // It stays cordoned, and the report says so.
                self.drains.settled(node);
            }
            goes_on
        });
        for node in self.drains.late(now) {
            let reason = "the drainer did not answer by its deadline";
            self.drain_failed(node, DrainFailureKind::Unavailable, reason);
        }
        let job = self.drains.act(now, &self.shop);
        self.jobs.extend(job);
        if is_held {
            self.act_on_preference(now);
        }
    }

    /// When the rollout will do something by itself.
    pub(super) fn rollout_wake_at(&self) -> Option<Moment> {
        let runs = self.state.started_at.is_some() && self.state.end.is_none();
        runs.then(|| self.state.rollout.wake_at()).flatten()
    }

    /// Begins an action whose intent is durable; one that a runner that is
    /// gone may have begun is looked at first.
    pub(super) fn begin_action(&mut self, action: Action, resumed: bool) {
        self.shop.cx.emit(EventKind::ActionBegan {
            action: action.clone(),
        });
        // Time has passed while it waited. What a runner before may have begun goes on.
        if !resumed && self.state.rollout.is_late(&action.id) {
            return self.action_ended(action.id, Some(ActionResult::TooLate));
        }
        let now = self.now();
        let policy = &self.state.policy;
        // A backup is waited for.
        let within = deadlines::of(policy, &action.target, action.phase).unwrap_or_default();
        let entry = match (self.state.is_retry(&action), resumed) {
            (true, _) => Entry::Retried,
            (false, true) => Entry::Resumed,
            (false, false) => Entry::New,
        };
        match (&action.target, action.phase) {
            (_, Phase::BackUp) => self.jobs.push(self.shop.back_up_again(action.id)),
            (Target::Addon { .. }, phase) => {
                // Its verification is only ever asked for.
                let entry = match phase {
                    Phase::Upgrade => entry,
                    _ => Entry::Resumed,
                };
                self.upgrades.add(action, now, within, entry);
            }
            (_, Phase::Drain) => {
                // It gives up by itself: first to wait for its turn, then to be
                // drained. Later than both it has not been heard of.
                let give_up = now + within * 2 + policy.deadlines.pod;
                self.drains.drain(action.target.name().to_owned(), give_up);
            }
            (_, Phase::Upgrade) => self.upgrades.add(action, now, within, entry),
            _ => {
                let planned = self.state.planned(&action.target);
                let displaced = self.state.displaced(planned.name());
                let settles = self.settles(action.target.name());
                self.checks
                    .add_action(&action, planned, displaced, settles, now, within);
            }
        }
    }

    /// Makes the end of an action a record, if it has ended. A failure is not
    /// believed before the anchor was looked at once more.
    pub(super) fn action_ended(&mut self, id: ActionId, result: Option<ActionResult>) {
        match result {
            Some(result @ ActionResult::Failed { .. }) => match self.node_of(&id) {
                Some(node) => self.jobs.push(self.shop.look_after(id, node, result)),
                None => self.doubt(id, result),
            },
            Some(result) => self.inbox.push_back(Record::Input {
                input: Input::ActionEnded { id, result },
            }),
            None => {}
        }
    }

    /// The end of an action is durable, and the rollout knows of it.
    pub(super) fn action_is_over(&mut self, action: Action, result: &ActionResult) {
        self.looks.seen(&action.id);
        let error = match result {
            ActionResult::Deferred { away } => Some(format!(
                "put off: its pool is full with {}",
                away.join(", ")
            )),
            ActionResult::Failed { reason, .. } | ActionResult::Skipped { reason } => {
                Some(reason.clone())
            }
            ActionResult::TooLate => Some("put off: its window is over".to_owned()),
            ActionResult::NotDrained => {
                Some("not begun: what has its node's name is not what was drained".to_owned())
            }
            _ => None,
        };
        if error.is_some() {
            self.view.look_again();
            self.lift();
        }
        if self.state.aborting {
            self.give_back();
        }
        self.shop.cx.emit(EventKind::ActionEnded { action, error });
    }

    /// Gives back the nodes whose drain was given up: nothing was changed there.
    pub(super) fn lift(&mut self) {
        let until = self.now() + self.state.policy.deadlines.verify;
        for node in self.state.to_lift() {
            if !self.lifting.contains_key(&node) {
                self.drains.release(node.clone());
                self.lifting.insert(node, until);
            }
        }
    }

    pub(super) fn take_drain_event(&mut self, event: DrainEvent, now: Moment) {
        match event {
            DrainEvent::Drained {
                node,
                outcome,
                displaced,
            } => self.drained(node, outcome, displaced),
            DrainEvent::Released { node, error: None } => {
                self.drains.settled(&node);
                self.lifting.remove(&node);
                self.inbox
                    .push_back(Record::Released { node: node.clone() });
                let outputs = self.checks.released(&node, None, now);
                self.take_check_outputs(outputs);
            }
            DrainEvent::Released {
                node,
                error: Some(error),
            } => {
                let outputs = self.checks.released(&node, Some(&error.reason), now);
                self.take_check_outputs(outputs);
                self.drains.release_later(node, now + self.pace.retry);
            }
            DrainEvent::Moved { node, outcome } => self.moved(node, &outcome),
            DrainEvent::Waiting { node, pods } => self.waits.pods_wait(&node, &pods),
            _ => {}
        }
    }

    /// Takes the line to the drainer. Without one that waiting could bring, no
    /// drain is possible.
    pub(super) fn drainer_answered(&mut self, result: Result<DrainEvents, StepError>, now: Moment) {
        if let Err(error) = &result
            && !error.is_retryable()
        {
            for node in self.drains.drains() {
                self.drain_failed(node, DrainFailureKind::Other, &error.to_string());
            }
        }
        self.drains.dialled(result, now + self.pace.retry);
    }

    fn drain_failed(&mut self, node: String, kind: DrainFailureKind, reason: &str) {
        let outcome = DrainOutcome::Failed {
            kind,
            reason: reason.to_owned(),
            retryable: false,
        };
        match self.steps.moves_from(&node) {
            true => self.moved(node, &outcome),
            false => self.drained(node, outcome, Vec::new()),
        }
    }

    fn drained(&mut self, node: String, outcome: DrainOutcome, displaced: Vec<WorkloadId>) {
        self.drains.settled(&node);
        self.waits.pods_gone(&node);
        let drains = |action: &&Action| {
            let target = &action.target;
            action.phase == Phase::Drain
                && matches!(target, Target::Node { node: name, .. } if *name == node)
        };
        let Some(id) = self
            .state
            .open
            .values()
            .find(drains)
            .map(|action| action.id.clone())
        else {
            return;
        };
        let result = drain_result(&outcome);
        let is_gone = is_gone(&outcome);
        self.inbox.push_back(Record::DrainEnded {
            node: node.clone(),
            outcome,
            displaced,
        });
        if is_gone {
            // The rollout may not have heard of it yet. What has the name now is
            // seen in the look that follows.
            self.inbox.push_back(Record::Input {
                input: Input::NodeGone { node },
            });
        }
        self.action_ended(id, Some(result));
    }

    pub(super) fn observed(
        &mut self,
        round: u64,
        result: &Result<Baseline, StepError>,
        now: Moment,
    ) {
        let Some(before) = self.state.baseline.clone() else {
            return;
        };
        if result.is_ok() {
            self.checks
                .told_by(round)
                .for_each(|id| self.looks.seen(id));
        }
        let outputs = self
            .checks
            .observed(round, result, &before, &self.shop, now, &self.pace);
        self.take_check_outputs(outputs);
    }

    /// Makes what is new of `notes` a record.
    pub(super) fn noted(&mut self, mut notes: Vec<Finding>) {
        notes.retain(|note| !self.state.is_noted(note));
        if !notes.is_empty() {
            self.announce(&notes);
            self.inbox.push_back(Record::Noted { findings: notes });
        }
    }

    pub(super) fn take_check_outputs(&mut self, outputs: Vec<CheckOutput>) {
        for output in outputs {
            match output {
                CheckOutput::Noted(notes) => self.noted(notes),
                CheckOutput::Release(node) => self.drains.release(node),
                CheckOutput::Passed(CheckKey::Action(id)) => {
                    let result = ActionResult::Succeeded(Outcome::SameNode);
                    self.action_ended(id, Some(result));
                }
                CheckOutput::Failed(CheckKey::Action(id), findings) => {
                    if let Some(action) = self.state.open.get(&id) {
                        self.drains
                            .settled(self.state.planned(&action.target).name());
                    }
                    self.action_ended(id, Some(failed(false, in_one_line(&findings))));
                }
                // The step sees that none is left.
                CheckOutput::Passed(CheckKey::TakeOver(_)) => {}
                // It stays cordoned, and the report says so.
                CheckOutput::Failed(CheckKey::TakeOver(node), findings) if self.state.aborting => {
                    self.drains.settled(&node);
                    self.announce(&findings);
                }
                CheckOutput::Failed(CheckKey::TakeOver(_), findings) => {
                    self.end(StopCause::Verification { findings });
                }
                output => self.cluster_checked(output),
            }
        }
    }
}

fn drain_result(outcome: &DrainOutcome) -> ActionResult {
    match outcome {
        outcome if is_gone(outcome) => ActionResult::Skipped {
            reason: NODE_GONE.to_owned(),
        },
        DrainOutcome::Empty { .. } => ActionResult::Succeeded(Outcome::SameNode),
        DrainOutcome::NeedsConsent { pods } => {
            let pods: Vec<_> = pods
                .iter()
                .map(|(pod, what)| format!("{pod}: {what}"))
                .collect();
            failed(
                false,
                format!(
                    "a person has to agree first: {}; agree in the policy (consent), or move them by hand",
                    pods.join("; ")
                ),
            )
        }
        DrainOutcome::Deadline { blocked, remaining } => {
            let mut left: Vec<_> = blocked
                .iter()
                .map(|(pod, by)| format!("{pod} is kept by {by}"))
                .collect();
            left.extend(remaining.iter().map(|pod| format!("{pod} is still there")));
            failed(
                false,
                format!(
                    "not drained by its deadline: {}; cure that, or raise deadlines.drain",
                    left.join("; ")
                ),
            )
        }
        DrainOutcome::Failed {
            reason, retryable, ..
        } => failed(*retryable, reason.clone()),
        DrainOutcome::NoRoom { away, .. } => ActionResult::Deferred { away: away.clone() },
        _ => failed(
            false,
            "the drain ended in a way this release does not know; use crates of one release"
                .to_owned(),
        ),
    }
}

/// Whether the node was gone before or during its drain: the plan had it.
fn is_gone(outcome: &DrainOutcome) -> bool {
    let absent = DrainFailureKind::NoSuchNode;
    matches!(outcome, DrainOutcome::NodeGone { .. })
        || matches!(outcome, DrainOutcome::Failed { kind, .. } if *kind == absent)
}

pub(super) fn in_one_line(findings: &[Finding]) -> String {
    let lines: Vec<_> = findings
        .iter()
        .map(|finding| {
            format!(
                "{} {}: {}; {}",
                finding.code, finding.object, finding.evidence, finding.cure
            )
        })
        .collect();
    lines.join(" | ")
}
