//! What a pod's model needs from other objects.

use std::collections::BTreeMap;

use migrate_core::model::{ControllerRef, NodeSelectorTerm, WorkloadId};

use super::{PersistentVolume, PersistentVolumeClaim, ReplicaSet, meta};

/// Knows which Deployment is above a ReplicaSet and where volumes are.
///
/// Fed from lists or watches; each `see` and `forget` says whether it changed
/// anything, in which case [`Pod::to_model`](super::Pod::to_model) may now give
/// another answer for the pods concerned.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// Deployment by ReplicaSet uid.
    deployments: BTreeMap<String, WorkloadId>,
    /// Volume name by namespace and claim.
    claims: BTreeMap<(String, String), String>,
    /// Required node affinity by volume name; only volumes that have one.
    volumes: BTreeMap<String, Vec<NodeSelectorTerm>>,
}

impl Resolver {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns of a ReplicaSet.
    pub fn see_replica_set(&mut self, replica_set: &ReplicaSet) -> bool {
        let uid = meta::uid_of(&replica_set.metadata);
        put(&mut self.deployments, uid, replica_set.deployment())
    }

    /// Forgets a ReplicaSet that is gone.
    pub fn forget_replica_set(&mut self, replica_set: &ReplicaSet) -> bool {
        let uid = meta::uid_of(&replica_set.metadata);
        self.deployments.remove(&uid).is_some()
    }

    /// Learns of a claim.
    pub fn see_claim(&mut self, claim: &PersistentVolumeClaim) -> bool {
        let volume = claim
            .spec
            .volume_name
            .clone()
            .filter(|name| !name.is_empty());
        put(&mut self.claims, key_of(claim), volume)
    }

    /// Forgets a claim that is gone.
    pub fn forget_claim(&mut self, claim: &PersistentVolumeClaim) -> bool {
        self.claims.remove(&key_of(claim)).is_some()
    }

    /// Learns of a volume.
    pub fn see_volume(&mut self, volume: &PersistentVolume) -> bool {
        let affinity = volume.spec.node_affinity.as_ref();
        let terms = affinity.and_then(|affinity| affinity.required.as_ref());
        let name = meta::name_of(&volume.metadata);
        put(
            &mut self.volumes,
            name,
            terms.map(super::NodeSelector::to_model),
        )
    }

    /// Forgets a volume that is gone.
    pub fn forget_volume(&mut self, volume: &PersistentVolume) -> bool {
        self.volumes
            .remove(&meta::name_of(&volume.metadata))
            .is_some()
    }

    /// The workload behind a pod's direct controller: the Deployment above a
    /// ReplicaSet, else the controller itself; a controller whose objects are
    /// not read, e.g. a ReplicationController, is a workload that is
    /// [counted](WorkloadId::counted). A node controls only its static pods.
    pub fn workload(&self, namespace: &str, controller: &ControllerRef) -> Option<WorkloadId> {
        let own = || {
            Some(WorkloadId::new(
                &controller.kind,
                namespace,
                &controller.name,
            ))
        };
        match (controller.group.as_str(), controller.kind.as_str()) {
            ("apps", "ReplicaSet") => self.deployments.get(&controller.uid).cloned().or_else(own),
            ("apps", "DaemonSet" | "StatefulSet") | ("batch", "Job") => own(),
            ("", "Node") => None,
            _ => Some(WorkloadId::counted(namespace, controller)),
        }
    }

    /// The volume that a claim is bound to.
    pub fn volume_of(&self, namespace: &str, claim: &str) -> Option<&str> {
        self.claims
            .get(&(namespace.to_owned(), claim.to_owned()))
            .map(String::as_str)
    }

    /// Where the volume of a claim is, if it is bound and not everywhere.
    pub fn volume_affinity(&self, namespace: &str, claim: &str) -> Option<Vec<NodeSelectorTerm>> {
        self.volumes.get(self.volume_of(namespace, claim)?).cloned()
    }
}

fn key_of(claim: &PersistentVolumeClaim) -> (String, String) {
    (
        meta::namespace_of(&claim.metadata),
        meta::name_of(&claim.metadata),
    )
}

/// Sets or removes; whether that changed anything.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    match value {
        None => map.remove(&key).is_some(),
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
    }
}
