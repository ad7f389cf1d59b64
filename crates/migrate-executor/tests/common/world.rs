//! A small cluster in memory, which counts and judges everything done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use migrate_core::{
    Addon, ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget, Finding,
    IntOrPercent, KubeVersion, LabelSelector, Moment, Node, Phase, Pod, PodId, Point, Policy, Role,
    Workload, WorkloadId,
};
use migrate_executor::AnchorState;
use migrate_kube::Holder;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A handle on the cluster; clones share it.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    /// Told when the planned crash has come.
    pub(crate) crashed: Arc<Notify>,
}

pub(crate) struct Inner {
    pub(crate) id: ClusterId,
    pub(crate) members: BTreeMap<String, Machine>,
    pub(crate) nodes: BTreeMap<String, Machine>,
    pub(crate) addons: BTreeMap<String, Machine>,
    pub(crate) anchor: Anchor,
    /// Everything done to the cluster, in order.
    pub(crate) effects: Vec<String>,
    /// What must never happen and did.
    pub(crate) broken: Vec<String>,
    /// Crash right after this many effects.
    pub(crate) crash_after: Option<usize>,
    /// How the world misbehaves.
    pub(crate) faults: Faults,
    /// Open in the journal when it was last opened, and not looked at since.
    pub(crate) unlooked: BTreeMap<String, Phase>,
    pub(crate) to: KubeVersion,
    /// Pods that left their node and run elsewhere.
    pub(crate) displaced: u32,
    /// By node: displaced workloads that its verification asked about.
    pub(crate) asked_about: BTreeMap<String, BTreeSet<WorkloadId>>,
    widths: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Anchor {
    pub(crate) run: Option<String>,
    pub(crate) journal: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) holder: Option<Holder>,
    pub(crate) paused: bool,
}

impl Anchor {
    pub(crate) fn state(&self) -> AnchorState {
        let state = match (&self.run, &self.journal) {
            (Some(run), Some(journal)) => AnchorState::new().with_run(run, journal),
            _ => AnchorState::new(),
        };
        let state = state
            .with_epoch(self.epoch)
            .with_holder(self.holder.clone());
        state.with_paused(self.paused)
    }
}

/// What goes wrong, by node or member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Says it succeeded and did nothing.
    pub(crate) lies: BTreeSet<String>,
    /// Upgrades that fail, and how often.
    pub(crate) fails: BTreeMap<String, (u32, bool)>,
    /// Further attempts that are not begun yet, and how often.
    pub(crate) put_off: BTreeMap<String, u32>,
    /// Addons that do not work once they are upgraded.
    pub(crate) broken_addons: BTreeSet<String>,
    /// Drains that are given up after the cordon.
    pub(crate) undrainable: BTreeSet<String>,
    /// Drains that are given up before the cordon.
    pub(crate) refused: BTreeSet<String>,
    /// Nodes that the driver deletes once their upgrade is over, for one with
    /// `-new` to its name.
    pub(crate) replaced: BTreeSet<String>,
    /// Nobody answers what has become of the upgrade.
    pub(crate) unprobed: BTreeSet<String>,
    /// Upgrades that never end.
    pub(crate) stuck: BTreeSet<String>,
    /// Begins that never return.
    pub(crate) hangs: BTreeSet<String>,
    /// The drainer is not allowed to work.
    pub(crate) drainer_forbidden: bool,
    /// The drainer takes commands and never answers.
    pub(crate) drainer_silent: bool,
    /// The drainer's stream ends after that many events, once.
    pub(crate) drainer_ends_after: Option<u32>,
    /// Nobody compares epochs: for negative controls.
    pub(crate) unfenced: bool,
    /// Neither the cluster nor the anchor answers.
    pub(crate) api_away: bool,
    /// Calls that had no answer for that.
    pub(crate) unanswered: usize,
    /// The anchor cannot be renewed.
    pub(crate) unrenewable: bool,
    /// Renewals take 15 s, or until the anchor is cleared.
    pub(crate) slow_renewals: bool,
    /// The anchor cannot be read that many times.
    pub(crate) anchor_unreadable: u32,
    /// The anchor may not be read that many times.
    pub(crate) anchor_forbidden: u32,
    /// The checks before the run cannot be made that many times.
    pub(crate) preflight_away: u32,
    /// The scheduler cannot be told that many times what it is to prefer, and how often it
    /// was tried.
    pub(crate) untold: (u32, u32),
    /// The cluster cannot be observed.
    pub(crate) unobservable: bool,
    /// A member's agents roll out for that many looks, and whether that shows.
    pub(crate) rolling: (u32, bool),
    /// Watches show nothing new.
    pub(crate) blind: bool,
    /// A verification that passes notes it.
    pub(crate) noted: Vec<Finding>,
    /// Whoever asks how an upgrade stands is told it too.
    pub(crate) finds: Vec<Finding>,
}

/// A node, or a control-plane member.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) pool: String,
    pub(crate) version: KubeVersion,
    pub(crate) unschedulable: bool,
    pub(crate) cordon: Option<Cordon>,
    /// The epoch that last wrote to it in the API, and that last began something
    /// on it.
    pub(crate) stamp: u64,
    pub(crate) fence: u64,
    pub(crate) pods: u32,
    /// Which machine it is of those that had the name.
    pub(crate) number: u32,
    pub(crate) upgrade: Option<Upgrade>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cordon {
    pub(crate) run: String,
    pub(crate) before: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    pub(crate) action: String,
    pub(crate) done_at: Instant,
    pub(crate) fails: Option<bool>,
    pub(crate) lies: bool,
    /// The version it brings.
    pub(crate) to: KubeVersion,
}

/// How long a node's upgrade takes.
pub(crate) const UPGRADE: Duration = Duration::from_secs(20);

impl World {
    /// Two members, two control-plane nodes, and workers in two pools.
    pub(crate) fn new() -> Self {
        let old = version("v1.36.4");
        let machine = |pool: &str, pods| Machine {
            pool: pool.to_owned(),
            version: old.clone(),
            unschedulable: false,
            cordon: None,
            stamp: 0,
            fence: 0,
            pods,
            number: 0,
            upgrade: None,
        };
        let members = ["cp-1", "cp-2"].map(|name| (name.to_owned(), machine("members", 0)));
        let addons = ["cni", "csi"].map(|name| (name.to_owned(), machine("addons", 0)));
        let mut nodes = BTreeMap::new();
        for name in ["cp-1", "cp-2"] {
            nodes.insert(name.to_owned(), machine("control-plane", 0));
        }
        for name in ["red-1", "red-2", "red-3"] {
            nodes.insert(name.to_owned(), machine("red", 1));
        }
        for name in ["blue-1", "blue-2"] {
            nodes.insert(name.to_owned(), machine("blue", 2));
        }
        let widths = [("control-plane", 1), ("red", 2), ("blue", 1)];
        let inner = Inner {
            id: ClusterId::new("6f9e0d35-0000-4000-8000-000000000001"),
            members: members.into(),
            nodes,
            addons: addons.into(),
            anchor: Anchor::default(),
            effects: Vec::new(),
            broken: Vec::new(),
            crash_after: None,
            faults: Faults::default(),
            unlooked: BTreeMap::new(),
            to: version("v1.37.1"),
            displaced: 0,
            asked_about: BTreeMap::new(),
            widths: widths.map(|(pool, width)| (pool.to_owned(), width)).into(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            crashed: Arc::new(Notify::new()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Takes note of an effect, which has just been made. Never returns if the
    /// process is to die right after it.
    pub(crate) async fn effect(&self, what: String) {
        let crash = {
            let mut world = self.lock();
            world.effects.push(what);
            world.judge();
            world.crash_after == Some(world.effects.len())
        };
        if crash {
            self.lock().crash_after = None;
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// The cluster as decisions see it.
    pub(crate) fn model(&self) -> ClusterModel {
        self.lock().model()
    }

    pub(crate) fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        policy.pools.label = "pool".to_owned();
        let widths = [("red", 2), ("blue", 1)];
        policy.pools.max_unavailable_of = widths
            .map(|(pool, width)| (pool.to_owned(), IntOrPercent::Int(width)))
            .into();
        policy
    }

    /// [`policy`](Self::policy) with both addons after the control plane.
    pub(crate) fn policy_with_addons(&self) -> Policy {
        let mut policy = self.policy();
        let addon = |name| Addon::new(name, Point::AfterControlPlane);
        policy.addons = ["cni", "csi"].map(addon).to_vec();
        policy.addons[0].undo = Some("/undo/cni".into());
        policy
    }

    /// Deletes `node`; its pods run elsewhere.
    pub(crate) fn delete(&self, node: &str) {
        let mut world = self.lock();
        let machine = world.nodes.remove(node).unwrap();
        world.displaced += machine.pods;
    }

    /// Makes `node` anew: another machine of the old version, in use at once.
    pub(crate) fn make_anew(&self, node: &str) {
        let mut world = self.lock();
        let machine = world.nodes.get_mut(node).unwrap();
        *machine = Machine {
            version: version("v1.36.4"),
            unschedulable: false,
            cordon: None,
            stamp: 0,
            fence: 0,
            pods: machine.pods + 1,
            number: machine.number + 1,
            upgrade: None,
            ..machine.clone()
        };
        // Its pod is one that had left another node.
        world.displaced = world.displaced.saturating_sub(1);
    }

    /// What an upgrade leaves behind, however it came about.
    pub(crate) fn state(&self) -> String {
        let world = self.lock();
        let line = |(name, machine): (&String, &Machine)| {
            format!(
                "{name} {} unschedulable={} cordon={:?}\n",
                machine.version, machine.unschedulable, machine.cordon
            )
        };
        let members = world.members.iter().map(line);
        let nodes = world.nodes.iter().chain(&world.addons).map(line);
        let pods = world.displaced + world.nodes.values().map(|node| node.pods).sum::<u32>();
        // The epoch tells how often a run was opened.
        let (run, paused) = (&world.anchor.run, world.anchor.paused);
        let rest = format!("pods {pods}, run {run:?}, paused {paused}\n");
        members.chain(nodes).chain([rest]).collect()
    }

    /// The kill switch.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().anchor.paused = paused;
    }
}

impl Inner {
    /// The rules that hold at every moment.
    fn judge(&mut self) {
        let mut broken = Vec::new();
        for (pool, width) in &self.widths {
            let away = |node: &&Machine| node.pool == *pool && node.unschedulable;
            let away = self.nodes.values().filter(away).count();
            if away > *width {
                broken.push(format!("{away} nodes of pool {pool} are away"));
            }
        }
        let working = |machine: &&Machine| {
            machine
                .upgrade
                .as_ref()
                .is_some_and(|upgrade| upgrade.done_at > Instant::now())
        };
        if self.members.values().filter(working).count() > 1 {
            broken.push("two members are changed at once".to_owned());
        }
        let mut seen = BTreeSet::new();
        let once = ["begin ", "cordon ", "evict "];
        for effect in self
            .effects
            .iter()
            .filter(|e| once.iter().any(|o| e.starts_with(o)))
        {
            let is_anew = |(name, machine): (&String, &Machine)| {
                machine.number > 0 && effect.contains(name.as_str())
            };
            if !seen.insert(effect) && !self.nodes.iter().any(is_anew) {
                broken.push(format!("done twice: {effect}"));
            }
        }
        self.broken.extend(broken);
    }

    /// Takes note of something that begins.
    pub(crate) fn begins(&mut self, what: &str) {
        let unlooked: Vec<_> = self.unlooked.keys().collect();
        if !unlooked.is_empty() {
            self.broken
                .push(format!("{what} begins before a look at {unlooked:?}"));
        }
    }

    /// Lets finished upgrades take effect.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        let machines = self.members.values_mut().chain(self.nodes.values_mut());
        for machine in machines.chain(self.addons.values_mut()) {
            if let Some(upgrade) = &machine.upgrade
                && upgrade.done_at <= now
                && upgrade.fails.is_none()
                && !upgrade.lies
            {
                machine.version = upgrade.to.clone();
            }
        }
    }

    /// The node that came in place of `name`, which is upgraded, if the driver
    /// replaces that.
    pub(crate) fn replacement(&mut self, name: &str) -> Option<String> {
        if !self.faults.replaced.contains(name) {
            return None;
        }
        let new = format!("{name}-new");
        if let Some(mut machine) = self.nodes.remove(name) {
            machine.unschedulable = false;
            machine.cordon = None;
            self.nodes.insert(new.clone(), machine);
        }
        Some(new)
    }

    fn model(&mut self) -> ClusterModel {
        self.settle();
        let mut model = ClusterModel::new(self.id.clone(), Moment::from_millis(1_795_000_000_000));
        for (name, member) in &self.members {
            model
                .control_plane
                .push(ControlPlaneMember::new(name, member.version.clone()));
        }
        let web = WorkloadId::new("Deployment", "shop", "web");
        let mut replicas = 0;
        for (name, machine) in &self.nodes {
            let mut node = Node::new(name, machine.version.clone());
            node.uid = format!("{name} {}", machine.number);
            node.unschedulable = machine.unschedulable;
            if machine.pool == "control-plane" {
                node.role = Role::ControlPlane;
            } else {
                node.labels.insert("pool".to_owned(), machine.pool.clone());
            }
            model.nodes.push(node);
            for number in 0..machine.pods {
                let id = format!("{name}-{number}");
                let mut pod = Pod::new(PodId::new("shop", &id, &id), name);
                pod.labels.insert("app".to_owned(), "web".to_owned());
                pod.workload = Some(web.clone().into());
                pod.controller = Some(
                    ControllerRef {
                        group: "apps".to_owned(),
                        kind: "ReplicaSet".to_owned(),
                        name: "web-1".to_owned(),
                        uid: "web-1".to_owned(),
                    }
                    .into(),
                );
                model.pods.push(pod);
                replicas += 1;
            }
        }
        let mut workload = Workload::new(web, replicas);
        workload.ready = replicas;
        model.workloads.push(workload);
        let selector = LabelSelector::new().with_label("app", "web");
        let mut budget = DisruptionBudget::new("shop", "web", selector);
        budget.max_unavailable = Some(IntOrPercent::Int(2));
        budget.status.observed = true;
        budget.status.disruptions_allowed = 2;
        model.budgets.push(budget);
        model.sort();
        model
    }
}

pub(crate) fn version(text: &str) -> KubeVersion {
    text.parse().unwrap()
}
