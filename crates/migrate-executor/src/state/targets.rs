//! What became of nodes and members, and what is to be said of them.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{Target, WorkloadId};
use migrate_plan::{Input, NODE_GONE, TargetState};

use super::RunState;

impl RunState {
    /// Workloads that lost pods on `node` to a drain of this run.
    pub(crate) fn displaced(&self, node: &str) -> BTreeSet<WorkloadId> {
        self.displaced.get(node).cloned().unwrap_or_default()
    }

    /// The target as it was planned: `target` may name a node that came in
    /// place of the planned one.
    pub(crate) fn planned<'a>(&'a self, target: &'a Target) -> &'a Target {
        self.replacements.get(target.name()).unwrap_or(target)
    }

    /// Planned nodes that a driver has replaced, with the nodes that came.
    pub(crate) fn replaced(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut replaced = BTreeMap::<String, BTreeSet<String>>::new();
        for (node, planned) in &self.replacements {
            let others = replaced.entry(planned.name().to_owned()).or_default();
            others.insert(node.clone());
        }
        replaced
    }

    /// What the rollout is to be told of a runner whose pod is on `node`, if it
    /// does not know that: of nodes that are not in the plan it need not know.
    pub(crate) fn runner_on(&self, node: Option<String>) -> Option<Input> {
        let is_planned = |node: &String| self.plan.slots.iter().any(|slot| slot.node == *node);
        let node = node.filter(is_planned);
        (node != self.runner).then_some(Input::RunnerSeen { node })
    }

    /// Planned nodes that were given up in the middle of their upgrade or after it:
    /// should one be gone, that is no deletion like others.
    pub(crate) fn held(&self) -> BTreeSet<String> {
        let given_up = self.rollout.standings().into_iter().filter_map(|standing| {
            let planned = self.planned(&standing.target);
            let begun = self.traces.get(planned)?.phase?;
            let was_changed = !begun.changes_nothing();
            let is_held = match standing.state {
                TargetState::Skipped { reason } => reason != NODE_GONE,
                TargetState::Failed { .. } => true,
                _ => false,
            };
            (was_changed && is_held).then(|| planned.name().to_owned())
        });
        given_up.collect()
    }
}
