//! What the machine has seen of the cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use migrate_core::{DisruptionBudget, Node, Pod, PodId, Workload, WorkloadId, only_host};

use super::io::{Attachment, Seen};

/// Uids of pods that are gone, so that a late sighting does not bring them
/// back. Bounded: the oldest are dropped.
const TOMBSTONES: usize = 16_384;

/// The newest known state of every object, with the indexes a drain needs.
#[derive(Clone, Debug)]
pub(super) struct View {
    pods: BTreeMap<String, Seen<Pod>>,
    /// Namespace and name to uid: a name belongs to one pod at a time.
    names: BTreeMap<(String, String), String>,
    /// Pods that are on no node yet are under the empty name.
    by_node: BTreeMap<String, BTreeSet<String>>,
    by_namespace: BTreeMap<String, BTreeSet<String>>,
    healthy: BTreeMap<WorkloadId, u32>,
    /// Pods of counted workloads that they want.
    wanted: BTreeMap<WorkloadId, u32>,
    gone: BTreeSet<String>,
    gone_in_order: VecDeque<String>,
    budgets: BTreeMap<(String, String), Slot<DisruptionBudget>>,
    workloads: BTreeMap<WorkloadId, Slot<Workload>>,
    nodes: BTreeMap<String, Slot<Node>>,
    /// Nodes with a cordon that is given back.
    marked: BTreeSet<String>,
    /// Volume by namespace and claim.
    claims: BTreeMap<(String, String), String>,
    attachments: BTreeMap<String, Attachment>,
    attached_to: BTreeMap<String, BTreeSet<String>>,
}

/// An object by name. The version outlives the object, so that a late
/// sighting does not bring it back.
#[derive(Clone, Debug)]
struct Slot<T> {
    value: Option<T>,
    version: u64,
}

impl<T> Slot<T> {
    /// Whether a sighting at `version` is not from the past.
    fn admits(&self, version: u64) -> bool {
        version == 0 || version > self.version || (version == self.version && self.value.is_some())
    }
}

/// What the sighting of a pod meant.
#[derive(Debug)]
pub(super) enum PodNews {
    /// Nothing new, or from the past.
    Nothing,
    /// New or changed.
    Changed {
        /// The pod that had the same name until now, and is therefore gone.
        replaced: Option<Box<Pod>>,
        /// The same pod as it was seen last.
        before: Option<Box<Pod>>,
    },
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            pods: BTreeMap::new(),
            names: BTreeMap::new(),
            by_node: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            healthy: BTreeMap::new(),
            wanted: BTreeMap::new(),
            gone: BTreeSet::new(),
            gone_in_order: VecDeque::new(),
            budgets: BTreeMap::new(),
            workloads: BTreeMap::new(),
            nodes: BTreeMap::new(),
            marked: BTreeSet::new(),
            claims: BTreeMap::new(),
            attachments: BTreeMap::new(),
            attached_to: BTreeMap::new(),
        }
    }

    // Pods.

    pub(super) fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.get(uid).map(|seen| &seen.value)
    }

    pub(super) fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Pod> + use<'a> {
        let uids = self.by_node.get(node).into_iter().flatten();
        uids.filter_map(|uid| self.pod(uid))
    }

    pub(super) fn pod_ids(&self) -> Vec<PodId> {
        self.pods
            .values()
            .map(|seen| seen.value.id.clone())
            .collect()
    }

    /// Pods of the workload that are Ready and not terminating.
    pub(super) fn healthy(&self, workload: &WorkloadId) -> u32 {
        self.healthy.get(workload).copied().unwrap_or(0)
    }

    /// Pods of a counted workload that neither have finished nor are terminating.
    pub(super) fn wanted(&self, workload: &WorkloadId) -> u32 {
        self.wanted.get(workload).copied().unwrap_or(0)
    }

    pub(super) fn see_pod(&mut self, seen: Seen<Pod>) -> PodNews {
        let id = seen.value.id.clone();
        if self.gone.contains(&id.uid) {
            return PodNews::Nothing;
        }
        let name = (id.namespace.clone(), id.name.clone());
        let known = self.names.get(&name).and_then(|uid| self.pods.get(uid));
        if let Some(known) = known {
            let late = seen.version != 0 && seen.version < known.version;
            if late && known.value.id.uid != id.uid {
                // It had the name before the one we know.
                self.bury(id.uid);
                return PodNews::Nothing;
            }
            if late || known.value == seen.value {
                return PodNews::Nothing;
            }
        }
        let replaced = match self.names.get(&name) {
            Some(uid) if *uid != id.uid => {
                let uid = uid.clone();
                self.bury(uid.clone());
                self.drop_pod(&uid).map(Box::new)
            }
            _ => None,
        };
        let before = self.drop_pod(&id.uid).map(Box::new);
        self.insert_pod(seen);
        PodNews::Changed { replaced, before }
    }

    /// Takes the pod out for good.
    pub(super) fn lose_pod(&mut self, uid: &str) -> Option<Pod> {
        self.bury(uid.to_owned());
        self.drop_pod(uid)
    }

    /// Takes the pod out because a list did not show it. It may be seen again:
    /// the list may have been older than what we knew.
    pub(super) fn miss_pod(&mut self, uid: &str) -> Option<Pod> {
        self.drop_pod(uid)
    }

    fn bury(&mut self, uid: String) {
        if self.gone.insert(uid.clone()) {
            self.gone_in_order.push_back(uid);
        }
        while self.gone_in_order.len() > TOMBSTONES {
            if let Some(oldest) = self.gone_in_order.pop_front() {
                self.gone.remove(&oldest);
            }
        }
    }

    fn insert_pod(&mut self, seen: Seen<Pod>) {
        let pod = &seen.value;
        let uid = pod.id.uid.clone();
        let name = (pod.id.namespace.clone(), pod.id.name.clone());
        self.names.insert(name, uid.clone());
        let node = pod.node.clone().unwrap_or_default();
        let on_node = self.by_node.entry(node).or_default();
        on_node.insert(uid.clone());
        let namespace = pod.id.namespace.clone();
        let in_namespace = self.by_namespace.entry(namespace).or_default();
        in_namespace.insert(uid.clone());
        if let Some(workload) = &pod.workload {
            if pod.is_healthy() {
                *self.healthy.entry(workload.clone()).or_default() += 1;
            }
            if workload.is_counted() && pod.is_wanted() {
                *self.wanted.entry(workload.clone()).or_default() += 1;
            }
        }
        self.pods.insert(uid, seen);
    }

    fn drop_pod(&mut self, uid: &str) -> Option<Pod> {
        let pod = self.pods.remove(uid)?.value;
        let name = (pod.id.namespace.clone(), pod.id.name.clone());
        if self.names.get(&name).is_some_and(|owner| owner == uid) {
            self.names.remove(&name);
        }
        let node = pod.node.as_deref().unwrap_or_default();
        forget_in(&mut self.by_node, node, uid);
        forget_in(&mut self.by_namespace, &pod.id.namespace, uid);
        if let Some(workload) = &pod.workload {
            if pod.is_healthy() {
                one_less(&mut self.healthy, workload);
            }
            if workload.is_counted() && pod.is_wanted() {
                one_less(&mut self.wanted, workload);
            }
        }
        Some(pod)
    }

    // Budgets.

    /// True when it says something new.
    pub(super) fn see_budget(&mut self, seen: &Seen<DisruptionBudget>) -> bool {
        let key = (seen.value.namespace.clone(), seen.value.name.clone());
        see(&mut self.budgets, key, seen)
    }

    pub(super) fn lose_budget(&mut self, namespace: &str, name: &str) -> bool {
        lose(&mut self.budgets, &(namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn budget_names(&self) -> Vec<(String, String)> {
        present(&self.budgets).map(|(key, _)| key.clone()).collect()
    }

    // Workloads.

    pub(super) fn workload(&self, id: &WorkloadId) -> Option<&Workload> {
        self.workloads.get(id).and_then(|slot| slot.value.as_ref())
    }

    pub(super) fn see_workload(&mut self, seen: &Seen<Workload>) -> bool {
        see(&mut self.workloads, seen.value.id.clone(), seen)
    }

    pub(super) fn lose_workload(&mut self, id: &WorkloadId) -> bool {
        lose(&mut self.workloads, id)
    }

    pub(super) fn workloads_of_kind(&self, kind: &str) -> Vec<WorkloadId> {
        present(&self.workloads)
            .filter(|(id, _)| id.kind == kind)
            .map(|(id, _)| id.clone())
            .collect()
    }

    // Nodes.

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).and_then(|slot| slot.value.as_ref())
    }

    pub(super) fn node_names(&self) -> Vec<String> {
        present(&self.nodes).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn see_node(&mut self, seen: &Seen<Node>) -> bool {
        let is_news = see(&mut self.nodes, seen.value.name.clone(), seen);
        if is_news {
            let name = seen.value.name.clone();
            match seen.value.unschedulable && seen.value.marked {
                true => self.marked.insert(name),
                false => self.marked.remove(&name),
            };
        }
        is_news
    }

    /// Nodes with a cordon that is given back.
    pub(super) fn marked_nodes(&self) -> &BTreeSet<String> {
        &self.marked
    }

    pub(super) fn all_nodes(&self) -> impl Iterator<Item = &Node> + Clone {
        present(&self.nodes).map(|(_, node)| node)
    }

    pub(super) fn lose_node(&mut self, name: &str) -> bool {
        self.marked.remove(name);
        lose(&mut self.nodes, &name.to_owned())
    }

    // Volumes.

    pub(super) fn see_claim(&mut self, namespace: String, name: String, volume: String) {
        self.claims.insert((namespace, name), volume);
    }

    /// The volumes that a pod's claims are bound to.
    pub(super) fn volumes_of(&self, pod: &Pod) -> Vec<String> {
        let key = |claim: &String| (pod.id.namespace.clone(), claim.clone());
        let claims = pod.claims.iter().map(key);
        claims
            .filter_map(|key| self.claims.get(&key).cloned())
            .collect()
    }

    pub(super) fn attached_to<'a>(
        &'a self,
        node: &str,
    ) -> impl Iterator<Item = &'a Attachment> + use<'a> {
        let names = self.attached_to.get(node).into_iter().flatten();
        names.filter_map(|name| self.attachments.get(name))
    }

    pub(super) fn attachment_names(&self) -> Vec<String> {
        self.attachments.keys().cloned().collect()
    }

    pub(super) fn see_attachment(&mut self, attachment: Attachment) {
        self.lose_attachment(&attachment.name);
        let to = self.attached_to.entry(attachment.node.clone());
        to.or_default().insert(attachment.name.clone());
        self.attachments.insert(attachment.name.clone(), attachment);
    }

    /// The node it was attached to.
    pub(super) fn lose_attachment(&mut self, name: &str) -> Option<String> {
        let old = self.attachments.remove(name)?;
        forget_in(&mut self.attached_to, &old.node, name);
        Some(old.node)
    }

    // Questions.

    /// Why only the pod's own node can host it, if that can be proved.
    pub(super) fn only_host(&self, uid: &str) -> Option<String> {
        let pod = self.pod(uid)?;
        only_host(pod, self.all_nodes(), self.neighbours(pod))
    }

    /// All pods of the pod's namespace.
    pub(super) fn neighbours(&self, pod: &Pod) -> impl Iterator<Item = &Pod> + Clone {
        let uids = self.by_namespace.get(&pod.id.namespace);
        let neighbours = uids.into_iter().flatten();
        neighbours.filter_map(|uid| self.pod(uid))
    }
}

fn one_less(counts: &mut BTreeMap<WorkloadId, u32>, workload: &WorkloadId) {
    if let Some(count) = counts.get_mut(workload) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(workload);
        }
    }
}

fn forget_in(index: &mut BTreeMap<String, BTreeSet<String>>, key: &str, member: &str) {
    if let Some(members) = index.get_mut(key) {
        members.remove(member);
        if members.is_empty() {
            index.remove(key);
        }
    }
}

/// Takes note of an object by name; true when it says something new.
fn see<K: Ord, T: Clone + PartialEq>(
    slots: &mut BTreeMap<K, Slot<T>>,
    key: K,
    seen: &Seen<T>,
) -> bool {
    let slot = slots.entry(key).or_insert(Slot {
        value: None,
        version: 0,
    });
    if !slot.admits(seen.version) {
        return false;
    }
    slot.version = slot.version.max(seen.version);
    let news = slot.value.as_ref() != Some(&seen.value);
    if news {
        slot.value = Some(seen.value.clone());
    }
    news
}

fn lose<K: Ord, T>(slots: &mut BTreeMap<K, Slot<T>>, key: &K) -> bool {
    slots
        .get_mut(key)
        .is_some_and(|slot| slot.value.take().is_some())
}

fn present<K, T>(slots: &BTreeMap<K, Slot<T>>) -> impl Iterator<Item = (&K, &T)> + Clone {
    slots
        .iter()
        .filter_map(|(key, slot)| slot.value.as_ref().map(|value| (key, value)))
}
