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

pub use account::{Blocked, BlockedReason, BudgetKey, BudgetKind, BudgetView};

use std::collections::{BTreeMap, BTreeSet};

use account::Account;

use crate::{
    AssumedBudgetPolicy, ClusterModel, DisruptionBudget, Pod, PodPhase, Workload, WorkloadId,
};

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
    held: Option<Held>,
    /// Budgets that guard it: one or more real ones, else at most one assumed.
    keys: Vec<BudgetKey>,
    /// The account of its whole workload, in force or not.
    whole: Option<BudgetKey>,
}

/// A pod that was asked to go.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The API server takes a disruption off its real budgets for it.
    spends: bool,
}

impl Entry {
    fn counts(&self) -> bool {
        self.held.is_none() && self.pod.is_healthy()
    }

    fn is_covered(&self) -> bool {
        self.real().next().is_some()
    }

    fn real(&self) -> impl Iterator<Item = &BudgetKey> {
        self.keys.iter().filter(|key| key.kind == BudgetKind::Real)
    }

    /// Whether no budget is asked: it is going already, or has never run.
    fn goes_freely(&self) -> bool {
        let started = self.pod.phase != PodPhase::Pending || self.pod.ready;
        self.pod.deletion.is_some() || !started
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
        let held = self.pods.get(&pod.id.uid).and_then(|entry| entry.held);
        self.forget_pod(&pod.id.uid);
        if pod.is_finished() {
            return;
        }
        let (keys, whole) = self.keys_of(pod);
        let entry = Entry {
            pod: pod.clone(),
            held,
            keys,
            whole,
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
        if !self.guarded || entry.held.is_some() || entry.goes_freely() {
            return None;
        }
        let mut real = entry.real();
        if let (Some(first), Some(second)) = (real.next(), real.next()) {
            return Some(Blocked::two_budgets(first, second));
        }
        self.asked(entry)
            .find_map(|(key, account)| account.blocked(key, entry.pod.is_healthy()))
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
        !entry.goes_freely() && (entry.pod.is_healthy() || !entry.real().all(lets_go))
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
                account.post(&entry.pod.id.name, entry.counts(), spends, sign);
                if key.kind == BudgetKind::Assumed && !entry.is_covered() {
                    account.post_uncovered(sign);
                }
                account.settle();
            }
        }
    }

    /// The budgets that guard `pod`, and the account of its whole workload.
    fn keys_of(&mut self, pod: &Pod) -> (Vec<BudgetKey>, Option<BudgetKey>) {
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
        let whole = self.whole_of(pod);
        match real.is_empty() {
            true => (whole.iter().cloned().collect(), whole),
            false => (real, whole),
        }
    }

    fn whole_of(&mut self, pod: &Pod) -> Option<BudgetKey> {
        let id = pod.workload.as_ref()?;
        let replicas = self.workloads.get(id).copied().filter(|n| *n >= 2)?;
        let excluded = self.policy.exclude_namespaces.contains(&pod.id.namespace);
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
                (entry.keys, entry.whole) = self.keys_of(&entry.pod);
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
        self.accounts.retain(|key, account| {
            key.kind == BudgetKind::Real || key.namespace != namespace || !account.is_unused()
        });
    }
}

#[cfg(test)]
mod tests;
