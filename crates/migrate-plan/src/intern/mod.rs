//! The cluster model as flat arrays: nodes, budgets, and who touches what.
//!
//! Made once per plan or rollout, in time linear in pods and labels. Ids are
//! positions: a node's in the model's list, a budget's in [`Interned::budgets`].

mod matching;
#[cfg(test)]
mod tests;

use migrate_core::{
    BudgetKey, ClusterModel, Disposition, DisruptionBudget, Policy, Workload, disposition,
};
use rustc_hash::FxHashMap;

use matching::Matcher;

/// What a plan needs to know of pods and budgets.
#[derive(Debug)]
pub(crate) struct Interned<'m> {
    pub(crate) budgets: Vec<Budget<'m>>,
    /// By node.
    pub(crate) loads: Vec<NodeLoad>,
    /// By node, which part of `touches` is its own; one longer than the nodes.
    starts: Vec<u32>,
    touches: Vec<Touch>,
    /// Nodes with pods that two or more real budgets guard: the API refuses to
    /// evict those for good.
    pub(crate) doubly_guarded: Vec<u32>,
    /// Whether a pod that would have to leave is not healthy.
    has_sick_pods: bool,
}

/// A budget and its numbers.
#[derive(Debug)]
pub(crate) struct Budget<'m> {
    pub(crate) source: BudgetSource<'m>,
    /// Disruptions it allows now.
    pub(crate) allowed: u32,
    /// Disruptions it allows while every pod it expects is healthy.
    pub(crate) steady: u32,
    /// Healthy pods it has, expects and needs.
    pub(crate) healthy: u32,
    pub(crate) expected: u32,
    pub(crate) desired: u32,
}

/// Where a budget comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BudgetSource<'m> {
    Real(&'m DisruptionBudget),
    Assumed(&'m Workload),
}

/// What a drain of a node has to move.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeLoad {
    /// Pods that will be evicted.
    pub(crate) pods: u32,
    /// The longest grace period among them.
    pub(crate) grace_seconds: u32,
    /// Whether any of them mounts a claim.
    pub(crate) volumes: bool,
}

/// Pods of one node that one budget counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Touch {
    pub(crate) budget: u32,
    pub(crate) pods: u32,
}

impl BudgetSource<'_> {
    pub(crate) fn key(&self) -> BudgetKey {
        match self {
            Self::Real(budget) => BudgetKey::real(&budget.namespace, &budget.name),
            Self::Assumed(workload) => BudgetKey::assumed(&workload.id),
        }
    }
}

impl<'m> Interned<'m> {
    pub(crate) fn new(model: &'m ClusterModel, policy: &Policy) -> Self {
        let node_of: FxHashMap<&str, u32> = (0..)
            .zip(&model.nodes)
            .map(|(id, node)| (node.name.as_str(), id))
            .collect();
        let mut matcher = Matcher::new(model, &policy.assumed_budgets);
        let mut loads = vec![NodeLoad::default(); model.nodes.len()];
        let mut doubly_guarded = Vec::new();
        let mut has_sick_pods = false;
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(model.pods.len());
        for pod in &model.pods {
            if pod.is_finished() {
                continue;
            }
            let budgets = matcher.count(pod);
            let Some(&node) = pod.node.as_deref().and_then(|name| node_of.get(name)) else {
                continue;
            };
            if matches!(
                disposition(pod, &policy.consent, None),
                Disposition::Leave(_) | Disposition::Wait(_)
            ) {
                continue;
            }
            let load = &mut loads[node as usize];
            load.pods += 1;
            let grace = u32::try_from(pod.grace_seconds).unwrap_or(u32::MAX);
            load.grace_seconds = load.grace_seconds.max(grace);
            load.volumes |= !pod.claims.is_empty();
            if budgets.len() > 1 {
                doubly_guarded.push(node);
            }
            // A pod that is not Ready spends nothing when it goes.
            has_sick_pods |= !pod.is_healthy();
            if pod.is_healthy() {
                pairs.extend(budgets.iter().map(|&budget| (node, budget)));
            }
        }
        let (starts, touches) = rows(model.nodes.len(), &pairs);
        Self {
            budgets: matcher.finish(),
            loads,
            starts,
            touches,
            doubly_guarded,
            has_sick_pods,
        }
    }

    /// Whether anything here can keep a drain from ending.
    pub(crate) fn may_block(&self) -> bool {
        self.has_sick_pods
            || !self.doubly_guarded.is_empty()
            || self.budgets.iter().any(|budget| budget.allowed == 0)
    }

    /// The budgets that pods of `node` count for, by budget.
    pub(crate) fn touches(&self, node: u32) -> &[Touch] {
        let node = node as usize;
        &self.touches[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

/// Sorts pairs (node, budget) into one row per node, equal pairs counted.
fn rows(nodes: usize, pairs: &[(u32, u32)]) -> (Vec<u32>, Vec<Touch>) {
    let mut ends = vec![0u32; nodes + 1];
    for (node, _) in pairs {
        ends[*node as usize + 1] += 1;
    }
    for node in 0..nodes {
        ends[node + 1] += ends[node];
    }
    let mut next = ends.clone();
    let mut budgets = vec![0u32; pairs.len()];
    for (node, budget) in pairs {
        let place = &mut next[*node as usize];
        budgets[*place as usize] = *budget;
        *place += 1;
    }
    let mut starts = Vec::with_capacity(nodes + 1);
    let mut touches: Vec<Touch> = Vec::with_capacity(pairs.len());
    starts.push(0);
    for node in 0..nodes {
        let row = &mut budgets[ends[node] as usize..ends[node + 1] as usize];
        row.sort_unstable();
        for same in row.chunk_by(|a, b| a == b) {
            touches.push(Touch {
                budget: same[0],
                pods: u32::try_from(same.len()).unwrap_or(u32::MAX),
            });
        }
        starts.push(u32::try_from(touches.len()).unwrap_or(u32::MAX));
    }
    (starts, touches)
}
