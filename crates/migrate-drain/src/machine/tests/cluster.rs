//! A small model cluster: API semantics of evictions and cordons, controllers
//! that replace pods, budgets with their two-minute memory.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::model::Toleration;
use migrate_core::{
    ControllerRef, DisruptionBudget, IntOrPercent, LabelSelector, Moment, Node, Pod, PodId,
    PodPhase, Workload, WorkloadId,
};
use migrate_kube::EvictionAnswer;

use super::super::io::{Attachment, Input, Seen};

/// Deterministic noise.
#[derive(Clone, Debug)]
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) id: WorkloadId,
    pub(super) replicas: u32,
    /// Keeps its pods' names, like a StatefulSet.
    pub(super) sticky: bool,
    pub(super) tolerates: bool,
    pub(super) claims: bool,
}

#[derive(Clone, Debug)]
pub(super) struct ModelPod {
    pub(super) pod: Pod,
    version: u64,
    pub(super) ready_at: Moment,
    pub(super) gone_at: Option<Moment>,
}

/// The cluster as it really is.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) now: Moment,
    noise: Noise,
    version: u64,
    uids: u64,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pods: BTreeMap<String, ModelPod>,
    pub(super) apps: Vec<App>,
    pub(super) budgets: BTreeMap<String, DisruptionBudget>,
    /// By budget: names counted as disrupted, and since when.
    disrupted: BTreeMap<String, BTreeMap<String, Moment>>,
    pub(super) attachments: BTreeMap<String, (Attachment, Option<Moment>)>,
    /// What watches would show, in order.
    pub(super) changes: Vec<Input>,
    /// Every pod ever bound, with its node.
    pub(super) bound: BTreeMap<String, (PodId, String)>,
    /// What went wrong.
    pub(super) violations: Vec<String>,
}

impl Cluster {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let mut cluster = Self {
            now: Moment::from_millis(1_000_000),
            noise: Noise(seed),
            version: 0,
            uids: 0,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            apps: Vec::new(),
            budgets: BTreeMap::new(),
            disrupted: BTreeMap::new(),
            attachments: BTreeMap::new(),
            changes: Vec::new(),
            bound: BTreeMap::new(),
            violations: Vec::new(),
        };
        for index in 0..nodes {
            let version = "v1.36.3".parse().unwrap();
            let mut node = Node::new(format!("node-{index}"), version);
            let host = "kubernetes.io/hostname".to_owned();
            node.labels.insert(host, node.name.clone());
            cluster.nodes.insert(node.name.clone(), node);
        }
        cluster
    }

    pub(super) fn run(&mut self, app: App, max_unavailable: Option<u32>) {
        if let Some(max) = max_unavailable {
            let mut selector = LabelSelector::default();
            selector
                .match_labels
                .insert("app".into(), app.id.name.clone());
            let mut budget = DisruptionBudget::new("ns", app.id.name.clone(), selector);
            budget.max_unavailable = Some(IntOrPercent::Int(max));
            budget.status.observed = true;
            self.budgets.insert(app.id.name.clone(), budget);
        }
        self.apps.push(app);
    }

    /// Starts everything and lets it become ready.
    pub(super) fn boot(&mut self) {
        self.controllers();
        for pod in self.pods.values_mut() {
            pod.ready_at = self.now;
        }
        self.controllers();
    }

    fn bump(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    // What lists and watches show.

    pub(super) fn node_seen(&mut self, name: &str) -> Input {
        let version = self.bump();
        Input::NodeSeen(Seen::new(self.nodes[name].clone(), version))
    }

    pub(super) fn pods_on(&self, node: &str) -> Vec<Seen<Pod>> {
        self.pods
            .values()
            .filter(|p| p.pod.node.as_deref() == Some(node))
            .map(|p| Seen::new(p.pod.clone(), p.version))
            .collect()
    }

    pub(super) fn all_pods(&self) -> Vec<Seen<Pod>> {
        self.pods
            .values()
            .map(|p| Seen::new(p.pod.clone(), p.version))
            .collect()
    }

    pub(super) fn everything(&mut self) -> Vec<Input> {
        let mut all = Vec::new();
        for name in self.nodes.clone().into_keys() {
            all.push(self.node_seen(&name));
        }
        for app in self.apps.clone() {
            all.extend(self.workload(&app));
        }
        all.extend(self.all_pods().into_iter().map(Input::PodSeen));
        for budget in self.budgets.clone().into_values() {
            let version = self.bump();
            all.push(Input::PdbSeen(Seen::new(budget, version)));
        }
        for (attachment, _) in self.attachments.values() {
            all.push(Input::VolumeSeen(attachment.clone()));
            let volume = attachment.volume.clone().unwrap();
            let name = volume.clone();
            all.push(Input::ClaimSeen {
                namespace: "ns".into(),
                name,
                volume,
            });
        }
        all
    }

    fn show_pod(&mut self, uid: &str) {
        let version = self.bump();
        let pod = self.pods.get_mut(uid).unwrap();
        pod.version = version;
        self.changes
            .push(Input::PodSeen(Seen::new(pod.pod.clone(), version)));
    }

    // Truth.

    pub(super) fn healthy(&self, app: &WorkloadId) -> u32 {
        let pods = self.pods.values();
        let healthy = pods.filter(|p| p.pod.workload.as_deref() == Some(app) && p.pod.is_healthy());
        u32::try_from(healthy.count()).unwrap()
    }

    /// What a watch shows of its object, if there is one.
    fn workload(&mut self, app: &App) -> Option<Input> {
        self.bump();
        let mut workload = Workload::new(app.id.clone(), app.replicas);
        workload.ready = self.healthy(&app.id);
        let seen = Input::WorkloadSeen(Seen::new(workload, self.version));
        (!app.id.is_counted()).then_some(seen)
    }

    // The API.

    pub(super) fn cordon(&mut self, node: &str, to: bool) -> Option<bool> {
        let object = self.nodes.get_mut(node)?;
        let before = std::mem::replace(&mut object.unschedulable, to);
        let seen = self.node_seen(node);
        self.changes.push(seen);
        Some(before)
    }

    /// One eviction, as the API server carries it out.
    pub(super) fn evict(&mut self, id: &PodId) -> EvictionAnswer {
        let holder = self.pods.values().find(|p| p.pod.id.name == id.name);
        let Some(holder) = holder.map(|p| p.pod.clone()) else {
            return EvictionAnswer::Gone;
        };
        let same = holder.id.uid == id.uid;
        if holder.deletion.is_some() || holder.phase == PodPhase::Pending {
            if !same {
                return EvictionAnswer::OtherPod;
            }
            self.terminate(&id.uid);
            return EvictionAnswer::Accepted;
        }
        let app = holder.workload.as_deref().cloned().unwrap();
        if let Some(budget) = self.budgets.get(&app.name).cloned() {
            if !budget.status.observed {
                return EvictionAnswer::BudgetNotObserved {
                    budget: Some(budget.name),
                    retry_after: std::time::Duration::from_secs(10),
                };
            }
            if budget.status.disruptions_allowed <= 0 && holder.ready {
                let budget = Some(budget.name);
                return EvictionAnswer::BudgetExhausted {
                    budget,
                    message: "no".into(),
                };
            }
            if holder.ready {
                // Debited before the precondition is looked at.
                let disrupted = self.disrupted.entry(app.name.clone()).or_default();
                disrupted.insert(id.name.clone(), self.now);
                let budget = self.budgets.get_mut(&app.name).unwrap();
                budget.status.disruptions_allowed -= 1;
                budget.status.disrupted_pods.insert(id.name.clone());
                let budget = budget.clone();
                let version = self.bump();
                self.changes
                    .push(Input::PdbSeen(Seen::new(budget, version)));
            }
        }
        if !same {
            return EvictionAnswer::OtherPod;
        }
        self.check(&holder);
        self.terminate(&id.uid);
        EvictionAnswer::Accepted
    }

    /// What an eviction granted by the API must not do all the same.
    fn check(&mut self, pod: &Pod) {
        let id = pod.workload.as_deref().cloned().unwrap();
        let app = self.apps.iter().find(|app| app.id == id).unwrap();
        let left = self
            .healthy(&id)
            .saturating_sub(u32::from(pod.is_healthy()));
        let assumed = !self.budgets.contains_key(&id.name) && app.replicas >= 2;
        if assumed && pod.is_healthy() && left + 1 < app.replicas {
            self.violations
                .push(format!("{id}: {left} of {} left", app.replicas));
        }
    }

    fn terminate(&mut self, uid: &str) {
        let pod = self.pods.get_mut(uid).unwrap();
        if pod.pod.deletion.is_none() {
            let grace = 1 + self.noise.below(20);
            let gone = self.now + std::time::Duration::from_secs(grace);
            pod.gone_at = Some(gone);
            pod.pod.deletion = Some(gone);
            self.show_pod(uid);
        }
    }

    // Controllers, scheduler, kubelets.

    /// One round at `now`.
    pub(super) fn controllers(&mut self) {
        self.remove_the_gone();
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        for uid in uids {
            let pod = self.pods.get_mut(&uid).unwrap();
            let starts = pod.pod.node.is_some()
                && !pod.pod.ready
                && pod.pod.deletion.is_none()
                && pod.ready_at <= self.now;
            if starts {
                pod.pod.ready = true;
                pod.pod.phase = PodPhase::Running;
                self.show_pod(&uid);
            }
        }
        for app in self.apps.clone() {
            self.replace(&app);
            self.schedule(&app);
            let seen = self.workload(&app);
            self.changes.extend(seen);
        }
        for name in self.budgets.clone().into_keys() {
            self.budget(&name);
        }
    }

    fn remove_the_gone(&mut self) {
        let gone: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, p)| p.gone_at.is_some_and(|at| at <= self.now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            let pod = self.pods.remove(&uid).unwrap().pod;
            self.bump();
            self.changes.push(Input::PodGone(pod.id.clone()));
            let detached = self.now + std::time::Duration::from_secs(3);
            for claim in &pod.claims {
                if let Some((_, at)) = self.attachments.get_mut(&format!("va-{claim}")) {
                    *at = Some(detached);
                }
            }
        }
        let detached: Vec<String> = self
            .attachments
            .iter()
            .filter(|(_, (_, at))| at.is_some_and(|at| at <= self.now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in detached {
            self.attachments.remove(&name);
            self.changes.push(Input::VolumeDetached { name });
        }
    }

    fn replace(&mut self, app: &App) {
        let own: Vec<Pod> = self
            .pods
            .values()
            .filter(|p| p.pod.workload.as_deref() == Some(&app.id))
            .map(|p| p.pod.clone())
            .collect();
        let alive = own.iter().filter(|pod| pod.deletion.is_none()).count();
        let wanted = usize::try_from(app.replicas).unwrap().saturating_sub(alive);
        let names: BTreeSet<&str> = own.iter().map(|pod| pod.id.name.as_str()).collect();
        for _ in 0..wanted {
            self.uids += 1;
            let uid = format!("uid-{}", self.uids);
            let name = if app.sticky {
                // Never two of one name: it waits for the old one to be gone.
                let slots = (0..app.replicas).map(|index| format!("{}-{index}", app.id.name));
                let taken = |name: &String| {
                    names.contains(name.as_str())
                        || self.pods.values().any(|p| p.pod.id.name == *name)
                };
                match slots.into_iter().find(|name| !taken(name)) {
                    Some(name) => name,
                    None => break,
                }
            } else {
                format!("{}-{uid}", app.id.name)
            };
            self.create(app, name, uid);
        }
    }

    fn create(&mut self, app: &App, name: String, uid: String) {
        let mut pod = Pod::new(PodId::new("ns", name, uid.clone()), "");
        pod.node = None;
        pod.ready = false;
        pod.phase = PodPhase::Pending;
        pod.labels.insert("app".into(), app.id.name.clone());
        pod.workload = Some(app.id.clone().into());
        pod.controller = Some(
            ControllerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: app.id.name.clone(),
                uid: format!("rs-{}", app.id.name),
            }
            .into(),
        );
        if app.tolerates {
            pod.placement.tolerations = vec![Toleration::everything()];
        }
        let model = ModelPod {
            pod,
            version: 0,
            ready_at: self.now,
            gone_at: None,
        };
        self.pods.insert(uid.clone(), model);
        self.show_pod(&uid);
    }

    fn schedule(&mut self, app: &App) {
        let pending: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, p)| p.pod.node.is_none() && p.pod.workload.as_deref() == Some(&app.id))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in pending {
            let open: Vec<String> = self
                .nodes
                .values()
                .filter(|node| app.tolerates || !node.unschedulable)
                .map(|node| node.name.clone())
                .collect();
            if open.is_empty() {
                return;
            }
            let index = self.noise.below(open.len() as u64);
            let node = open[usize::try_from(index).unwrap()].clone();
            let start = std::time::Duration::from_secs(1 + self.noise.below(15));
            let model = self.pods.get_mut(&uid).unwrap();
            model.pod.node = Some(node.clone());
            model.ready_at = self.now + start;
            let id = model.pod.id.clone();
            if app.claims {
                let volume = format!("vol-{uid}");
                model.pod.claims = vec![volume.clone()];
                let name = format!("va-{volume}");
                let claim = volume.clone();
                self.changes.push(Input::ClaimSeen {
                    namespace: "ns".into(),
                    name: claim,
                    volume: volume.clone(),
                });
                let attachment = Attachment {
                    name: name.clone(),
                    node: node.clone(),
                    volume: Some(volume),
                };
                self.changes.push(Input::VolumeSeen(attachment.clone()));
                self.attachments.insert(name, (attachment, None));
            }
            self.bound.insert(uid.clone(), (id, node));
            self.show_pod(&uid);
        }
    }

    fn budget(&mut self, name: &str) {
        let app = self
            .apps
            .iter()
            .find(|app| app.id.name == name)
            .unwrap()
            .clone();
        let healthy_pods: Vec<String> = self
            .pods
            .values()
            .filter(|p| p.pod.workload.as_deref() == Some(&app.id) && p.pod.is_healthy())
            .map(|p| p.pod.id.name.clone())
            .collect();
        let disrupted = self.disrupted.entry(name.to_owned()).or_default();
        let now = self.now;
        let terminating: BTreeSet<String> = self
            .pods
            .values()
            .filter(|p| p.pod.deletion.is_some())
            .map(|p| p.pod.id.name.clone())
            .collect();
        disrupted
            .retain(|pod, since| now.since(*since).as_secs() < 120 && !terminating.contains(pod));
        let healthy = healthy_pods
            .iter()
            .filter(|p| !disrupted.contains_key(*p))
            .count();
        let disrupted: BTreeSet<String> = disrupted.keys().cloned().collect();
        let budget = self.budgets.get_mut(name).unwrap();
        let desired = budget.desired_healthy(app.replicas);
        let mut status = budget.status.clone();
        status.desired_healthy = i32::try_from(desired).unwrap();
        status.current_healthy = i32::try_from(healthy).unwrap();
        status.expected_pods = i32::try_from(app.replicas).unwrap();
        status.disruptions_allowed = (status.current_healthy - status.desired_healthy).max(0);
        status.disrupted_pods = disrupted;
        status.observed = true;
        if status != budget.status {
            budget.status = status;
            let budget = budget.clone();
            let version = self.bump();
            self.changes
                .push(Input::PdbSeen(Seen::new(budget, version)));
        }
    }
}
