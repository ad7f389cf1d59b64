//! Which budgets count a pod: the rule of [`migrate_core::BudgetLedger`], asked
//! once for pods that are alike.

use std::ops::Range;

use migrate_core::model::Labels;
use migrate_core::{
    AssumedBudgetPolicy, ClusterModel, DisruptionBudget, Pod, Shared, Workload, WorkloadId,
};
use rustc_hash::FxHashMap;

use super::guards::Guards;
use super::{Budget, BudgetSource};

/// Matches pods one by one and counts the healthy ones of each budget.
pub(super) struct Matcher<'m, 'p> {
    model: &'m ClusterModel,
    policy: &'p AssumedBudgetPolicy,
    ids: FxHashMap<&'m str, u32>,
    namespaces: Vec<Namespace<'m>>,
    /// By workload of the model.
    workloads: Vec<Guarded>,
    /// The workload after the last that was found: pods come in an order in which it
    /// is mostly the next to be asked for.
    likely: usize,
    budgets: Vec<Budget<'m>>,
    /// The last pod that was looked at closely, and what was found: neighbours
    /// in a sorted model are mostly pods of one workload.
    last: Option<Last<'m>>,
    found: Vec<u32>,
}

/// A namespace: where its budgets and workloads are, and how they are found, once
/// somebody has asked.
#[derive(Default)]
struct Namespace<'m> {
    budgets: Vec<Range<u32>>,
    workloads: Vec<Range<u32>>,
    guards: Option<Guards<'m>>,
    by_name: Option<FxHashMap<(&'m str, &'m str), u32>>,
}

/// A workload that an assumed budget may guard.
#[derive(Clone, Copy)]
struct Guarded {
    assumed: Assumed,
    /// Healthy pods that real budgets match: the assumed budget of the others
    /// counts them too.
    covered: u32,
}

#[derive(Clone, Copy)]
enum Assumed {
    Unasked,
    None,
    Budget(u32),
}

/// A pod, and all that its budgets depend on.
#[derive(Clone, Copy)]
struct Last<'m> {
    namespace: &'m str,
    labels: &'m Labels,
    owner: Option<&'m Shared<WorkloadId>>,
    /// The position of its owner in the model.
    position: Option<u32>,
    /// The same, if real budgets count the pod.
    covers: Option<u32>,
    at: u32,
}

impl<'m, 'p> Matcher<'m, 'p> {
    pub(super) fn new(model: &'m ClusterModel, policy: &'p AssumedBudgetPolicy) -> Self {
        let mut matcher = Self {
            model,
            policy,
            ids: FxHashMap::default(),
            namespaces: Vec::new(),
            workloads: vec![Guarded::UNASKED; model.workloads.len()],
            likely: 0,
            budgets: model.budgets.iter().map(Budget::real).collect(),
            last: None,
            found: Vec::new(),
        };
        let budgets = model.budgets.iter().map(|one| one.namespace.as_str());
        for (name, range) in stretches(budgets) {
            let id = matcher.namespace(name);
            matcher.namespaces[id as usize].budgets.push(range);
        }
        let workloads = model.workloads.iter();
        for (name, range) in stretches(workloads.map(|one| one.id.namespace.as_str())) {
            let id = matcher.namespace(name);
            matcher.namespaces[id as usize].workloads.push(range);
        }
        matcher
    }

    /// The budgets that count `pod`, lowest id first: one or more real ones,
    /// else at most one assumed; and the position of its workload in the model.
    pub(super) fn count(&mut self, pod: &'m Pod) -> (&[u32], Option<u32>) {
        let last = match self.last {
            Some(last) if self.is_like(&last, pod) => last,
            last => self.find(pod, last),
        };
        self.add(pod, last.covers);
        (&self.found, last.position)
    }

    /// The budgets that count `pod`, which has all that they depend on alike with the
    /// one that was counted before.
    pub(super) fn count_like_last(&mut self, pod: &Pod) -> &[u32] {
        self.add(pod, self.last.and_then(|last| last.covers));
        &self.found
    }

    fn add(&mut self, pod: &Pod, covers: Option<u32>) {
        if pod.is_healthy() {
            for &id in &self.found {
                self.budgets[id as usize].healthy += 1;
            }
            if let Some(owner) = covers {
                self.workloads[owner as usize].covered += 1;
            }
        }
    }

    /// The budgets, now that every pod has been counted.
    pub(super) fn finish(mut self) -> Vec<Budget<'m>> {
        for guarded in &self.workloads {
            if let Assumed::Budget(id) = guarded.assumed {
                self.budgets[id as usize].healthy += guarded.covered;
            }
        }
        for budget in &mut self.budgets {
            budget.settle();
        }
        self.budgets
    }

    /// Whether `pod` has the budgets that were found last. Compares what they
    /// depend on and no more: most of a plan's time goes into reading pods.
    fn is_like(&self, last: &Last<'m>, pod: &Pod) -> bool {
        let has_values = || {
            let guards = self.namespaces[last.at as usize].guards.as_ref();
            guards.is_none_or(|guards| guards.tells_alike(&pod.labels, last.labels))
        };
        last.namespace == pod.id.namespace
            && last.owner == pod.workload.as_ref()
            && (last.labels.is_same(&pod.labels) || has_values())
    }

    fn find(&mut self, pod: &'m Pod, last: Option<Last<'m>>) -> Last<'m> {
        let namespace = pod.id.namespace.as_str();
        let at = match last.filter(|last| last.namespace == namespace) {
            Some(last) => last.at,
            None => self.enter(namespace),
        };
        self.found.clear();
        if let Some(guards) = &self.namespaces[at as usize].guards {
            guards.find(&self.model.budgets, &pod.labels, &mut self.found);
        }
        let owner = pod.workload.as_ref();
        let position = owner.and_then(|owner| self.position(owner, namespace, at));
        let is_guarded = !self.found.is_empty();
        if !is_guarded {
            let assumed = position.and_then(|position| self.assumed_for(position));
            self.found.extend(assumed);
        }
        let last = Last {
            namespace,
            labels: &pod.labels,
            owner,
            position,
            covers: position.filter(|_| is_guarded),
            at,
        };
        self.last = Some(last);
        last
    }

    /// The number of the namespace `name`, whose budgets can be asked from now on.
    fn enter(&mut self, name: &'m str) -> u32 {
        let id = self.namespace(name);
        let namespace = &mut self.namespaces[id as usize];
        if namespace.guards.is_none() {
            let ranges = namespace.budgets.iter();
            let mut guards = Guards::with_capacity(ranges.map(ExactSizeIterator::len).sum());
            for id in namespace.budgets.iter().cloned().flatten() {
                // An absent selector matches nothing.
                if let Some(selector) = &self.model.budgets[id as usize].selector {
                    guards.add(id, selector);
                }
            }
            namespace.guards = Some(guards);
        }
        id
    }

    fn namespace(&mut self, name: &'m str) -> u32 {
        let next = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX);
        let id = *self.ids.entry(name).or_insert(next);
        if id == next {
            self.namespaces.push(Namespace::default());
        }
        id
    }

    /// Where in the model the workload `id` of a pod in `namespace`, number `at`, is.
    fn position(&mut self, id: &WorkloadId, namespace: &str, at: u32) -> Option<u32> {
        let found = self.guess(id).or_else(|| self.look_up(id, namespace, at))?;
        self.likely = found as usize + 1;
        Some(found)
    }

    /// Whether it is the likely one; of equal ones that stand together the last, as
    /// if it were looked up.
    fn guess(&self, id: &WorkloadId) -> Option<u32> {
        let workloads = self.model.workloads.get(self.likely..)?;
        let equal = workloads.iter().take_while(|workload| workload.id == *id);
        let last = self.likely + equal.count().checked_sub(1)?;
        u32::try_from(last).ok()
    }

    fn look_up(&mut self, id: &WorkloadId, namespace: &str, at: u32) -> Option<u32> {
        let at = match id.namespace == namespace {
            true => at,
            false => *self.ids.get(id.namespace.as_str())?,
        };
        let model = self.model;
        let namespace = &mut self.namespaces[at as usize];
        let ranges = namespace.workloads.iter().cloned().flatten();
        let by_name = namespace.by_name.get_or_insert_with(|| {
            let names = ranges.map(|at| {
                let id = &model.workloads[at as usize].id;
                ((id.kind.as_str(), id.name.as_str()), at)
            });
            names.collect()
        });
        by_name.get(&(id.kind.as_str(), id.name.as_str())).copied()
    }

    fn assumed_for(&mut self, position: u32) -> Option<u32> {
        let guarded = &mut self.workloads[position as usize];
        if let Assumed::Unasked = guarded.assumed {
            let workload = &self.model.workloads[position as usize];
            guarded.assumed = match self.policy.needs(workload) {
                Some(desired) => {
                    let id = u32::try_from(self.budgets.len()).ok()?;
                    self.budgets.push(Budget::assumed(workload, desired));
                    Assumed::Budget(id)
                }
                None => Assumed::None,
            };
        }
        match guarded.assumed {
            Assumed::Budget(id) => Some(id),
            _ => None,
        }
    }
}

impl Guarded {
    const UNASKED: Self = Self {
        assumed: Assumed::Unasked,
        covered: 0,
    };
}

/// Where equal names stand beside each other.
fn stretches<'m>(
    names: impl Iterator<Item = &'m str>,
) -> impl Iterator<Item = (&'m str, Range<u32>)> {
    let mut names = (0..).zip(names).peekable();
    std::iter::from_fn(move || {
        let (from, name) = names.next()?;
        let mut to = from + 1;
        while names.next_if(|(_, next)| *next == name).is_some() {
            to += 1;
        }
        Some((name, from..to))
    })
}

impl<'m> Budget<'m> {
    fn real(budget: &'m DisruptionBudget) -> Self {
        Self {
            source: BudgetSource::Real(budget),
            allowed: 0,
            steady: 0,
            healthy: 0,
            expected: 0,
            desired: 0,
            may_block: false,
        }
    }

    fn assumed(workload: &'m Workload, desired: u32) -> Self {
        Self {
            source: BudgetSource::Assumed(workload),
            allowed: 0,
            steady: 0,
            healthy: 0,
            expected: workload.replicas,
            desired,
            may_block: false,
        }
    }

    /// Works out what is allowed from the healthy pods counted.
    fn settle(&mut self) {
        let counted = self.healthy;
        self.balance();
        // The status may be older than the pods, and a spec that never lets go
        // does so while a rollout has more pods than wanted.
        self.may_block =
            self.allowed == 0 || counted <= self.desired || self.expected <= self.desired;
        // Nobody tells a run when pods of a controller that is not read are back:
        // there the drain alone decides when one may go.
        if matches!(self.source, BudgetSource::Assumed(workload) if workload.id.is_counted()) {
            self.allowed = self.allowed.max(self.steady);
        }
    }

    fn balance(&mut self) {
        let BudgetSource::Real(budget) = self.source else {
            self.allowed = self.healthy.saturating_sub(self.desired);
            self.steady = self.expected.saturating_sub(self.desired);
            return;
        };
        let count = |n: i32| u32::try_from(n).unwrap_or(0);
        let status = &budget.status;
        if status.sync_failed.is_some() {
            return;
        }
        if !status.observed {
            // Its status says nothing yet: what its spec will come to.
            self.expected = self.healthy;
            self.desired = budget.desired_healthy(self.expected);
            self.steady = self.expected.saturating_sub(self.desired);
            return;
        }
        self.healthy = count(status.current_healthy);
        self.expected = count(status.expected_pods);
        self.desired = count(status.desired_healthy);
        self.allowed = count(status.disruptions_allowed);
        self.steady = self.expected.saturating_sub(self.desired).max(self.allowed);
    }
}
