//! What watches show, as inputs of the machine.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use migrate_core::WorkloadId;
use migrate_kube::resources::{
    Deployment, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodDisruptionBudget,
    ReplicaSet, Resolver, StatefulSet, VolumeAttachment,
};
use migrate_kube::{Error, WatchEvent};

use super::calls::failure;
use super::feed::{Change, KINDS, Kind};
use super::unsure::{ClaimKey, Unsure};
use crate::machine::{Attachment, Input, Listed, Seen};

/// Pods as the API has them.
pub(super) type Pods = Vec<Pod>;

/// How many refusals in a row give up a kind that was never listed: within a
/// second.
const FIRST_REFUSALS: u32 = 3;
/// The same for a kind that was: after some twenty seconds.
const LATER_REFUSALS: u32 = 8;

/// Turns what watches show into inputs; knows what pods need from others.
#[derive(Default)]
pub(super) struct Lens {
    resolver: Resolver,
    replica_sets: BTreeMap<String, ReplicaSet>,
    claims: BTreeMap<ClaimKey, PersistentVolumeClaim>,
    /// Claims by the volume that they name.
    claims_of: BTreeMap<String, BTreeSet<ClaimKey>>,
    volumes: BTreeMap<String, PersistentVolume>,
    /// Pods whose place in the model depends on objects that may still come
    /// or change.
    unsure: Unsure,
    /// Pod events that wait for the first lists of what pods need.
    early: Vec<WatchEvent<Pod>>,
    listed: BTreeSet<Kind>,
    synced: bool,
    /// Refusals in a row that waiting does not cure.
    refusals: BTreeMap<Kind, u32>,
    /// Kinds that were given up.
    blind: BTreeSet<Kind>,
}

impl Lens {
    /// The inputs that follow from `change`.
    pub(super) fn show(&mut self, change: Change) -> Vec<Input> {
        let mut inputs = Vec::new();
        let kind = change.kind();
        if !matches!(change, Change::Failed(..)) {
            self.refusals.remove(&kind);
            if self.blind.remove(&kind) && self.blind.is_empty() && self.synced {
                inputs.push(Input::Synced);
            }
        }
        match change {
            Change::Failed(kind, error) => inputs.extend(self.judge(kind, &error)),
            Change::Pods(event) => self.pods(event, &mut inputs),
            Change::ReplicaSets(event) => self.replica_sets(event, &mut inputs),
            Change::Claims(event) => self.claims(event, &mut inputs),
            Change::Volumes(event) => self.volumes(event, &mut inputs),
            Change::Attachments(event) => {
                self.note(Kind::Attachments, &event);
                inputs.push(attachments(event));
            }
            Change::Budgets(event) => {
                self.note(Kind::Budgets, &event);
                inputs.push(budgets(event));
            }
            Change::Deployments(event) => {
                self.note(Kind::Deployments, &event);
                inputs.push(workloads("Deployment", event, Deployment::to_model));
            }
            Change::StatefulSets(event) => {
                self.note(Kind::StatefulSets, &event);
                inputs.push(workloads("StatefulSet", event, StatefulSet::to_model));
            }
            Change::Nodes(event) => {
                self.note(Kind::Nodes, &event);
                nodes(event, &mut inputs);
            }
        }
        self.hand_out_early(&mut inputs);
        if !self.synced && self.listed.len() == KINDS {
            self.synced = true;
            inputs.push(Input::Synced);
        }
        inputs
    }

    /// The pods of a list, as the machine sees them.
    pub(super) fn all(&mut self, pods: Pods) -> Vec<Seen<migrate_core::Pod>> {
        pods.into_iter().map(|pod| self.pod(pod)).collect()
    }

    /// An error that waiting does not cure ends the drains, once it has come
    /// often enough: an API server that has just started forbids everything
    /// for a moment. Other errors are for the watch itself to get over.
    fn judge(&mut self, kind: Kind, error: &Error) -> Option<Input> {
        let hopeless = matches!(
            error,
            Error::CertificateExpired { .. }
                | Error::Decode { .. }
                | Error::Forbidden { .. }
                | Error::NoConfig { .. }
                | Error::NotFound { .. }
                | Error::Refused { .. }
                | Error::Unauthorized { .. }
        );
        if !hopeless {
            tracing::debug!(%error, "a watch was interrupted and goes on");
            return None;
        }
        let refusals = self.refusals.entry(kind).or_default();
        *refusals += 1;
        let enough = match self.listed.contains(&kind) {
            true => LATER_REFUSALS,
            false => FIRST_REFUSALS,
        };
        if *refusals < enough || !self.blind.insert(kind) {
            return None;
        }
        Some(Input::Unobservable(failure(error)))
    }

    fn note<K>(&mut self, kind: Kind, event: &WatchEvent<K>) {
        if matches!(event, WatchEvent::Restarted(_)) {
            self.listed.insert(kind);
        }
    }

    /// Whether everything that pods are matched with has been listed: before
    /// that their place is not known, and after it each is matched only once.
    fn can_place_pods(&self) -> bool {
        let needed = [
            Kind::Budgets,
            Kind::Claims,
            Kind::Deployments,
            Kind::ReplicaSets,
            Kind::StatefulSets,
            Kind::Volumes,
        ];
        needed.iter().all(|kind| self.listed.contains(kind))
    }

    fn hand_out_early(&mut self, inputs: &mut Vec<Input>) {
        if self.can_place_pods() {
            for event in std::mem::take(&mut self.early) {
                self.pods(event, inputs);
            }
        }
    }

    fn pods(&mut self, event: WatchEvent<Pod>, inputs: &mut Vec<Input>) {
        if !self.can_place_pods() {
            self.early.push(event);
            return;
        }
        self.note(Kind::Pods, &event);
        match event {
            WatchEvent::Restarted(all) => {
                self.unsure.clear();
                let all = self.all(all);
                inputs.push(Input::Listed(Listed::Pods(all)));
            }
            WatchEvent::Applied(pod) => {
                let seen = self.pod(pod);
                inputs.push(Input::PodSeen(seen));
            }
            WatchEvent::Deleted(pod) => {
                let id = pod.id();
                self.unsure.remove(&id.uid);
                inputs.push(Input::PodGone(id));
            }
            _ => {}
        }
    }

    fn pod(&mut self, pod: Pod) -> Seen<migrate_core::Pod> {
        let seen = self.place(&pod);
        let of_replica_set = seen
            .value
            .workload
            .as_ref()
            .is_some_and(|w| w.kind == "ReplicaSet");
        let uid = seen.value.id.uid.clone();
        if of_replica_set || !seen.value.claims.is_empty() {
            self.unsure.insert(uid, pod);
        } else {
            self.unsure.remove(&uid);
        }
        seen
    }

    fn place(&self, pod: &Pod) -> Seen<migrate_core::Pod> {
        Seen::new(pod.to_model(&self.resolver), version(pod))
    }

    fn replica_sets(&mut self, event: WatchEvent<ReplicaSet>, inputs: &mut Vec<Input>) {
        self.note(Kind::ReplicaSets, &event);
        let mut changed = BTreeSet::new();
        match event {
            WatchEvent::Restarted(all) => {
                let old = std::mem::take(&mut self.replica_sets);
                let uids = all.iter().filter_map(|one| one.metadata.uid.as_deref());
                let listed: BTreeSet<&str> = uids.collect();
                for (uid, replica_set) in &old {
                    if !listed.contains(uid.as_str()) {
                        self.resolver.forget_replica_set(replica_set);
                    }
                }
                let alone = all.iter().filter(|one| one.deployment().is_none());
                inputs.push(Input::Listed(Listed::Workloads {
                    kind: "ReplicaSet".to_owned(),
                    all: alone
                        .map(|one| Seen::new(one.to_model(), version(one)))
                        .collect(),
                }));
                for one in all {
                    self.replica_set(one, &mut changed);
                }
            }
            WatchEvent::Applied(one) => {
                let alone = one.deployment().is_none();
                if alone {
                    inputs.push(Input::WorkloadSeen(Seen::new(
                        one.to_model(),
                        version(&one),
                    )));
                }
                self.replica_set(one, &mut changed);
            }
            WatchEvent::Deleted(one) => {
                self.resolver.forget_replica_set(&one);
                self.replica_sets.remove(&one.uid().unwrap_or_default());
                if one.deployment().is_none() {
                    inputs.push(Input::WorkloadGone(one.to_model().id));
                }
            }
            _ => {}
        }
        let concerned = self.unsure.of_owners(&changed);
        inputs.extend(concerned.map(|pod| Input::PodSeen(self.place(pod))));
    }

    fn replica_set(&mut self, one: ReplicaSet, changed: &mut BTreeSet<String>) {
        let uid = one.uid().unwrap_or_default();
        if self.resolver.see_replica_set(&one) {
            changed.insert(uid.clone());
        }
        self.replica_sets.insert(uid, one);
    }

    fn claims(&mut self, event: WatchEvent<PersistentVolumeClaim>, inputs: &mut Vec<Input>) {
        self.note(Kind::Claims, &event);
        let mut changed = BTreeSet::new();
        match event {
            WatchEvent::Restarted(all) => {
                let listed: BTreeSet<ClaimKey> = all.iter().map(key).collect();
                let known = self.claims.keys();
                let gone: Vec<ClaimKey> = known
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.lose_claim(key, inputs);
                }
                for claim in all {
                    self.see_claim(claim, &mut changed, inputs);
                }
            }
            WatchEvent::Applied(claim) => self.see_claim(claim, &mut changed, inputs),
            WatchEvent::Deleted(claim) => self.lose_claim(key(&claim), inputs),
            _ => {}
        }
        self.show_with(&changed, inputs);
    }

    fn see_claim(
        &mut self,
        claim: PersistentVolumeClaim,
        changed: &mut BTreeSet<ClaimKey>,
        inputs: &mut Vec<Input>,
    ) {
        let key = key(&claim);
        if self.resolver.see_claim(&claim) {
            if let Some(volume) = claim.spec.volume_name.clone() {
                let (namespace, name) = key.clone();
                inputs.push(Input::ClaimSeen {
                    namespace,
                    name,
                    volume,
                });
            }
            changed.insert(key.clone());
        }
        if let Some(old) = self.claims.remove(&key) {
            self.unlink(&key, &old);
        }
        if let Some(volume) = &claim.spec.volume_name {
            let of_volume = self.claims_of.entry(volume.clone()).or_default();
            of_volume.insert(key.clone());
        }
        self.claims.insert(key, claim);
    }

    fn lose_claim(&mut self, key: ClaimKey, inputs: &mut Vec<Input>) {
        let Some(old) = self.claims.remove(&key) else {
            return;
        };
        self.resolver.forget_claim(&old);
        self.unlink(&key, &old);
        let (namespace, name) = key;
        inputs.push(Input::ClaimGone { namespace, name });
    }

    fn unlink(&mut self, key: &ClaimKey, claim: &PersistentVolumeClaim) {
        let Some(volume) = &claim.spec.volume_name else {
            return;
        };
        if let Some(claims) = self.claims_of.get_mut(volume) {
            claims.remove(key);
            if claims.is_empty() {
                self.claims_of.remove(volume);
            }
        }
    }

    fn volumes(&mut self, event: WatchEvent<PersistentVolume>, inputs: &mut Vec<Input>) {
        self.note(Kind::Volumes, &event);
        let mut changed = BTreeSet::new();
        match event {
            WatchEvent::Restarted(all) => {
                let old = std::mem::take(&mut self.volumes);
                let listed: BTreeSet<String> = all.iter().map(ResourceExt::name_any).collect();
                for (_, gone) in old.iter().filter(|(name, _)| !listed.contains(*name)) {
                    self.resolver.forget_volume(gone);
                }
                for volume in all {
                    self.see_volume(volume, &mut changed);
                }
            }
            WatchEvent::Applied(volume) => self.see_volume(volume, &mut changed),
            WatchEvent::Deleted(volume) => {
                self.resolver.forget_volume(&volume);
                self.volumes.remove(&volume.name_any());
            }
            _ => {}
        }
        self.show_with(&changed, inputs);
    }

    /// Notes the claims of a volume that is elsewhere now.
    fn see_volume(&mut self, volume: PersistentVolume, changed: &mut BTreeSet<ClaimKey>) {
        let name = volume.name_any();
        if self.resolver.see_volume(&volume) {
            let claims = self.claims_of.get(&name).into_iter().flatten();
            changed.extend(claims.cloned());
        }
        self.volumes.insert(name, volume);
    }

    /// Shows the pods with these claims again: their place may have changed.
    fn show_with(&self, claims: &BTreeSet<ClaimKey>, inputs: &mut Vec<Input>) {
        let concerned = self.unsure.with_claims(claims);
        inputs.extend(concerned.map(|pod| Input::PodSeen(self.place(pod))));
    }
}

fn key(claim: &PersistentVolumeClaim) -> ClaimKey {
    (claim.namespace().unwrap_or_default(), claim.name_any())
}

fn version(object: &impl ResourceExt) -> u64 {
    let version = object.resource_version();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

fn attachment(object: &VolumeAttachment) -> Attachment {
    Attachment {
        name: object.name_any(),
        node: object.spec.node_name.clone(),
        volume: object.spec.source.persistent_volume_name.clone(),
    }
}

fn attachments(event: WatchEvent<VolumeAttachment>) -> Input {
    match event {
        WatchEvent::Restarted(all) => {
            Input::Listed(Listed::Attachments(all.iter().map(attachment).collect()))
        }
        WatchEvent::Applied(one) => Input::VolumeSeen(attachment(&one)),
        WatchEvent::Deleted(one) => Input::VolumeDetached {
            name: one.name_any(),
        },
        _ => Input::Tick,
    }
}

fn budgets(event: WatchEvent<PodDisruptionBudget>) -> Input {
    let seen = |one: &PodDisruptionBudget| Seen::new(one.to_model(), version(one));
    match event {
        WatchEvent::Restarted(all) => {
            Input::Listed(Listed::Budgets(all.iter().map(seen).collect()))
        }
        WatchEvent::Applied(one) => Input::PdbSeen(seen(&one)),
        WatchEvent::Deleted(one) => Input::PdbGone {
            namespace: one.namespace().unwrap_or_default(),
            name: one.name_any(),
        },
        _ => Input::Tick,
    }
}

fn workloads<K: ResourceExt>(
    kind: &str,
    event: WatchEvent<K>,
    to_model: fn(&K) -> migrate_core::Workload,
) -> Input {
    let seen = |one: &K| Seen::new(to_model(one), version(one));
    match event {
        WatchEvent::Restarted(all) => Input::Listed(Listed::Workloads {
            kind: kind.to_owned(),
            all: all.iter().map(seen).collect(),
        }),
        WatchEvent::Applied(one) => Input::WorkloadSeen(seen(&one)),
        WatchEvent::Deleted(one) => Input::WorkloadGone(WorkloadId::new(
            kind,
            one.namespace().unwrap_or_default(),
            one.name_any(),
        )),
        _ => Input::Tick,
    }
}

/// A node whose kubelet has never reported has no version and runs nothing: it
/// is not shown.
fn node(one: &Node) -> Option<Seen<migrate_core::Node>> {
    match one.to_model() {
        Ok(node) if one.has_reported() => Some(Seen::new(node, version(one))),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(node = one.name_any(), %error, "left out");
            None
        }
    }
}

/// What a read of the node `name` showed. One that is not shown has taken the
/// place of the one that was.
pub(super) fn seen_now(name: &str, read: Option<&Node>) -> Input {
    let seen = read.and_then(node);
    seen.map_or_else(|| Input::NodeGone(name.to_owned()), Input::NodeSeen)
}

fn nodes(event: WatchEvent<Node>, inputs: &mut Vec<Input>) {
    match event {
        WatchEvent::Restarted(all) => {
            let all = all.iter().filter_map(node).collect();
            inputs.push(Input::Listed(Listed::Nodes(all)));
        }
        WatchEvent::Applied(one) => inputs.extend(node(&one).map(Input::NodeSeen)),
        WatchEvent::Deleted(one) => inputs.push(Input::NodeGone(one.name_any())),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
