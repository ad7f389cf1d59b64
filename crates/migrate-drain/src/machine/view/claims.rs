//! Claims of volumes, also of claims that are gone.

use migrate_core::Pod;

use super::{Claim, View};

impl View {
    pub(in super::super) fn see_claim(&mut self, namespace: String, name: String, volume: String) {
        let claim = Claim { volume, gone: None };
        self.claims.insert((namespace, name), claim);
    }

    /// The claim is gone; what it was bound to is remembered for the pod that had
    /// it, for as long as others are.
    pub(in super::super) fn lose_claim(&mut self, namespace: String, name: String) {
        let key = (namespace, name);
        let Some(claim) = self.claims.get_mut(&key).filter(|one| one.gone.is_none()) else {
            return;
        };
        self.claims_lost += 1;
        claim.gone = Some(self.claims_lost);
        if let Some((oldest, number)) = self.claims_gone.bury(key, self.claims_lost)
            // One that came back since has another number, or none.
            && self.claims.get(&oldest).is_some_and(|one| one.gone == Some(number))
        {
            self.claims.remove(&oldest);
        }
    }

    /// The volumes that a pod's claims are bound to.
    pub(in super::super) fn volumes_of(&self, pod: &Pod) -> Vec<String> {
        let key = |claim: &String| (pod.id.namespace.clone(), claim.clone());
        let claims = pod.claims.iter().map(key);
        claims
            .filter_map(|key| self.claims.get(&key).map(|claim| claim.volume.clone()))
            .collect()
    }
}
