//! The cluster model as flat arrays: nodes, budgets, and who touches what.
//!
//! Made once per plan or rollout, in time linear in pods and labels. Ids are
//! positions: a node's in the model's list, a budget's in [`Interned::budgets`].

mod guards;
mod hash;
mod matching;
mod nodes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use migrate_core::{
    BudgetKey, BudgetKind, ClusterModel, Disposition, DisruptionBudget, Pod, Policy, Workload,
    disposition,
};

use matching::Matcher;
use nodes::{BLOCK, NOWHERE, NodeNames};

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
    /// Namespaces in which something may keep a drain from ending: a pod to be
    /// moved is not healthy or has two budgets, or a budget lets nothing go,
    /// now or ever.
    pub(crate) troubled: BTreeSet<&'m str>,
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
    /// It may let no pod go, by its status, its spec or the pods that are there.
    pub(crate) may_block: bool,
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

impl<'m> BudgetSource<'m> {
    fn namespace(&self) -> &'m str {
        match self {
            Self::Real(budget) => &budget.namespace,
            Self::Assumed(workload) => &workload.id.namespace,
        }
    }

    /// Kind, namespace, kind of the workload and name, without a copy.
    fn parts(&self) -> (BudgetKind, &'m str, &'m str, &'m str) {
        match self {
            Self::Real(budget) => (BudgetKind::Real, &budget.namespace, "", &budget.name),
            Self::Assumed(workload) => {
                let id = &workload.id;
                (BudgetKind::Assumed, &id.namespace, &id.kind, &id.name)
            }
        }
    }

    pub(crate) fn key(&self) -> BudgetKey {
        match self {
            Self::Real(budget) => BudgetKey::real(&budget.namespace, &budget.name),
            Self::Assumed(workload) => BudgetKey::assumed(&workload.id),
        }
    }
}

/// What becomes of a pod when its node is drained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It ends by itself, and is waited for.
    Ends,
    /// It is evicted, once whoever has to agree does.
    Goes,
    /// It stays.
    Stays,
}

impl Fate {
    pub(crate) fn of(pod: &Pod, policy: &Policy) -> Self {
        match disposition(pod, &policy.consent, None) {
            Disposition::Leave(_) => Self::Stays,
            Disposition::Wait(_) => Self::Ends,
            _ => Self::Goes,
        }
    }
}

/// A pod that is on a node and has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visited<'m> {
    /// Its place in the model.
    pub(crate) source: usize,
    pub(crate) pod: &'m Pod,
    pub(crate) node: u32,
    /// The place of its workload among those of the model, if it is there.
    pub(crate) owner: Option<u32>,
    pub(crate) fate: Fate,
}

impl<'m> Interned<'m> {
    pub(crate) fn new(model: &'m ClusterModel, policy: &Policy) -> Self {
        Self::visiting(model, policy, |_| {})
    }

    /// Shows each pod that is on a node and has not ended to `visit`, in the order
    /// of the model.
    pub(crate) fn visiting(
        model: &'m ClusterModel,
        policy: &Policy,
        mut visit: impl FnMut(Visited<'m>),
    ) -> Self {
        let names = NodeNames::new(&model.nodes);
        let mut on = [NOWHERE; BLOCK];
        let mut matcher = Matcher::new(model, &policy.assumed_budgets);
        let mut loads = vec![NodeLoad::default(); model.nodes.len()];
        let mut doubly_guarded = Vec::new();
        let mut troubled = BTreeSet::new();
        // Apart, since each is mostly in order then, and a row costs no sorting.
        let mut real: Vec<(u32, u32)> = Vec::with_capacity(model.pods.len());
        let mut assumed: Vec<(u32, u32)> = Vec::with_capacity(model.pods.len());
        let is_real = |budget: u32| (budget as usize) < model.budgets.len();
        for (source, pod) in model.pods.iter().enumerate() {
            if source % BLOCK == 0 {
                let end = model.pods.len().min(source + BLOCK);
                names.find(&model.pods[source..end], &mut on);
            }
            if pod.is_finished() {
                continue;
            }
            let (budgets, owner) = matcher.count(pod);
            let node = on[source % BLOCK];
            if node == NOWHERE {
                continue;
            }
            let fate = Fate::of(pod, policy);
            visit(Visited {
                source,
                pod,
                node,
                owner,
                fate,
            });
            if fate != Fate::Goes {
                continue;
            }
            let load = &mut loads[node as usize];
            load.pods += 1;
            let grace = u32::try_from(pod.grace_seconds).unwrap_or(u32::MAX);
            load.grace_seconds = load.grace_seconds.max(grace);
            load.volumes |= !pod.claims.is_empty();
            let is_doubly_guarded = budgets.len() > 1;
            if is_doubly_guarded {
                doubly_guarded.push(node);
            }
            if is_doubly_guarded || !pod.is_healthy() {
                troubled.insert(pod.id.namespace.as_str());
            }
            // A pod that is not Ready spends nothing when it goes.
            if pod.is_healthy() {
                for &budget in budgets {
                    let pairs = if is_real(budget) {
                        &mut real
                    } else {
                        &mut assumed
                    };
                    pairs.push((node, budget));
                }
            }
        }
        let (starts, touches) = rows(model.nodes.len(), &[&real, &assumed]);
        let budgets = matcher.finish();
        let blocking = budgets.iter().filter(|budget| budget.may_block);
        troubled.extend(blocking.map(|budget| budget.source.namespace()));
        Self {
            budgets,
            loads,
            starts,
            touches,
            doubly_guarded,
            troubled,
        }
    }

    /// The budgets that pods of `node` count for, by budget.
    pub(crate) fn touches(&self, node: u32) -> &[Touch] {
        let node = node as usize;
        &self.touches[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

/// Sorts pairs (node, budget) into one row per node, equal pairs counted.
fn rows(nodes: usize, pairs: &[&[(u32, u32)]; 2]) -> (Vec<u32>, Vec<Touch>) {
    let all = || pairs.iter().copied().flatten();
    let mut ends = vec![0u32; nodes + 1];
    for (node, _) in all() {
        ends[*node as usize + 1] += 1;
    }
    for node in 0..nodes {
        ends[node + 1] += ends[node];
    }
    let mut next = ends.clone();
    let mut budgets = vec![0u32; all().count()];
    for (node, budget) in all() {
        let place = &mut next[*node as usize];
        budgets[*place as usize] = *budget;
        *place += 1;
    }
    let mut starts = Vec::with_capacity(nodes + 1);
    let mut touches: Vec<Touch> = Vec::with_capacity(budgets.len());
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
