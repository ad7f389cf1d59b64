//! What the machine has seen of the cluster.

mod claims;

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{DisruptionBudget, Node, Pod, PodId, Workload, WorkloadId, only_host};

use super::io::{Attachment, Seen};
use super::slots::{Graves, Slots};

/// The newest known state of every object, with the indexes a drain needs.
///
/// What is gone is remembered, so that a late sighting does not bring it back:
/// [`TOMBSTONES`](super::slots::TOMBSTONES) of each kind, the oldest forgotten
/// first. An event about a forgotten one is known by its version, see
/// [`Graves`]; a list, or a look at a node, is taken as it is: it says what is
/// there, and the events after it what has changed since.
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
    /// Uids of pods that are gone.
    gone: BTreeSet<String>,
    graves: Graves<String>,
    budgets: Slots<(String, String), DisruptionBudget>,
    /// By kind, since each kind has a watch of its own.
    workloads: BTreeMap<String, Slots<WorkloadId, Workload>>,
    nodes: Slots<String, Node>,
    /// Nodes with a cordon that is given back.
    marked: BTreeSet<String>,
    /// Volume by namespace and claim; also of claims that are gone, while they
    /// are remembered.
    claims: BTreeMap<(String, String), Claim>,
    claims_gone: Graves<(String, String)>,
    /// How many claims have gone.
    claims_lost: u64,
    attachments: BTreeMap<String, Attachment>,
    attached_to: BTreeMap<String, BTreeSet<String>>,
}

/// What a claim is bound to.
#[derive(Clone, Debug)]
struct Claim {
    volume: String,
    /// The number of its going; `None` while it is there.
    gone: Option<u64>,
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
            graves: Graves::new(),
            budgets: Slots::new(),
            workloads: BTreeMap::new(),
            nodes: Slots::new(),
            marked: BTreeSet::new(),
            claims: BTreeMap::new(),
            claims_gone: Graves::new(),
            claims_lost: 0,
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
                self.bury(id.uid, seen.version);
                return PodNews::Nothing;
            }
            if late || known.value == seen.value {
                return PodNews::Nothing;
            }
        }
        let replaced = match self.names.get(&name) {
            Some(uid) if *uid != id.uid => {
                let uid = uid.clone();
                self.lose_pod(&uid).map(Box::new)
            }
            _ => None,
        };
        let before = self.drop_pod(&id.uid).map(Box::new);
        self.insert_pod(seen);
        PodNews::Changed { replaced, before }
    }

    /// Takes the pod out for good.
    pub(super) fn lose_pod(&mut self, uid: &str) -> Option<Pod> {
        let version = self.pods.get(uid).map_or(0, |seen| seen.version);
        self.bury(uid.to_owned(), version);
        self.drop_pod(uid)
    }

    /// Takes the pod out because a list did not show it. It may be seen again:
    /// the list may have been older than what we knew.
    pub(super) fn miss_pod(&mut self, uid: &str) -> Option<Pod> {
        self.drop_pod(uid)
    }

    /// Every pod has been listed: what was forgotten before says nothing of the
    /// events that follow.
    pub(super) fn pods_listed(&mut self) {
        self.graves.forget_reach();
    }

    /// Whether an event shows a pod that is gone and forgotten.
    pub(super) fn is_past_pod(&self, seen: &Seen<Pod>) -> bool {
        !self.pods.contains_key(&seen.value.id.uid) && self.graves.reach(seen.version)
    }

    fn bury(&mut self, uid: String, version: u64) {
        if self.gone.insert(uid.clone())
            && let Some((oldest, _)) = self.graves.bury(uid, version)
        {
            self.gone.remove(&oldest);
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
        if let Some(workload) = pod.workload.as_deref() {
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
        if let Some(workload) = pod.workload.as_deref() {
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
        self.budgets.see(key_of(&seen.value), seen)
    }

    pub(super) fn lose_budget(&mut self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.budgets.lose(&key)
    }

    /// As [`pods_listed`](Self::pods_listed).
    pub(super) fn budgets_listed(&mut self) {
        self.budgets.listed();
    }

    pub(super) fn is_past_budget(&self, seen: &Seen<DisruptionBudget>) -> bool {
        self.budgets.is_past(&key_of(&seen.value), seen.version)
    }

    pub(super) fn budget_names(&self) -> Vec<(String, String)> {
        self.budgets.present().map(|(key, _)| key.clone()).collect()
    }

    // Workloads.

    pub(super) fn workload(&self, id: &WorkloadId) -> Option<&Workload> {
        self.workloads.get(&id.kind)?.get(id)
    }

    pub(super) fn see_workload(&mut self, seen: &Seen<Workload>) -> bool {
        let id = &seen.value.id;
        let of_kind = self.workloads.entry(id.kind.clone());
        of_kind.or_insert_with(Slots::new).see(id.clone(), seen)
    }

    pub(super) fn lose_workload(&mut self, id: &WorkloadId) -> bool {
        let of_kind = self.workloads.get_mut(&id.kind);
        of_kind.is_some_and(|slots| slots.lose(id))
    }

    /// As [`pods_listed`](Self::pods_listed).
    pub(super) fn workloads_listed(&mut self, kind: &str) {
        if let Some(of_kind) = self.workloads.get_mut(kind) {
            of_kind.listed();
        }
    }

    pub(super) fn is_past_workload(&self, seen: &Seen<Workload>) -> bool {
        let id = &seen.value.id;
        let of_kind = self.workloads.get(&id.kind);
        of_kind.is_some_and(|slots| slots.is_past(id, seen.version))
    }

    pub(super) fn workloads_of_kind(&self, kind: &str) -> Vec<WorkloadId> {
        let of_kind = self.workloads.get(kind).into_iter();
        let present = of_kind.flat_map(Slots::present);
        present.map(|(id, _)| id.clone()).collect()
    }

    // Nodes.

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(super) fn node_names(&self) -> Vec<String> {
        self.nodes.present().map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn see_node(&mut self, seen: &Seen<Node>) -> bool {
        let name = seen.value.name.clone();
        let is_news = self.nodes.see(name.clone(), seen);
        if is_news {
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
        self.nodes.present().map(|(_, node)| node)
    }

    pub(super) fn lose_node(&mut self, name: &str) -> bool {
        self.marked.remove(name);
        self.nodes.lose(&name.to_owned())
    }

    /// As [`pods_listed`](Self::pods_listed).
    pub(super) fn nodes_listed(&mut self) {
        self.nodes.listed();
    }

    pub(super) fn is_past_node(&self, seen: &Seen<Node>) -> bool {
        self.nodes.is_past(&seen.value.name, seen.version)
    }

    // Volumes.

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

fn key_of(budget: &DisruptionBudget) -> (String, String) {
    (budget.namespace.clone(), budget.name.clone())
}

#[cfg(test)]
mod tests {
    use super::super::slots::TOMBSTONES;
    use super::*;

    const MANY: u64 = 2 * TOMBSTONES as u64;

    fn pod(uid: u64, version: u64) -> Seen<Pod> {
        let name = uid.to_string();
        Seen::new(Pod::new(PodId::new("shop", &name, &name), "n-1"), version)
    }

    fn all_gone() -> View {
        let mut view = View::new();
        for number in 1..=MANY {
            view.see_pod(pod(number, number));
            view.lose_pod(&number.to_string());
        }
        view
    }

    #[test]
    fn pods_that_are_gone_are_bounded_and_none_comes_back() {
        let mut view = all_gone();
        assert_eq!(view.gone.len(), TOMBSTONES);
        for number in 1..=MANY {
            let late = pod(number, number);
            let past = view.is_past_pod(&late);
            assert!(
                past || matches!(view.see_pod(late), PodNews::Nothing),
                "{number}"
            );
        }
        assert!(view.pod_ids().is_empty());
        assert!(!view.is_past_pod(&pod(MANY + 1, MANY + 1)), "a new one");
        view.see_pod(pod(MANY + 1, MANY + 1));
        // What follows a list may be older than what was seen before it: an API
        // server that lags must not hide a pod for good.
        let lost = view.miss_pod(&(MANY + 1).to_string());
        assert!(lost.is_some());
        view.pods_listed();
        assert!(!view.is_past_pod(&pod(MANY + 1, 1)));
    }

    #[test]
    fn a_claim_that_is_gone_tells_its_volume_until_many_others_have_gone() {
        let mut view = View::new();
        let key = |number: u64| ("shop".to_owned(), format!("c-{number}"));
        let mut with_claim = pod(1, 1).value;
        with_claim.claims = vec!["c-0".to_owned()];
        let see = |view: &mut View, number: u64| {
            let (namespace, name) = key(number);
            view.see_claim(namespace, name, format!("v-{number}"));
        };
        let lose = |view: &mut View, number: u64| {
            let (namespace, name) = key(number);
            view.lose_claim(namespace, name);
        };
        see(&mut view, 0);
        lose(&mut view, 0);
        lose(&mut view, 0);
        for number in 1..TOMBSTONES as u64 {
            see(&mut view, number);
            lose(&mut view, number);
        }
        assert_eq!(view.volumes_of(&with_claim), ["v-0"]);
        see(&mut view, TOMBSTONES as u64);
        lose(&mut view, TOMBSTONES as u64);
        assert_eq!(view.volumes_of(&with_claim), Vec::<String>::new());
        assert_eq!(view.claims.len(), TOMBSTONES);
        // One that is there is not forgotten, however many go.
        see(&mut view, 0);
        for number in 1..=MANY {
            see(&mut view, number);
            lose(&mut view, number);
        }
        assert_eq!(view.volumes_of(&with_claim), ["v-0"]);
    }
}
