//! Workloads whose objects are not read: what they want shows in their pods.
//!
//! Such a workload is taken to want as many pods as it ever had at one time,
//! since the run was planned, less those that somebody else took: its controller,
//! which wants fewer now or makes another at once, or whoever drains nodes beside
//! us. Pods that were asked to go here are owed another.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{Pod, Workload, WorkloadId};

use super::Drain;
use super::io::Seen;

impl Drain {
    /// Remembers that a pod is being asked to go.
    pub(super) fn owe(&mut self, pod: &Pod) {
        if let Some(id) = counted(pod) {
            let owed = self.owed.entry(id.clone()).or_default();
            owed.insert(pod.id.uid.clone());
        }
    }

    /// Counts anew after a pod that was as `before` is as `now`; to be called
    /// while the ledger still knows whether it was asked to go.
    pub(super) fn count_pod(&mut self, before: Option<&Pod>, now: Option<&Pod>) {
        let was = before.filter(|pod| counted(pod).is_some());
        let is = now.and_then(counted);
        if was.and_then(counted) == is {
            return;
        }
        if let Some((pod, id)) = was.zip(was.and_then(counted)) {
            let taken = !self.is_owed(id, &pod.id.uid);
            self.recount(id, u32::from(taken));
        }
        if let Some(id) = is {
            self.recount(id, 0);
        }
    }

    /// Counts what a list shows before its pods are looked at one by one: a
    /// budget that is assumed before its pods are seen costs nothing.
    pub(super) fn count_listed(&mut self, pods: &[Seen<Pod>]) {
        let mut listed: BTreeMap<&WorkloadId, u32> = BTreeMap::new();
        for pod in pods.iter().map(|seen| &seen.value) {
            if let Some(id) = counted(pod).filter(|id| !self.is_owed(id, &pod.id.uid)) {
                *listed.entry(id).or_default() += 1;
            }
        }
        for (id, here) in listed {
            let wanted = self.wanted.get(id).copied().unwrap_or(0);
            self.want(id, wanted.max(here), here);
        }
    }

    fn is_owed(&self, id: &WorkloadId, uid: &str) -> bool {
        let asked = self.owed.get(id).is_some_and(|owed| owed.contains(uid));
        asked && self.ledger.is_held(uid)
    }

    /// `taken` pods of the workload went that nobody here had asked.
    fn recount(&mut self, id: &WorkloadId, taken: u32) {
        if let Some(owed) = self.owed.get_mut(id) {
            let (view, ledger) = (&self.view, &self.ledger);
            owed.retain(|uid| ledger.is_held(uid) && view.pod(uid).is_some_and(Pod::is_wanted));
            if owed.is_empty() {
                self.owed.remove(id);
            }
        }
        let going = self.owed.get(id).map_or(0, BTreeSet::len);
        let here = self.view.wanted(id);
        let staying = here.saturating_sub(u32::try_from(going).unwrap_or(u32::MAX));
        let wanted = self.wanted.get(id).copied().unwrap_or(0);
        self.want(id, wanted.saturating_sub(taken).max(staying), here);
    }

    /// The workload, which has `here` pods, wants `wanted` from now on.
    fn want(&mut self, id: &WorkloadId, wanted: u32, here: u32) {
        if wanted == 0 {
            self.wanted.remove(id);
            if self.view.lose_workload(id) {
                self.ledger.forget_workload(id);
            }
            return;
        }
        let before = self.wanted.insert(id.clone(), wanted);
        if before == Some(wanted) && wanted > 1 && self.view.workload(id).is_some() {
            return;
        }
        let mut workload = Workload::new(id.clone(), wanted);
        self.ledger.observe_workload(&workload);
        // An operator with one pod for each of its objects may never make this
        // one again: it is waited for once it is there.
        if wanted == 1 {
            workload.replicas = here.min(1);
        }
        self.view.see_workload(&Seen::new(workload, 0));
    }
}

/// The workload that is counted by its pods, this one among them.
fn counted(pod: &Pod) -> Option<&WorkloadId> {
    let id = pod.workload.as_deref().filter(|id| id.is_counted())?;
    pod.is_wanted().then_some(id)
}
