//! What the rollout was told of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{BudgetKey, BudgetKind, ClusterModel, DisruptionBudget, Node};
use migrate_plan::{Input, Rollout};

/// The latest that the rollout was told of nodes and budgets.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    nodes: BTreeMap<String, Input>,
    budgets: BTreeMap<BudgetKey, Input>,
}

impl Seen {
    /// Whether `input` says nothing that was not said before.
    pub(crate) fn knows(&self, input: &Input) -> bool {
        match input {
            Input::NodeSeen { node, .. } | Input::NodeGone { node } => {
                self.nodes.get(node) == Some(input)
            }
            Input::BudgetSeen { key, .. } => match self.budgets.get(key) {
                Some(before) => before == input,
                // No pod that has to move has this one.
                None => key.kind == BudgetKind::Assumed,
            },
            _ => false,
        }
    }

    /// Whether the rollout was told last that `node` is gone.
    pub(crate) fn is_gone(&self, node: &str) -> bool {
        matches!(self.nodes.get(node), Some(Input::NodeGone { .. }))
    }

    /// What is gone if `all` that there is was seen: every node and real budget
    /// that was told of and is not among them. Who sees no assumed budgets does
    /// not lift them by that.
    pub(crate) fn missing_from(&self, all: &[Input]) -> Vec<Input> {
        let mut nodes = BTreeSet::new();
        let mut budgets = BTreeSet::new();
        for input in all {
            match input {
                Input::NodeSeen { node, .. } => drop(nodes.insert(node)),
                Input::BudgetSeen { key, .. } => drop(budgets.insert(key)),
                _ => {}
            }
        }
        let nodes = self.nodes.keys().filter(|node| !nodes.contains(node));
        let real = |key: &&BudgetKey| key.kind == BudgetKind::Real;
        let told = self.budgets.keys().filter(real);
        let budgets = told.filter(|key| !budgets.contains(key));
        nodes
            .map(|node| Input::NodeGone { node: node.clone() })
            .chain(budgets.map(|key| budget_gone(key.clone())))
            .collect()
    }

    /// Makes the next look at `node` news, whatever it shows.
    pub(super) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// What the rollout knows from the model.
    pub(super) fn of(model: &ClusterModel, rollout: &Rollout) -> Self {
        let mut seen = Self::default();
        for node in &model.nodes {
            seen.note(&node_seen(node));
        }
        for budget in &model.budgets {
            seen.note(&budget_seen(budget));
        }
        let assumed = rollout.budgets();
        for (key, allowed) in assumed.filter(|(key, _)| key.kind == BudgetKind::Assumed) {
            let key = key.clone();
            seen.note(&Input::BudgetSeen { key, allowed });
        }
        seen
    }

    pub(super) fn note(&mut self, input: &Input) {
        match input {
            Input::NodeSeen { node, .. } | Input::NodeGone { node } => {
                self.nodes.insert(node.clone(), input.clone());
            }
            Input::BudgetSeen { key, .. } => {
                self.budgets.insert(key.clone(), input.clone());
            }
            _ => {}
        }
    }
}

/// What the rollout is told of a node.
pub(crate) fn node_seen(node: &Node) -> Input {
    Input::NodeSeen {
        node: node.name.clone(),
        ready: node.ready,
        unschedulable: node.unschedulable,
        kubelet_version: node.kubelet_version.clone(),
        uid: (!node.uid.is_empty()).then(|| node.uid.clone()),
    }
}

/// What the rollout is told of a real budget.
pub(crate) fn budget_seen(budget: &DisruptionBudget) -> Input {
    Input::BudgetSeen {
        key: BudgetKey::real(&budget.namespace, &budget.name),
        allowed: u32::try_from(budget.status.disruptions_allowed).unwrap_or(0),
    }
}

/// A budget that is gone blocks nothing.
pub(crate) fn budget_gone(key: BudgetKey) -> Input {
    let allowed = u32::MAX;
    Input::BudgetSeen { key, allowed }
}
