//! How replicas stand at the end of a run, and what is done about it.

use std::collections::BTreeMap;

use migrate_core::spread::PodMove;
use migrate_core::{Finding, WorkloadId};

use crate::RunStep;

/// What the journal says about the spread.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// What the last look found; `None` if one is due.
    pub(crate) findings: Option<Vec<Finding>>,
    /// The pods to be moved back: those of the first look, for good.
    moves: Option<Vec<PodMove>>,
    /// Once moving is over: by node, why pods of it did not go.
    left: Option<BTreeMap<String, String>>,
}

impl Spread {
    pub(super) fn looked(&mut self, findings: Vec<Finding>, moves: Vec<PodMove>) {
        self.findings = Some(findings);
        self.moves.get_or_insert(moves);
    }

    pub(super) fn moved(&mut self, left: BTreeMap<String, String>) {
        self.left = Some(left);
        self.findings = None;
    }

    /// What is left to be done once everything is verified.
    pub(crate) fn next_step(&self) -> Option<RunStep> {
        let moves = self.moves.as_ref().is_some_and(|moves| !moves.is_empty());
        match (&self.findings, &self.left) {
            (None, _) => Some(RunStep::Spread),
            (Some(_), None) if moves => Some(RunStep::Respread),
            _ => None,
        }
    }

    /// Whether it was decided which pods are moved, if any. A run decides that
    /// once, so that no workload loses a second pod however often it is resumed.
    pub(crate) fn is_decided(&self) -> bool {
        self.moves.is_some()
    }

    /// The pods to be moved, by node.
    pub(crate) fn by_node(&self) -> BTreeMap<String, Vec<PodMove>> {
        let mut by_node = BTreeMap::<_, Vec<_>>::new();
        for one in self.moves.iter().flatten() {
            by_node
                .entry(one.node.clone())
                .or_default()
                .push(one.clone());
        }
        by_node
    }

    /// What came of moving a pod of `workload`, which is crowded all the same.
    pub(crate) fn remark(&self, workload: &WorkloadId, node: &str) -> Option<String> {
        let left = self.left.as_ref()?;
        let mut moves = self.moves.iter().flatten();
        let pod = &moves.find(|one| one.workload == *workload)?.pod;
        Some(match left.get(node) {
            Some(why) => format!("moving pod {} back did not end well: {why}", pod.name),
            None => format!(
                "pod {} was moved, and the scheduler chose one node for all again",
                pod.name
            ),
        })
    }
}
