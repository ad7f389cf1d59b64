//! The budget ledger: who may be evicted now, over all nodes in flight.
//!
//! One ledger holds the real budgets (PodDisruptionBudgets) and the assumed
//! ones (workloads without any). A pod counts for its budget from the moment
//! it is seen healthy until it is asked to go, and its replacement counts only
//! once it is Ready, so a budget is held exactly from eviction to replacement.
//!
//! For real budgets the API server has the last word; the ledger keeps us from
//! asking in vain and from spending what another of our nodes needs. For
//! assumed budgets the ledger is the only guard.

mod account;

pub use account::{Blocked, BlockedReason, BudgetKey, BudgetKind, BudgetView};

use std::collections::{BTreeMap, BTreeSet};

use account::Account;

use crate::{AssumedBudgetPolicy, ClusterModel, DisruptionBudget, Pod, Workload, WorkloadId};

/// Joint accounts of every budget, real and assumed.
///
/// Observations may arrive in any order and more than once. Cost: an
/// observation of a pod is linear in the budgets of its namespace, everything
/// else is logarithmic.
#[derive(Clone, Debug)]
pub struct BudgetLedger {
    policy: AssumedBudgetPolicy,
    guarded: bool,
    accounts: BTreeMap<BudgetKey, Account>,
    workloads: BTreeMap<WorkloadId, u32>,
    pods: BTreeMap<String, Entry>,
    by_namespace: BTreeMap<String, BTreeSet<String>>,
}

/// A pod the ledger has seen.
#[derive(Clone, Debug)]
struct Entry {
    pod: Pod,
    /// Asked to go by us, answer outstanding or granted.
    held: bool,
    /// Budgets that count it: one or more real ones, else at most one assumed.
    keys: Vec<BudgetKey>,
}

impl Entry {
    fn counts(&self) -> bool {
        !self.held && self.pod.is_healthy()
    }
}

impl BudgetLedger {
    /// An empty ledger.
    pub fn new(policy: AssumedBudgetPolicy) -> Self {
        Self {
            policy,
            guarded: true,
            accounts: BTreeMap::new(),
            workloads: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
        }
    }

    /// A ledger that has seen everything in `model`.
    pub fn from_model(model: &ClusterModel, policy: AssumedBudgetPolicy) -> Self {
        let mut ledger = Self::new(policy);
        for budget in &model.budgets {
            ledger.observe_budget(budget);
        }
        for workload in &model.workloads {
            ledger.observe_workload(workload);
        }
        for pod in &model.pods {
            ledger.observe_pod(pod);
        }
        ledger
    }

    /// A ledger that never objects: the negative control of safety tests.
    #[doc(hidden)]
    #[must_use]
    pub fn unguarded(mut self) -> Self {
        self.guarded = false;
        self
    }

    /// Takes note of a PodDisruptionBudget, new or changed.
    pub fn observe_budget(&mut self, budget: &DisruptionBudget) {
        let key = BudgetKey::real(&budget.namespace, &budget.name);
        let selector_changed = match self.accounts.get_mut(&key) {
            Some(account) => account.update(budget),
            None => {
                self.accounts.insert(key, Account::real(budget));
                true
            }
        };
        if selector_changed {
            self.rematch(&budget.namespace);
        }
    }

    /// Takes note that a PodDisruptionBudget is gone.
    pub fn forget_budget(&mut self, namespace: &str, name: &str) {
        if self
            .accounts
            .remove(&BudgetKey::real(namespace, name))
            .is_some()
        {
            self.rematch(namespace);
        }
    }

    /// Takes note of a workload, new or changed.
    pub fn observe_workload(&mut self, workload: &Workload) {
        let evictable = workload.replaces_pods();
        let before = self.workloads.get(&workload.id).copied();
        if !evictable || before == Some(workload.replicas) {
            return;
        }
        self.workloads
            .insert(workload.id.clone(), workload.replicas);
        let assumes = |replicas: Option<u32>| replicas.is_some_and(|n| n >= 2);
        if assumes(before) && assumes(Some(workload.replicas)) {
            let key = BudgetKey::assumed(&workload.id);
            if let Some(account) = self.accounts.get_mut(&key) {
                account.expect(workload.replicas, &self.policy.max_unavailable);
            }
        } else {
            self.rematch(&workload.id.namespace);
        }
    }

    /// Takes note that a workload is gone.
    pub fn forget_workload(&mut self, id: &WorkloadId) {
        if self.workloads.remove(id).is_some() {
            self.accounts.remove(&BudgetKey::assumed(id));
            self.rematch(&id.namespace);
        }
    }

    /// Takes note of a pod, new or changed. A hold on it stays.
    pub fn observe_pod(&mut self, pod: &Pod) {
        let held = self.pods.get(&pod.id.uid).is_some_and(|e| e.held);
        self.forget_pod(&pod.id.uid);
        if pod.is_finished() {
            return;
        }
        let keys = self.keys_of(pod);
        let entry = Entry {
            pod: pod.clone(),
            held,
            keys,
        };
        self.post(&entry, 1);
        self.by_namespace
            .entry(pod.id.namespace.clone())
            .or_default()
            .insert(pod.id.uid.clone());
        self.pods.insert(pod.id.uid.clone(), entry);
    }

    /// Takes note that a pod is gone.
    pub fn forget_pod(&mut self, uid: &str) {
        if let Some(entry) = self.pods.remove(uid) {
            self.post(&entry, -1);
            if let Some(uids) = self.by_namespace.get_mut(&entry.pod.id.namespace) {
                uids.remove(uid);
            }
        }
    }

    /// Why the pod may not be evicted now; `None` when it may.
    ///
    /// A pod the ledger has never seen is blocked: deciding without having
    /// looked would be a guess.
    pub fn blocked(&self, uid: &str) -> Option<Blocked> {
        let Some(entry) = self.pods.get(uid) else {
            return Some(Blocked::unseen());
        };
        if !self.guarded || entry.held || entry.pod.deletion.is_some() {
            return None;
        }
        let mut real = entry.keys.iter().filter(|k| k.kind == BudgetKind::Real);
        if let (Some(first), Some(second)) = (real.next(), real.next()) {
            return Some(Blocked::two_budgets(first, second));
        }
        entry.keys.iter().find_map(|key| {
            self.accounts
                .get(key)
                .and_then(|account| account.blocked(key, entry.pod.is_healthy()))
        })
    }

    /// Takes the pod out of its budgets because it is about to be asked to go.
    ///
    /// # Errors
    /// The reason why it may not be asked now; nothing has changed then.
    pub fn hold(&mut self, uid: &str) -> Result<(), Blocked> {
        if let Some(blocked) = self.blocked(uid) {
            return Err(blocked);
        }
        self.set_held(uid, true);
        Ok(())
    }

    /// Gives the pod back to its budgets: it was refused and stays.
    pub fn release(&mut self, uid: &str) {
        self.set_held(uid, false);
    }

    /// Whether the pod is held.
    pub fn is_held(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|entry| entry.held)
    }

    /// The budgets that count the pod.
    pub fn budgets_of(&self, uid: &str) -> &[BudgetKey] {
        self.pods.get(uid).map_or(&[], |entry| &entry.keys)
    }

    /// Every account as it stands, ordered by key.
    pub fn accounts(&self) -> impl Iterator<Item = BudgetView> + '_ {
        self.accounts.iter().map(|(key, account)| account.view(key))
    }

    /// One account as it stands.
    pub fn account(&self, key: &BudgetKey) -> Option<BudgetView> {
        self.accounts.get(key).map(|account| account.view(key))
    }

    fn set_held(&mut self, uid: &str, held: bool) {
        let Some(mut entry) = self.pods.remove(uid) else {
            return;
        };
        if entry.held != held {
            self.post(&entry, -1);
            entry.held = held;
            self.post(&entry, 1);
        }
        self.pods.insert(uid.to_owned(), entry);
    }

    /// Adds (`sign` 1) or takes away (-1) what `entry` counts in its accounts.
    fn post(&mut self, entry: &Entry, sign: i32) {
        for key in &entry.keys {
            if let Some(account) = self.accounts.get_mut(key) {
                account.post(&entry.pod.id.name, entry.counts(), entry.held, sign);
            }
        }
    }

    fn keys_of(&mut self, pod: &Pod) -> Vec<BudgetKey> {
        let first = BudgetKey::real(&pod.id.namespace, "");
        let real: Vec<BudgetKey> = self
            .accounts
            .range(&first..)
            .take_while(|(key, _)| {
                key.kind == BudgetKind::Real && key.namespace == pod.id.namespace
            })
            .filter(|(_, account)| account.matches(pod))
            .map(|(key, _)| key.clone())
            .collect();
        if !real.is_empty() {
            return real;
        }
        let excluded = self.policy.exclude_namespaces.contains(&pod.id.namespace);
        let Some(id) = pod.workload.as_ref() else {
            return Vec::new();
        };
        match self.workloads.get(id) {
            Some(&replicas) if self.policy.enabled && !excluded && replicas >= 2 => {
                let key = BudgetKey::assumed(id);
                let max = &self.policy.max_unavailable;
                self.accounts
                    .entry(key.clone())
                    .or_insert_with(|| Account::assumed(replicas, max));
                vec![key]
            }
            _ => Vec::new(),
        }
    }

    /// Matches every pod of a namespace anew: budgets or workloads changed.
    fn rematch(&mut self, namespace: &str) {
        let uids = self.by_namespace.get(namespace).cloned();
        for uid in uids.unwrap_or_default() {
            if let Some(mut entry) = self.pods.remove(&uid) {
                self.post(&entry, -1);
                entry.keys = self.keys_of(&entry.pod);
                self.post(&entry, 1);
                self.pods.insert(uid, entry);
            }
        }
        // Assumed accounts that no pod counts for any more say nothing.
        self.accounts.retain(|key, account| {
            key.kind == BudgetKind::Real || key.namespace != namespace || !account.is_unused()
        });
    }
}

#[cfg(test)]
mod tests;
