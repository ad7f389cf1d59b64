//! Which budgets count a pod: the rule of [`migrate_core::BudgetLedger`], with
//! an index over selectors instead of a scan per pod.

use migrate_core::selector::SelectorIndex;
use migrate_core::{
    AssumedBudgetPolicy, ClusterModel, DisruptionBudget, LabelSelector, Pod, Workload, WorkloadId,
};
use rustc_hash::FxHashMap;

use super::{Budget, BudgetSource};

/// Matches pods one by one and counts the healthy ones of each budget.
pub(super) struct Matcher<'m> {
    namespaces: FxHashMap<&'m str, usize>,
    guards: Vec<Guards<'m>>,
    /// Workloads that an assumed budget may guard.
    workloads: FxHashMap<&'m WorkloadId, Guarded<'m>>,
    /// Healthy pods that real budgets match: the assumed budget of the others
    /// counts them too.
    covered: FxHashMap<&'m WorkloadId, u32>,
    budgets: Vec<Budget<'m>>,
    /// The last pod that was looked at closely, and what was found: neighbours
    /// in a sorted model are mostly pods of one workload.
    last: Option<Last<'m>>,
    found: Vec<u32>,
}

/// A workload that an assumed budget may guard.
struct Guarded<'m> {
    workload: &'m Workload,
    /// Healthy pods that the budget needs.
    desired: u32,
    /// The budget, once a pod has asked for it.
    budget: Option<u32>,
}

/// A pod, and all that its budgets depend on.
struct Last<'m> {
    pod: &'m Pod,
    /// Those of its namespace, if there are any.
    guards: Option<usize>,
    /// Its values of [`Guards::keys`].
    values: Vec<Option<&'m String>>,
    /// Real budgets count it, so its workload does not matter.
    guarded: bool,
}

/// The real budgets of a namespace.
#[derive(Default)]
struct Guards<'m> {
    /// Every label that any of them asks about.
    keys: Vec<&'m str>,
    index: SelectorIndex<u32>,
}

impl<'m> Guards<'m> {
    fn add(&mut self, id: u32, selector: &'m LabelSelector) {
        self.index.insert(selector, id);
        let expressions = selector.match_expressions.iter();
        let keys = selector.match_labels.keys();
        for key in keys.chain(expressions.map(|requirement| &requirement.key)) {
            if !self.keys.contains(&key.as_str()) {
                self.keys.push(key);
            }
        }
    }
}

impl<'m> Matcher<'m> {
    pub(super) fn new(model: &'m ClusterModel, policy: &AssumedBudgetPolicy) -> Self {
        let mut namespaces: FxHashMap<&str, usize> = FxHashMap::default();
        let mut guards: Vec<Guards<'_>> = Vec::new();
        for (id, budget) in (0..).zip(&model.budgets) {
            // An absent selector matches nothing.
            let Some(selector) = &budget.selector else {
                continue;
            };
            let place = *namespaces.entry(&budget.namespace).or_insert(guards.len());
            if place == guards.len() {
                guards.push(Guards::default());
            }
            guards[place].add(id, selector);
        }
        let mut workloads = FxHashMap::default();
        workloads.reserve(model.workloads.len());
        for workload in &model.workloads {
            if let Some(desired) = policy.needs(workload) {
                let guarded = Guarded {
                    workload,
                    desired,
                    budget: None,
                };
                workloads.insert(&workload.id, guarded);
            }
        }
        Self {
            namespaces,
            guards,
            workloads,
            covered: FxHashMap::default(),
            budgets: model.budgets.iter().map(Budget::real).collect(),
            last: None,
            found: Vec::new(),
        }
    }

    /// The budgets that count `pod`, lowest id first: one or more real ones,
    /// else at most one assumed.
    pub(super) fn count(&mut self, pod: &'m Pod) -> &[u32] {
        if !self.is_like_last(pod) {
            self.find(pod);
        }
        if pod.is_healthy() {
            for &id in &self.found {
                self.budgets[id as usize].healthy += 1;
            }
            let first = self
                .found
                .first()
                .map(|&id| self.budgets[id as usize].source);
            if let (Some(BudgetSource::Real(_)), Some(workload)) = (first, &pod.workload) {
                *self.covered.entry(workload).or_default() += 1;
            }
        }
        &self.found
    }

    /// The budgets, now that every pod has been counted.
    pub(super) fn finish(mut self) -> Vec<Budget<'m>> {
        for budget in &mut self.budgets {
            if let BudgetSource::Assumed(workload) = budget.source {
                budget.healthy += self.covered.get(&workload.id).copied().unwrap_or(0);
            }
            budget.settle();
        }
        self.budgets
    }

    /// Whether `pod` has the budgets that were found last. Compares what they
    /// depend on and no more: most of a plan's time goes into reading pods.
    fn is_like_last(&self, pod: &Pod) -> bool {
        let Some(last) = &self.last else {
            return false;
        };
        let keys = last.guards.map_or(&[][..], |at| &self.guards[at].keys);
        last.pod.id.namespace == pod.id.namespace
            && keys
                .iter()
                .zip(&last.values)
                .all(|(key, value)| pod.labels.get(*key) == *value)
            && (last.guarded || last.pod.workload == pod.workload)
    }

    fn find(&mut self, pod: &'m Pod) {
        self.found.clear();
        let at = self.namespaces.get(pod.id.namespace.as_str()).copied();
        let mut values = Vec::new();
        if let Some(guards) = at.map(|at| &self.guards[at]) {
            values.extend(guards.keys.iter().map(|key| pod.labels.get(*key)));
            let candidates = guards.index.candidates(&pod.labels);
            let matching = candidates.copied().filter(|&id| {
                let source = &self.budgets[id as usize].source;
                matches!(source, BudgetSource::Real(budget) if budget.matches(pod))
            });
            self.found.extend(matching);
            self.found.sort_unstable();
        }
        let guarded = !self.found.is_empty();
        if !guarded && let Some(id) = self.assumed_for(pod) {
            self.found.push(id);
        }
        self.last = Some(Last {
            pod,
            guards: at,
            values,
            guarded,
        });
    }

    fn assumed_for(&mut self, pod: &Pod) -> Option<u32> {
        let guarded = self.workloads.get_mut(pod.workload.as_ref()?)?;
        if guarded.budget.is_none() {
            guarded.budget = Some(u32::try_from(self.budgets.len()).ok()?);
            self.budgets
                .push(Budget::assumed(guarded.workload, guarded.desired));
        }
        guarded.budget
    }
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
