//! The cluster model as flat arrays: nodes, budgets, and who touches what.
//!
//! Made once per plan or rollout, in time linear in pods and labels. Ids are
//! positions: a node's in the model's list, a budget's in [`Interned::budgets`].

mod alike;
mod guards;
mod hash;
mod matching;
mod nodes;
mod pools;
#[cfg(test)]
mod tests;
mod touches;

use std::collections::BTreeSet;

use migrate_core::{
    BudgetKey, BudgetKind, ClusterModel, Disposition, DisruptionBudget, Pod, Policy, Workload,
    disposition,
};

use alike::mark_alike;
use matching::Matcher;
use nodes::{BLOCK, NOWHERE, NodeNames};
use pools::Pools;
use touches::{Pairs, Touches};
pub(crate) use touches::{Share, Touch};

/// What a plan needs to know of pods and budgets.
#[derive(Debug)]
pub(crate) struct Interned<'m> {
    pub(crate) budgets: Vec<Budget<'m>>,
    pub(crate) pools: Pools<'m>,
    /// By node.
    pub(crate) loads: Vec<NodeLoad>,
    touches: Touches,
    /// Nodes with pods that two or more real budgets guard: the API refuses to
    /// evict those for good.
    pub(crate) doubly_guarded: Vec<u32>,
    /// Nodes with pods that a person would have to agree to move, and has not: their
    /// drains do not end. In order, each once.
    pub(crate) asking: Vec<u32>,
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
    /// It is evicted.
    Goes,
    /// It is evicted once a person agrees.
    Asks,
    /// It stays.
    Stays,
}

impl Fate {
    pub(crate) fn of(pod: &Pod, policy: &Policy) -> Self {
        match disposition(pod, &policy.consent, None) {
            Disposition::Leave(_) => Self::Stays,
            Disposition::Wait(_) => Self::Ends,
            Disposition::NeedsConsent(_) => Self::Asks,
            _ => Self::Goes,
        }
    }

    /// Whether a drain moves it, agreed or not.
    pub(crate) const fn leaves(self) -> bool {
        matches!(self, Self::Goes | Self::Asks)
    }
}

/// A pod that has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visited<'m> {
    /// Its place in the model.
    pub(crate) source: usize,
    pub(crate) pod: &'m Pod,
    /// None of the model, where it has no node yet or one that is gone.
    pub(crate) node: Option<u32>,
    /// The place of its workload among those of the model, if it is there.
    pub(crate) owner: Option<u32>,
    pub(crate) fate: Fate,
    /// It differs from the one that was shown before in its name, uid and node only.
    pub(crate) is_like_last: bool,
}

impl<'m> Interned<'m> {
    pub(crate) fn new(model: &'m ClusterModel, policy: &Policy) -> Self {
        Self::visiting(model, policy, |_| {})
    }

    /// Shows each pod that has not ended to `visit`, in the order of the model.
    pub(crate) fn visiting(
        model: &'m ClusterModel,
        policy: &Policy,
        visit: impl FnMut(Visited<'m>),
    ) -> Self {
        Self::read(model, policy, |_| true, visit).0
    }

    /// The same, if the pods of the model are in their documented order: looked at on the
    /// way, since to read them all once more costs more.
    pub(crate) fn visiting_in_order(
        model: &'m ClusterModel,
        policy: &Policy,
        visit: impl FnMut(Visited<'m>),
    ) -> Option<Self> {
        let (interned, has_all) = Self::read(model, policy, ClusterModel::are_sorted, visit);
        has_all.then_some(interned)
    }

    /// Of all pods up to those that `goes_on` is against, and whether that is all: it is
    /// shown some at a time, with the last of those before.
    fn read(
        model: &'m ClusterModel,
        policy: &Policy,
        goes_on: impl Fn(&[Pod]) -> bool,
        mut visit: impl FnMut(Visited<'m>),
    ) -> (Self, bool) {
        let mut has_all = true;
        let names = NodeNames::new(&model.nodes);
        let mut on = [NOWHERE; BLOCK];
        let mut matcher = Matcher::new(model, &policy.assumed_budgets);
        let mut loads = vec![NodeLoad::default(); model.nodes.len()];
        let mut doubly_guarded = Vec::new();
        let mut asking = Vec::new();
        let mut troubled = BTreeSet::new();
        // Apart, since each is mostly in order then, and costs no sorting.
        let mut real = Pairs::with_capacity(model.pods.len());
        let mut assumed = Pairs::with_capacity(model.pods.len());
        let is_real = |budget: u32| (budget as usize) < model.budgets.len();
        // Where policy names pods, no other says what becomes of one.
        let has_names = !policy.consent.pods.is_empty();
        let mut alike = [false; BLOCK];
        let mut fates = [Fate::Stays; BLOCK];
        // The owner of the pod before, if that was shown or is like one that was.
        let mut last: Option<Option<u32>> = None;
        for (source, pod) in model.pods.iter().enumerate() {
            let at = source % BLOCK;
            if at == 0 {
                let end = model.pods.len().min(source + BLOCK);
                let pods = &model.pods[source..end];
                if !goes_on(&model.pods[source.saturating_sub(1)..end]) {
                    has_all = false;
                    break;
                }
                names.find(pods, &mut on);
                let before = source.checked_sub(1).map(|before| &model.pods[before]);
                mark_alike(before, pods, &mut alike);
                let mut before = fates[BLOCK - 1];
                for ((fate, pod), is_alike) in fates.iter_mut().zip(pods).zip(alike) {
                    if !is_alike || has_names {
                        before = Fate::of(pod, policy);
                    }
                    *fate = before;
                }
            }
            let (node, fate) = (on[at], fates[at]);
            let like = last.filter(|_| alike[at]);
            let (budgets, owner) = match like {
                Some(owner) => (matcher.count_like_last(pod), owner),
                None => {
                    last = None;
                    if pod.is_finished() {
                        continue;
                    }
                    let (budgets, owner) = matcher.count(pod);
                    let is_shown = node != NOWHERE && !has_names;
                    last = is_shown.then_some(owner);
                    (budgets, owner)
                }
            };
            visit(Visited {
                source,
                pod,
                node: (node != NOWHERE).then_some(node),
                owner,
                fate,
                is_like_last: like.is_some(),
            });
            if node == NOWHERE || !fate.leaves() {
                continue;
            }
            if fate == Fate::Asks {
                asking.push(node);
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
            let is_healthy = pod.is_healthy();
            if is_doubly_guarded || !is_healthy {
                troubled.insert(pod.id.namespace.as_str());
            }
            // A pod that is not Ready spends nothing when it goes.
            if is_healthy {
                for &budget in budgets {
                    let pairs = if is_real(budget) {
                        &mut real
                    } else {
                        &mut assumed
                    };
                    pairs.push(budget, node);
                }
            }
        }
        asking.sort_unstable();
        asking.dedup();
        let budgets = matcher.finish();
        let touches = Touches::new(model.nodes.len(), budgets.len(), [real, assumed]);
        let blocking = budgets.iter().filter(|budget| budget.may_block);
        troubled.extend(blocking.map(|budget| budget.source.namespace()));
        let interned = Self {
            budgets,
            pools: Pools::of(model, policy),
            loads,
            touches,
            doubly_guarded,
            asking,
            troubled,
        };
        (interned, has_all)
    }

    /// The budgets that pods of `node` count for, by budget.
    pub(crate) fn touches(&self, node: u32) -> &[Touch] {
        self.touches.of_node(node)
    }

    /// The nodes of the pods that budget `id` counts.
    pub(crate) fn shares_of(&self, id: usize) -> &[Share] {
        self.touches.of_budget(id)
    }

    /// Budgets, each with the nodes of the pods that it counts.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&Budget<'m>, &[Share])> {
        let shares = (0..).map(|id| self.touches.of_budget(id));
        self.budgets.iter().zip(shares)
    }
}
