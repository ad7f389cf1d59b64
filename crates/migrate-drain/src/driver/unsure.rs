//! Pods whose place in the model depends on other objects, by those objects.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use migrate_kube::resources::{Pod, controller_of};

/// Namespace and name of a claim.
pub(super) type ClaimKey = (String, String);

/// The pods that are shown again when something they depend on changes. Finding
/// those that a change concerns costs what is found.
#[derive(Default)]
pub(super) struct Unsure {
    /// By uid.
    pods: BTreeMap<String, Pod>,
    /// Uids of pods by the uid of their controller.
    by_owner: BTreeMap<String, BTreeSet<String>>,
    by_claim: BTreeMap<ClaimKey, BTreeSet<String>>,
}

impl Unsure {
    pub(super) fn insert(&mut self, uid: String, pod: Pod) {
        self.remove(&uid);
        if let Some(owner) = controller_of(&pod.metadata) {
            let of_owner = self.by_owner.entry(owner.uid).or_default();
            of_owner.insert(uid.clone());
        }
        for key in claims_of(&pod) {
            self.by_claim.entry(key).or_default().insert(uid.clone());
        }
        self.pods.insert(uid, pod);
    }

    pub(super) fn remove(&mut self, uid: &str) {
        let Some(pod) = self.pods.remove(uid) else {
            return;
        };
        if let Some(owner) = controller_of(&pod.metadata) {
            take_out(&mut self.by_owner, &owner.uid, uid);
        }
        for key in claims_of(&pod) {
            take_out(&mut self.by_claim, &key, uid);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The pods of these controllers, each once, by uid.
    pub(super) fn of_owners(&self, owners: &BTreeSet<String>) -> impl Iterator<Item = &Pod> {
        let uids = owners.iter().filter_map(|owner| self.by_owner.get(owner));
        self.each(uids.flatten())
    }

    /// The pods that have one of these claims, each once, by uid.
    pub(super) fn with_claims(&self, claims: &BTreeSet<ClaimKey>) -> impl Iterator<Item = &Pod> {
        let uids = claims.iter().filter_map(|claim| self.by_claim.get(claim));
        self.each(uids.flatten())
    }

    fn each<'a>(&'a self, uids: impl Iterator<Item = &'a String>) -> impl Iterator<Item = &'a Pod> {
        let uids: BTreeSet<&String> = uids.collect();
        uids.into_iter().filter_map(|uid| self.pods.get(uid))
    }
}

fn claims_of(pod: &Pod) -> impl Iterator<Item = ClaimKey> {
    let namespace = pod.namespace().unwrap_or_default();
    pod.claims().map(move |claim| (namespace.clone(), claim))
}

fn take_out<K: Ord>(index: &mut BTreeMap<K, BTreeSet<String>>, key: &K, uid: &str) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
        }
    }
}
