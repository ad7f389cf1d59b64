//! Which budgets count a pod: the rule of [`migrate_core::BudgetLedger`], with
//! an index over selectors instead of a scan per pod.

use migrate_core::{
    AssumedBudgetPolicy, ClusterModel, DisruptionBudget, Pod, Workload, WorkloadId,
};
use rustc_hash::FxHashMap;

use super::{Budget, BudgetSource};

/// Matches pods one by one and counts the healthy ones of each budget.
pub(super) struct Matcher<'m> {
    policy: AssumedBudgetPolicy,
    namespaces: FxHashMap<&'m str, NamespaceBudgets<'m>>,
    /// Workloads that an assumed budget may guard.
    workloads: FxHashMap<&'m WorkloadId, &'m Workload>,
    assumed: FxHashMap<&'m WorkloadId, u32>,
    budgets: Vec<Budget<'m>>,
    /// The last pod and its budgets: neighbours in a sorted model are mostly
    /// pods of one workload with the same labels.
    last: Option<&'m Pod>,
    found: Vec<u32>,
}

/// The real budgets of a namespace, found by one label they demand.
#[derive(Default)]
struct NamespaceBudgets<'m> {
    by_label: FxHashMap<(&'m str, &'m str), Vec<u32>>,
    /// Those that demand no particular label.
    others: Vec<u32>,
}

impl<'m> Matcher<'m> {
    pub(super) fn new(model: &'m ClusterModel, policy: &AssumedBudgetPolicy) -> Self {
        let mut namespaces: FxHashMap<&str, NamespaceBudgets<'_>> = FxHashMap::default();
        for (id, budget) in (0..).zip(&model.budgets) {
            // An absent selector matches nothing.
            let Some(selector) = &budget.selector else {
                continue;
            };
            let of_namespace = namespaces.entry(&budget.namespace).or_default();
            match selector.match_labels.first_key_value() {
                Some((key, value)) => {
                    of_namespace
                        .by_label
                        .entry((key, value))
                        .or_default()
                        .push(id);
                }
                None => of_namespace.others.push(id),
            }
        }
        let workloads = model
            .workloads
            .iter()
            .filter(|workload| workload.replaces_pods())
            .map(|workload| (&workload.id, workload));
        Self {
            policy: policy.clone(),
            namespaces,
            workloads: workloads.collect(),
            assumed: FxHashMap::default(),
            budgets: model.budgets.iter().map(Budget::real).collect(),
            last: None,
            found: Vec::new(),
        }
    }

    /// The budgets that count `pod`, lowest id first: one or more real ones,
    /// else at most one assumed.
    pub(super) fn count(&mut self, pod: &'m Pod) -> &[u32] {
        let alike = self.last.is_some_and(|last| {
            last.id.namespace == pod.id.namespace
                && last.workload == pod.workload
                && last.labels == pod.labels
        });
        if !alike {
            self.find(pod);
            self.last = Some(pod);
        }
        if pod.is_healthy() {
            for &id in &self.found {
                self.budgets[id as usize].healthy += 1;
            }
        }
        &self.found
    }

    /// The budgets, now that every pod has been counted.
    pub(super) fn finish(mut self) -> Vec<Budget<'m>> {
        for budget in &mut self.budgets {
            budget.settle();
        }
        self.budgets
    }

    fn find(&mut self, pod: &'m Pod) {
        self.found.clear();
        if let Some(budgets) = self.namespaces.get(pod.id.namespace.as_str()) {
            let labelled = pod
                .labels
                .iter()
                .filter_map(|(key, value)| budgets.by_label.get(&(key.as_str(), value.as_str())));
            let candidates = labelled.flatten().chain(&budgets.others);
            let matching = candidates.copied().filter(|&id| {
                let source = &self.budgets[id as usize].source;
                matches!(source, BudgetSource::Real(budget) if budget.matches(pod))
            });
            self.found.extend(matching);
            self.found.sort_unstable();
        }
        if self.found.is_empty()
            && let Some(id) = self.assumed_for(pod)
        {
            self.found.push(id);
        }
    }

    fn assumed_for(&mut self, pod: &Pod) -> Option<u32> {
        if !self.policy.enabled || self.policy.exclude_namespaces.contains(&pod.id.namespace) {
            return None;
        }
        let workload = *self.workloads.get(pod.workload.as_ref()?)?;
        if workload.replicas < 2 {
            return None;
        }
        let next = u32::try_from(self.budgets.len()).ok()?;
        let id = *self.assumed.entry(&workload.id).or_insert(next);
        if id == next {
            let may_go = self.policy.max_unavailable.resolve_up(workload.replicas);
            self.budgets.push(Budget::assumed(workload, may_go));
        }
        Some(id)
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
        }
    }

    fn assumed(workload: &'m Workload, may_go: u32) -> Self {
        Self {
            source: BudgetSource::Assumed(workload),
            allowed: 0,
            steady: 0,
            healthy: 0,
            expected: workload.replicas,
            desired: workload.replicas.saturating_sub(may_go),
        }
    }

    /// Works out what is allowed from the healthy pods counted.
    fn settle(&mut self) {
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
