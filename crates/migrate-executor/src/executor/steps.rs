//! The steps around the rollout.

use migrate_core::steps::{Baseline, VerifyScope};
use migrate_core::{EventKind, Finding, KubeVersion, Moment, Step, StepError, StepErrorKind};
use migrate_kube::Claim;

use super::Executor;
use super::open::mark_of;
use super::spread::Moves;
use super::verify::CheckOutput;
use crate::report::StopCause;
use crate::{Origin, Record, RunEnd, RunStep, StepResult};

/// Times that a step which only reads is taken again before the run is refused.
/// Nothing has been changed by then, so there is nothing to wait for longer.
const READ_RETRIES: u32 = 5;

/// The step that is under way.
#[derive(Default)]
pub(super) struct Steps {
    /// Announced, and not ended.
    current: Option<RunStep>,
    retry_at: Option<Moment>,
    /// Of the current step, if it only reads.
    retries: u32,
    /// Taking over waits until the anchor lets it begin.
    pub(super) is_held: bool,
    /// Taken over so far.
    taken: Vec<String>,
    /// The marks on the nodes have been taken over.
    marks_taken: bool,
    pub(super) moves: Moves,
}

impl Steps {
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.retry_at
    }

    pub(super) fn is_at(&self, step: RunStep) -> bool {
        self.current == Some(step)
    }

    /// Forgets `step`, if it is under way.
    pub(super) fn leave(&mut self, step: RunStep) {
        if self.current.take_if(|current| *current == step).is_some() {
            self.retry_at = None;
            self.retries = 0;
            self.is_held = false;
        }
    }

    /// Has the current step, which only reads, taken again at `at`, unless that
    /// was done often enough.
    pub(super) fn try_again(&mut self, at: Moment) -> bool {
        let again = self.retries < READ_RETRIES;
        match again {
            true => {
                self.retries += 1;
                self.retry_at = Some(at);
            }
            false => self.retries = 0,
        }
        again
    }
}

impl Executor {
    /// The next step around the rollout; `None` while it is the rollout's turn.
    pub(super) fn next_step(&self, now: Moment) -> Option<RunStep> {
        let state = &self.state;
        if state.prepared.is_none() {
            return Some(RunStep::Prepare);
        }
        if state.baseline.is_none() {
            return Some(RunStep::Baseline);
        }
        if self.owes_backup(now) {
            return Some(RunStep::BackUp);
        }
        if !state.claimed {
            return Some(RunStep::Claim);
        }
        // Who cancels a run that is held wants it to end, not to be let go first.
        let is_dropped = self.steps.is_held && state.stop.is_some();
        if state.origin != Origin::Fresh && state.taken_over.is_none() && !is_dropped {
            return Some(RunStep::TakeOver);
        }
        let given_back = self.lifting.is_empty() && !self.resumption.owes_lift();
        let rollout_is_over = state.finished && state.open.is_empty() && given_back;
        match (rollout_is_over, state.verified) {
            (false, _) => None,
            (true, false) => Some(RunStep::FinalVerify),
            (true, true) => state.spread.next_step(),
        }
    }

    /// Announces `step`, or looks whether it is over.
    pub(super) fn act_on_step(&mut self, step: RunStep, now: Moment) {
        match self.steps.current {
            None => {
                self.steps.current = Some(step);
                self.inbox.push_back(Record::StepBegan { step });
            }
            Some(
                RunStep::Prepare
                | RunStep::Baseline
                | RunStep::Claim
                | RunStep::TakeOver
                | RunStep::Spread,
            ) if self.steps.retry_at.is_some_and(|at| at <= now) => {
                self.steps.retry_at = None;
                self.begin_step(step);
            }
            Some(_) if self.steps.is_held => self.act_on_gate(now),
            Some(RunStep::TakeOver) if self.steps.marks_taken && !self.checks.is_taking_over() => {
                let nodes = std::mem::take(&mut self.steps.taken);
                self.step_ended(StepResult::TakenOver { nodes });
            }
            Some(_) => {}
        }
    }

    /// Begins a step whose beginning is durable.
    pub(super) fn begin_step(&mut self, step: RunStep) {
        if let Some(step) = event_step(step) {
            self.shop.cx.emit(EventKind::StepBegan { step });
        }
        match step {
            RunStep::Prepare => self.jobs.push(self.shop.prepare()),
            RunStep::Baseline => self.jobs.push(self.shop.baseline()),
            RunStep::BackUp => self.jobs.push(self.shop.back_up()),
            RunStep::Claim => {
                let now = self.now();
                self.holding.asks(now);
                let claim = Claim::new(mark_of(&self.state, &self.place), self.pace.lease)
                    .with_floor(self.shop.cx.fence.epoch)
                    .with_lapsed(self.holding.lapsed.clone());
                self.jobs.push(self.shop.claim(claim));
            }
            // It writes to nodes and gives some back, as actions do.
            RunStep::TakeOver | RunStep::Respread => self.steps.is_held = true,
            RunStep::Spread => self.jobs.push(self.shop.look_at_spread()),
            RunStep::FinalVerify => {
                let within = self.state.policy.deadlines.verify;
                let now = self.now();
                let scope = VerifyScope::Cluster {
                    replaced: self.state.replaced(),
                    held: self.state.held(),
                };
                self.checks.add_cluster(scope, now, within);
            }
        }
    }

    /// Begins the step that waited for the anchor.
    pub(super) fn begin_held_step(&mut self) {
        match self.steps.current {
            Some(RunStep::Respread) => self.move_back(),
            _ => self.jobs.push(self.shop.take_over()),
        }
    }

    pub(super) fn prepared(&mut self, result: Result<Vec<Finding>, StepError>, now: Moment) {
        let Some(mut found) = self.unless_passing(RunStep::Prepare, result, now) else {
            return;
        };
        found.extend(self.check_runner());
        let mut findings = Finding::merged(&self.state.plan.findings, found);
        let unmatched = self.state.policy.unmatched_waivers(&findings, &[]);
        findings.extend(unmatched);
        self.state.policy.mark_waived(&mut findings);
        self.announce(&findings);
        self.step_ended(StepResult::Prepared { findings });
    }

    /// Whether the run can go on once its own pod is moved.
    fn check_runner(&self) -> Vec<Finding> {
        use migrate_core::{Node, preconditions};

        let Some((namespace, name)) = &self.own_pod else {
            return Vec::new();
        };
        let (model, policy) = (&self.state.model, &self.state.policy);
        let is_to_change = |node: &Node| self.shop.input.is_to_change(node);
        preconditions::check_runner(model, policy, namespace, name, is_to_change)
    }

    pub(super) fn baseline_taken(&mut self, result: Result<Baseline, StepError>, now: Moment) {
        if let Some(baseline) = self.unless_passing(RunStep::Baseline, result, now) {
            self.step_ended(StepResult::Baseline {
                baseline: Box::new(baseline),
            });
        }
    }

    pub(super) fn claimed(&mut self, result: Result<u64, StepError>, now: Moment) {
        match result {
            Err(error) if error.is_retryable() => {
                self.steps.retry_at = Some(now + self.pace.retry);
            }
            result => {
                if let Some(epoch) = self.unless_failed(RunStep::Claim, result) {
                    self.inbox.push_back(Record::EpochTaken { epoch });
                    self.step_ended(StepResult::Claimed);
                }
            }
        }
    }

    /// Gives back those nodes that no action of the rollout will give back:
    /// they are at the target, or not in the plan.
    pub(super) fn taken_over(&mut self, result: Result<Vec<String>, StepError>, now: Moment) {
        match result {
            Err(error) if error.is_retryable() => {
                self.steps.retry_at = Some(now + self.pace.retry);
            }
            result => {
                let Some(nodes) = self.unless_failed(RunStep::TakeOver, result) else {
                    return;
                };
                let within = self.state.policy.deadlines.verify;
                for node in &nodes {
                    if !self.is_still_to_do(node) {
                        let settles = self.settles(node);
                        self.checks.add_take_over(node, settles, now, within);
                    }
                }
                self.steps.taken = nodes;
                self.steps.marks_taken = true;
            }
        }
    }

    /// Whether the cluster has to settle after `node`.
    pub(super) fn settles(&self, node: &str) -> bool {
        let before = self.state.baseline.as_ref();
        before.is_some_and(|before| self.shop.input.hosts_control_plane(before, node))
    }

    /// Takes note of how the verification at the end went.
    pub(super) fn cluster_checked(&mut self, output: CheckOutput) {
        match output {
            CheckOutput::Failed(_, findings) => self.end(StopCause::Verification { findings }),
            _ => self.step_ended(StepResult::Verified),
        }
    }

    /// Makes the end of the current step a record.
    pub(super) fn step_ended(&mut self, result: StepResult) {
        self.inbox.push_back(Record::StepEnded { result });
    }

    /// A step's end is durable.
    pub(super) fn step_is_over(&mut self) {
        let step = self.steps.current.take().and_then(event_step);
        if let Some(step) = step {
            self.shop
                .cx
                .emit(EventKind::StepEnded { step, error: None });
        }
    }

    /// Ends the run, as refused if nothing was changed.
    pub(super) fn end(&mut self, cause: StopCause) {
        let end = if self.state.claimed {
            RunEnd::Stopped { cause }
        } else {
            RunEnd::Refused { cause }
        };
        self.inbox.push_back(Record::RunEnded { end });
    }

    /// As [`unless_failed`](Self::unless_failed) for a step that only reads: a
    /// failure that may pass is a reason to take the step again a few times.
    fn unless_passing<T>(
        &mut self,
        step: RunStep,
        result: Result<T, StepError>,
        now: Moment,
    ) -> Option<T> {
        let is_passing = result.as_ref().is_err_and(StepError::is_retryable);
        if is_passing && self.steps.try_again(now + self.pace.retry) {
            return None;
        }
        self.steps.retries = 0;
        self.unless_failed(step, result)
    }

    /// The result of `step`; ends the run if it failed.
    pub(super) fn unless_failed<T>(
        &mut self,
        step: RunStep,
        result: Result<T, StepError>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            // Not the step failed, but this runner was asked to leave off.
            Err(error)
                if error.kind == StepErrorKind::Cancelled && self.shop.cx.cancel.is_cancelled() =>
            {
                None
            }
            Err(error) => {
                let message = error.to_string();
                if let Some(step) = event_step(step) {
                    self.shop.cx.emit(EventKind::StepEnded {
                        step,
                        error: Some(message.clone()),
                    });
                }
                self.end(StopCause::StepFailed { step, message });
                None
            }
        }
    }

    pub(super) fn announce(&self, findings: &[Finding]) {
        for finding in findings {
            self.shop.cx.emit(EventKind::Found {
                finding: finding.clone(),
            });
        }
    }

    /// Whether the rollout has `node` still before it.
    fn is_still_to_do(&self, node: &str) -> bool {
        let plan = &self.state.plan;
        let Some(slot) = plan.slots.iter().find(|slot| slot.node == *node) else {
            return false;
        };
        let to: &KubeVersion = plan.to_of_pool(&slot.pool);
        let baseline = self.state.baseline.as_ref();
        let seen = baseline.and_then(|baseline| baseline.nodes.get(node));
        seen.is_none_or(|seen| seen.kubelet_version != *to)
    }
}

/// The step as events name it.
fn event_step(step: RunStep) -> Option<Step> {
    match step {
        RunStep::Prepare => Some(Step::Prepare),
        RunStep::BackUp => Some(Step::BackUp),
        RunStep::FinalVerify => Some(Step::Verify),
        RunStep::Baseline
        | RunStep::Claim
        | RunStep::TakeOver
        | RunStep::Spread
        | RunStep::Respread => None,
    }
}
