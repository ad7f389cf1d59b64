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
//!
//! # Workloads that a real budget covers in part
//! An assumed budget is about a whole workload: it needs `replicas` less
//! `max-unavailable` healthy pods and counts every healthy pod of it, whatever
//! else guards the pod. It is in force while the workload has a pod that no
//! real budget matches. Its pods that a real budget matches then need the word
//! of both, for else each half would give away what the other relies on, and
//! more than `max-unavailable` pods of the workload would be away. It ends when
//! the workload has all its pods, healthy and covered; that the last uncovered
//! pod is gone is not enough, for that is what an eviction does. A workload
//! whose pods are all covered has only its real budgets: its owner has spoken.
//!
//! | the pod is | the API server | assumed budget |
//! |---|---|---|
//! | Pending or finished, or terminating | goes; no budget is asked | the same |
//! | not Ready, enough others healthy | goes; nothing is spent (unless its policy is unknown) | the same |
//! | not Ready, too few others healthy | stays, unless `AlwaysAllow` | goes |
//! | healthy | goes while the budget allows one | the same |
//!
//! The one difference is on purpose. A pod that is not Ready serves nobody, so
//! that its going makes nothing worse; and where no owner has asked for more, a
//! broken workload must not keep a node from its upgrade.

mod account;
mod entry;

pub use account::{Blocked, BlockedReason, BudgetKey, BudgetKind, BudgetView};

use std::collections::{BTreeMap, BTreeSet};

use account::Account;
use entry::{Entry, Held};

use crate::selector::SelectorIndex;
use crate::{AssumedBudgetPolicy, ClusterModel, DisruptionBudget, Pod, Workload, WorkloadId};

/// Joint accounts of every budget, real and assumed.
///
/// Observations may arrive in any order and more than once. Cost: a pod is
/// compared with the budgets of its namespace that demand one of its labels, or
/// no particular label. A budget or workload that is new, gone or asks for
/// other pods costs every pod of its namespace, so they come best before the
/// pods, as in [`from_model`](Self::from_model). All else is logarithmic.
#[derive(Clone, Debug)]
pub struct BudgetLedger {
    policy: AssumedBudgetPolicy,
    guarded: bool,
    accounts: BTreeMap<BudgetKey, Account>,
    workloads: BTreeMap<WorkloadId, u32>,
    pods: BTreeMap<String, Entry>,
    by_namespace: BTreeMap<String, BTreeSet<String>>,
    /// Real budgets by namespace and by what they select.
    guards: BTreeMap<String, SelectorIndex<BudgetKey>>,
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
            guards: BTreeMap::new(),
        }
    }

    /// A ledger that has seen everything in `model`.
    pub fn from_model(model: &ClusterModel, policy: AssumedBudgetPolicy) -> Self {
        Self::of_namespaces(model, policy, |_| true)
    }

    /// A ledger that has seen what `model` has in the namespaces that `concerns`
    /// names: budgets, workloads and pods of others have no bearing on them.
    pub(crate) fn of_namespaces(
        model: &ClusterModel,
        policy: AssumedBudgetPolicy,
        concerns: impl Fn(&str) -> bool,
    ) -> Self {
        let mut ledger = Self::new(policy);
        let budgets = model.budgets.iter();
        for budget in budgets.filter(|budget| concerns(&budget.namespace)) {
            ledger.observe_budget(budget);
        }
        let workloads = model.workloads.iter();
        for workload in workloads.filter(|workload| concerns(&workload.id.namespace)) {
            ledger.observe_workload(workload);
        }
        for pod in model.pods.iter().filter(|pod| concerns(&pod.id.namespace)) {
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
        let account = self.accounts.entry(key.clone());
        let old = account.or_insert_with(Account::empty).update(budget);
        if old.as_ref().map(|old| &old.selector) != Some(&budget.selector) {
            let guards = self.guards.entry(budget.namespace.clone()).or_default();
            if let Some(selector) = old.and_then(|old| old.selector) {
                guards.remove(&selector, &key);
            }
            // An absent selector matches nothing.
            if let Some(selector) = &budget.selector {
                guards.insert(selector, key);
            }
            self.rematch(&budget.namespace);
        }
    }

    /// Takes note that a PodDisruptionBudget is gone.
    pub fn forget_budget(&mut self, namespace: &str, name: &str) {
        let key = BudgetKey::real(namespace, name);
        let Some(account) = self.accounts.remove(&key) else {
            return;
        };
        let selector = account.object().and_then(|old| old.selector.as_ref());
        if let (Some(selector), Some(guards)) = (selector, self.guards.get_mut(namespace)) {
            guards.remove(selector, &key);
        }
        self.rematch(namespace);
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
        let held = self.take(&pod.id.uid).and_then(|entry| entry.held);
        let namespace = &pod.id.namespace;
        if pod.is_finished() {
            self.leave(namespace, &pod.id.uid);
            return;
        }
        let mut entry = Entry::of(pod, held);
        (entry.keys, entry.whole) = self.keys_of(&entry);
        self.post(&entry, 1);
        let uids = self.by_namespace.entry(namespace.clone()).or_default();
        uids.insert(pod.id.uid.clone());
        self.pods.insert(pod.id.uid.clone(), entry);
    }

    /// Takes note that a pod is gone.
    pub fn forget_pod(&mut self, uid: &str) {
        if let Some(entry) = self.take(uid) {
            self.leave(&entry.namespace, uid);
        }
    }

    /// Takes the pod out, and out of its accounts.
    fn take(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.pods.remove(uid)?;
        self.post(&entry, -1);
        Some(entry)
    }

    fn leave(&mut self, namespace: &str, uid: &str) {
        if let Some(uids) = self.by_namespace.get_mut(namespace) {
            uids.remove(uid);
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
        if !self.guarded || entry.held.is_some() || entry.goes_freely {
            return None;
        }
        let mut real = entry.real();
        if let (Some(first), Some(second)) = (real.next(), real.next()) {
            return Some(Blocked::two_budgets(first, second));
        }
        self.asked(entry)
            .find_map(|(key, account)| account.blocked(key, entry.is_healthy))
    }

    /// What it means that the API calls `budget` exhausted, whatever the ledger
    /// thinks of it: its numbers, or zeros for one that was never observed.
    pub fn exhausted(&self, budget: BudgetKey) -> Blocked {
        let view = self.account(&budget);
        Blocked::exhausted(budget, view)
    }

    /// Takes the pod out of its budgets because it is about to be asked to go.
    ///
    /// # Errors
    /// The reason why it may not be asked now; nothing has changed then.
    pub fn hold(&mut self, uid: &str) -> Result<(), Blocked> {
        if let Some(blocked) = self.blocked(uid) {
            return Err(blocked);
        }
        let spends = self.pods.get(uid).is_some_and(|entry| self.spends(entry));
        self.set_held(uid, Some(Held { spends }));
        Ok(())
    }

    /// Gives the pod back to its budgets: it was refused and stays.
    pub fn release(&mut self, uid: &str) {
        self.set_held(uid, None);
    }

    /// Whether the pod is held.
    pub fn is_held(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|entry| entry.held.is_some())
    }

    /// The budgets that guard the pod: every real one that matches it, else the
    /// assumed one of its workload, if it has one.
    pub fn budgets_of(&self, uid: &str) -> &[BudgetKey] {
        self.pods.get(uid).map_or(&[], |entry| &entry.keys)
    }

    /// The budgets that are asked before the pod may go: those that guard it,
    /// and the assumed one of its workload where real budgets cover that in part.
    pub fn budgets_asked(&self, uid: &str) -> impl Iterator<Item = &BudgetKey> {
        let entry = self.pods.get(uid).into_iter();
        entry
            .flat_map(|entry| self.asked(entry))
            .map(|(key, _)| key)
    }

    /// Every account in force as it stands, ordered by key.
    pub fn accounts(&self) -> impl Iterator<Item = BudgetView> + '_ {
        let accounts = self.accounts.iter().filter(|(_, a)| a.is_in_force());
        accounts.map(|(key, account)| account.view(key))
    }

    /// One account as it stands, if it is in force.
    pub fn account(&self, key: &BudgetKey) -> Option<BudgetView> {
        let account = self.accounts.get(key).filter(|a| a.is_in_force())?;
        Some(account.view(key))
    }

    fn asked<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (&'a BudgetKey, &'a Account)> {
        entry.real().chain(&entry.whole).filter_map(|key| {
            let account = self.accounts.get(key).filter(|a| a.is_in_force())?;
            Some((key, account))
        })
    }

    /// Whether the API server will take a disruption off a real budget.
    fn spends(&self, entry: &Entry) -> bool {
        let lets_go = |key| {
            let account = self.accounts.get(key);
            account.is_some_and(Account::lets_sick_pods_go)
        };
        !entry.goes_freely && (entry.is_healthy || !entry.real().all(lets_go))
    }

    fn set_held(&mut self, uid: &str, held: Option<Held>) {
        let Some(mut entry) = self.pods.remove(uid) else {
            return;
        };
        if entry.held.is_some() != held.is_some() {
            self.post(&entry, -1);
            entry.held = held;
            self.post(&entry, 1);
        }
        self.pods.insert(uid.to_owned(), entry);
    }

    /// Adds (`sign` 1) or takes away (-1) what `entry` counts in its accounts.
    fn post(&mut self, entry: &Entry, sign: i32) {
        let spends = entry.held.map(|held| held.spends);
        for key in entry.real().chain(&entry.whole) {
            if let Some(account) = self.accounts.get_mut(key) {
                account.post(&entry.name, entry.counts(), spends, sign);
                if key.kind == BudgetKind::Assumed && !entry.is_covered() {
                    account.post_uncovered(sign);
                }
                account.settle();
            }
        }
    }

    /// The budgets that guard `pod`, and the account of its whole workload.
    fn keys_of(&mut self, pod: &Entry) -> (Vec<BudgetKey>, Option<BudgetKey>) {
        let guards = self.guards.get(&pod.namespace).into_iter();
        let mut real: Vec<BudgetKey> = guards
            .flat_map(|guards| guards.candidates(&pod.labels))
            .filter(|key| {
                let object = self.accounts.get(key).and_then(Account::object);
                object.is_some_and(|budget| budget.selects(&pod.labels))
            })
            .cloned()
            .collect();
        real.sort();
        let whole = self.whole_of(pod);
        match real.is_empty() {
            true => (whole.iter().cloned().collect(), whole),
            false => (real, whole),
        }
    }

    fn whole_of(&mut self, pod: &Entry) -> Option<BudgetKey> {
        let id = pod.workload.as_deref()?;
        let replicas = self.workloads.get(id).copied().filter(|n| *n >= 2)?;
        let excluded = self.policy.exclude_namespaces.contains(&pod.namespace);
        if !self.policy.enabled || excluded {
            return None;
        }
        let key = BudgetKey::assumed(id);
        let max = &self.policy.max_unavailable;
        self.accounts
            .entry(key.clone())
            .or_insert_with(|| Account::assumed(replicas, max));
        Some(key)
    }

    /// Matches every pod of a namespace anew: budgets or workloads changed.
    fn rematch(&mut self, namespace: &str) {
        let uids = self.by_namespace.get(namespace).cloned();
        let mut covered = BTreeSet::new();
        for uid in uids.unwrap_or_default() {
            if let Some(mut entry) = self.pods.remove(&uid) {
                self.post(&entry, -1);
                let before = entry.is_covered();
                (entry.keys, entry.whole) = self.keys_of(&entry);
                self.post(&entry, 1);
                if entry.is_covered() && !before {
                    covered.extend(entry.whole.clone());
                }
                self.pods.insert(uid, entry);
            }
        }
        // The pods did not go: they are guarded otherwise now.
        for key in covered {
            if let Some(account) = self.accounts.get_mut(&key) {
                account.end_if_covered();
            }
        }
        // Assumed accounts that no pod counts for any more say nothing.
        let first = BudgetKey {
            kind: BudgetKind::Assumed,
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let assumed = self.accounts.range(&first..);
        let unused: Vec<BudgetKey> = assumed
            .take_while(|(key, _)| {
                key.kind == BudgetKind::Assumed && key.namespace == first.namespace
            })
            .filter(|(_, account)| account.is_unused())
            .map(|(key, _)| key.clone())
            .collect();
        for key in unused {
            self.accounts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
