//! After the last verification: how replicas stand over nodes, and one pod of
//! each crowded workload moved back if the policy says so.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::spread::crowded;
use migrate_core::steps::DrainOutcome;
use migrate_core::{ClusterModel, Finding, Moment, ObjectName, Severity, StepError};

use super::Executor;
use super::steps::Steps;
use crate::{RunStep, StepResult};

/// Pods that are being moved back.
#[derive(Default)]
pub(super) struct Moves {
    /// Nodes whose pods are under way.
    waiting: BTreeSet<String>,
    evictions: u32,
    left: BTreeMap<String, String>,
}

impl Steps {
    /// Whether pods of `node` are being moved back.
    pub(super) fn moves_from(&self, node: &str) -> bool {
        self.moves.waiting.contains(node)
    }
}

impl Executor {
    /// Takes the look at the cluster. That nobody could look stops nothing.
    pub(super) fn spread_seen(&mut self, result: Result<ClusterModel, StepError>, now: Moment) {
        if !self.steps.is_at(RunStep::Spread) {
            return;
        }
        let is_passing = result.as_ref().is_err_and(StepError::is_retryable);
        let is_asked_to_leave = self.shop.cx.cancel.is_cancelled();
        if is_asked_to_leave || (is_passing && self.steps.try_again(now + self.pace.retry)) {
            return;
        }
        let (state, mut moves) = (&self.state, Vec::new());
        let mut findings = match &result {
            Err(error) => vec![unseen(error)],
            Ok(model) => {
                let found = crowded(&state.model, model, &state.policy.consent);
                if state.policy.respread && !state.spread.is_decided() {
                    moves.extend(found.iter().filter_map(|one| one.to_move()));
                }
                let remark = |workload, node| state.spread.remark(workload, node);
                let found = found.iter();
                found
                    .map(|one| one.finding(remark(&one.workload, &one.node).as_deref()))
                    .collect()
            }
        };
        state.policy.mark_waived(&mut findings);
        // Else it is looked at once more.
        if moves.is_empty() {
            self.announce(&findings);
        }
        self.step_ended(StepResult::Spread { findings, moves });
    }

    /// Asks the pods that the journal names to go: those, and no others in their
    /// place, however often this is begun anew.
    pub(super) fn move_back(&mut self) {
        // The drainer keeps the deadline of a pod, and tells.
        let give_up = self.now() + self.state.policy.deadlines.pod * 2;
        self.steps.moves = Moves::default();
        for (node, pods) in self.state.spread.by_node() {
            self.steps.moves.waiting.insert(node.clone());
            self.drains.move_pods(node, pods, give_up);
        }
    }

    /// Takes note of how moving the pods of `node` ended.
    pub(super) fn moved(&mut self, node: String, outcome: &DrainOutcome) {
        self.drains.settled(&node);
        self.waits.pods_gone(&node);
        let moves = &mut self.steps.moves;
        if !moves.waiting.remove(&node) {
            return;
        }
        match outcome {
            DrainOutcome::Empty { evictions } => moves.evictions += evictions,
            other => {
                moves.left.insert(node, why(other));
            }
        }
        if moves.waiting.is_empty() {
            let Moves {
                evictions, left, ..
            } = std::mem::take(moves);
            self.step_ended(StepResult::Respread { evictions, left });
        }
    }

    /// The run is ended for good: what comes after its last node is left. A pod
    /// that was asked to go may still go, within its budgets.
    pub(super) fn leave_the_end(&mut self) {
        for step in [RunStep::FinalVerify, RunStep::Spread, RunStep::Respread] {
            self.steps.leave(step);
        }
        let moves = std::mem::take(&mut self.steps.moves);
        if !moves.waiting.is_empty() {
            self.drains.hang_up();
        }
    }
}

fn why(outcome: &DrainOutcome) -> String {
    match outcome {
        DrainOutcome::Deadline { blocked, remaining } => {
            let blocked = blocked
                .iter()
                .map(|(pod, by)| format!("{pod} is kept by {by}"));
            let stuck = remaining.iter().map(|pod| format!("{pod} is still there"));
            let all: Vec<_> = blocked.chain(stuck).collect();
            format!("not over by deadlines.pod: {}", all.join("; "))
        }
        DrainOutcome::NeedsConsent { pods } => {
            let all = pods.iter().map(|(pod, to)| format!("{pod}: {to}"));
            all.collect::<Vec<_>>().join("; ")
        }
        DrainOutcome::Failed { reason, .. } => reason.clone(),
        _ => "the drainer did not do it".to_owned(),
    }
}

fn unseen(error: &StepError) -> Finding {
    Finding::new(
        "KM-SPREAD-002",
        Severity::Warning,
        ObjectName::cluster("Cluster", "pods"),
        format!("nobody could look how replicas stand over nodes: {error}"),
        "see whether one node hosts all pods of a workload: kubectl get pods -A -o wide",
    )
}
