//! Generated clusters: as uneven as real ones, and the same for the same seed.

mod apps;
mod shapes;

use std::time::Duration;

use migrate_core::cost::PhaseDurations;
use migrate_core::model::Resources;
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, IntOrPercent, KubeVersion, Moment, Node, Phase,
    Plan, Policy, Role,
};
use migrate_plan::{Error, Measured, Planner, TargetKind};

use crate::random::Random;
use shapes::Mix;
pub use shapes::{SHAPES, shape};

/// Version of every node before.
pub const OLD: KubeVersion = KubeVersion::new(1, 36, 3);
/// Version of every node after.
pub const NEW: KubeVersion = KubeVersion::new(1, 37, 2);
/// The label of a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONES: usize = 3;

/// What kind of cluster is generated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Workers.
    pub nodes: usize,
    /// Pools of workers, of uneven sizes.
    pub pools: usize,
    /// Pods that have to move, for each worker, in the mean.
    pub pods_per_node: usize,
    /// Replicas of the largest workload.
    pub largest_app: usize,
    /// Part of all processors that is asked for: tight from some 0.8 on.
    pub fill: f64,
    /// How many nodes of a pool may be away.
    pub width: IntOrPercent,
    /// `maxUnavailable` of the budget that workloads without one are given.
    pub assumed: IntOrPercent,
    /// How long a pod takes to go, if its grace period allows that long, in seconds.
    pub longest_stop: u64,
    /// Upgrade one node of each pool alone first.
    pub canary: bool,
    /// The control plane has three nodes of its own; else it is managed, and one
    /// member stands for it.
    pub own_control_plane: bool,
}

/// A generated cluster with everything that planning it needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Instance {
    /// What it was made from, with the setting.
    pub seed: u64,
    /// The cluster.
    pub model: ClusterModel,
    /// How it is upgraded.
    pub policy: Policy,
    /// What phases last; whole seconds.
    pub durations: PhaseDurations,
    /// What changing a node takes, by pool: lognormal over the pools.
    pub measured: Measured,
    /// How old each node of the model is, in days.
    pub ages: Vec<u32>,
}

impl Setting {
    /// A cluster of 10 to 40 workers, everything else drawn as well: small enough
    /// for an exact solver.
    pub fn small(seed: u64) -> Self {
        let random = &mut Random::stream(seed, 0);
        let nodes = 10 + random.below(31);
        let widths = [
            IntOrPercent::Int(1),
            IntOrPercent::Int(2),
            IntOrPercent::Int(3),
            IntOrPercent::Percent(20),
            IntOrPercent::Percent(33),
            IntOrPercent::Percent(50),
        ];
        let assumed = [
            IntOrPercent::Int(1),
            IntOrPercent::Percent(10),
            IntOrPercent::Percent(25),
        ];
        Self {
            nodes,
            pools: 1 + random.below(4),
            pods_per_node: 4 + random.below(17),
            largest_app: nodes,
            fill: if random.chance(0.5) { 0.85 } else { 0.5 },
            width: widths[random.below(widths.len())],
            assumed: assumed[random.below(assumed.len())],
            longest_stop: 1800,
            canary: random.chance(0.7),
            own_control_plane: random.chance(0.5),
        }
    }

    /// A cluster of `nodes` workers in four pools, a tenth of each away at once,
    /// under a managed control plane: for comparing tools.
    pub fn fleet(nodes: usize, seed: u64) -> Self {
        let random = &mut Random::stream(seed, 0);
        Self {
            nodes,
            pools: 4,
            pods_per_node: 25,
            largest_app: 60,
            fill: 0.6 + 0.1 * random.unit(),
            width: IntOrPercent::Percent(10),
            assumed: IntOrPercent::Percent(10),
            longest_stop: 1800,
            canary: true,
            own_control_plane: false,
        }
    }

    /// A cluster of `nodes` workers in pools of some 250, with 30 pods for each
    /// worker.
    pub fn large(nodes: usize, seed: u64) -> Self {
        let random = &mut Random::stream(seed, 0);
        let percents = [2, 5, 10, 20];
        Self {
            nodes,
            pools: nodes.div_ceil(250),
            pods_per_node: 30,
            largest_app: if random.chance(0.5) { 400 } else { 40 },
            fill: if random.chance(0.5) { 0.8 } else { 0.5 },
            width: IntOrPercent::Percent(percents[random.below(percents.len())]),
            assumed: IntOrPercent::Percent(if random.chance(0.5) { 10 } else { 25 }),
            longest_stop: if random.chance(0.5) { 1800 } else { 30 },
            canary: random.chance(0.5),
            own_control_plane: true,
        }
    }
}

impl Instance {
    /// The cluster of `setting` and `seed`.
    pub fn new(setting: &Setting, seed: u64) -> Self {
        let random = &mut Random::stream(seed, 1);
        let name = format!("generated-{seed}");
        let mut model = ClusterModel::new(ClusterId::new(name), Moment::EPOCH);
        add_control_plane(&mut model, setting.own_control_plane);
        let pools = add_workers(&mut model, setting, random);
        apps::add(&mut model, &pools, setting, random);
        model.sort();
        let ages = model.nodes.iter().map(|_| 1 + random.below(400) as u32);
        let ages = ages.collect();
        let measured = pools.iter().enumerate().map(|(pool, nodes)| {
            let seconds = random.lognormal(240.0, 0.5).clamp(60.0, 1500.0) as u64;
            (pool_name(pool), nodes.len() as u32, seconds)
        });
        let measured = measured.fold(Measured::default(), |measured, (pool, nodes, seconds)| {
            let total = Duration::from_secs(seconds * u64::from(nodes));
            measured.with_phase(TargetKind::Nodes { pool }, Phase::Upgrade, nodes, total)
        });
        let mut policy = Policy::default();
        policy.pools.max_unavailable = setting.width;
        policy.pools.canary = setting.canary;
        policy.assumed_budgets.max_unavailable = setting.assumed;
        Self {
            seed,
            model,
            policy,
            durations: durations(setting.longest_stop),
            measured,
            ages,
        }
    }

    /// The same cluster, but no node says what it offers, so that no plan has regard
    /// to room: for comparing plans with what knows no rule for it.
    #[must_use]
    pub fn without_capacity(mut self) -> Self {
        for node in &mut self.model.nodes {
            node.allocatable = Resources::default();
        }
        self
    }

    /// A planner of this cluster.
    pub fn planner(&self) -> Planner<'_> {
        Planner::new(&self.model, &self.policy, NEW)
            .with_durations(self.durations.clone())
            .with_measured(&self.measured)
    }

    /// The plan of this cluster.
    ///
    /// # Errors
    /// None for a cluster as it was generated.
    pub fn plan(&self) -> Result<Plan, Error> {
        self.planner().plan()
    }
}

/// Whole seconds; pods take all of their grace period up to `longest_stop`, so that
/// drains differ as their pods do.
fn durations(longest_stop: u64) -> PhaseDurations {
    let mut durations = PhaseDurations::default();
    durations.stop = Duration::from_secs(longest_stop);
    durations.schedule = Duration::ZERO;
    durations
}

fn add_control_plane(model: &mut ClusterModel, is_own: bool) {
    if !is_own {
        let member = ControlPlaneMember::new("control-plane", OLD);
        model.control_plane.push(member);
        return;
    }
    for number in 0..3 {
        let name = format!("cp-{number}");
        model
            .control_plane
            .push(ControlPlaneMember::new(&name, OLD));
        let mut node = Node::new(name, OLD);
        node.role = Role::ControlPlane;
        model.nodes.push(node);
    }
}

/// Workers by pool, as positions in the model. Zones differ in size and in the
/// shapes of their machines.
fn add_workers(
    model: &mut ClusterModel,
    setting: &Setting,
    random: &mut Random,
) -> Vec<Vec<usize>> {
    let mixes: Vec<Mix> = (0..ZONES).map(|_| Mix::new(random)).collect();
    let mut pools = vec![Vec::new(); setting.pools.max(1)];
    for number in 0..setting.nodes {
        // The first pools are larger; none is empty.
        let pool = match number < pools.len() {
            true => number,
            false => random.below(pools.len()).min(random.below(pools.len())),
        };
        let zone = random.below(ZONES).min(random.below(ZONES));
        let mut node = Node::new(format!("node-{number:05}"), OLD);
        let labels = [
            ("node.kubernetes.io/pool", pool_name(pool)),
            (ZONE, format!("zone-{zone}")),
            (HOSTNAME, node.name.clone()),
        ];
        for (key, value) in labels {
            node.labels.insert(key.to_owned(), value);
        }
        node.allocatable = mixes[zone].draw(random);
        pools[pool].push(model.nodes.len());
        model.nodes.push(node);
    }
    pools
}

fn pool_name(number: usize) -> String {
    format!("pool-{number:03}")
}

#[cfg(test)]
mod tests {
    use migrate_core::content_hash;

    use super::*;

    #[test]
    fn equal_seeds_give_equal_clusters_and_others_differ() {
        let hash = |seed| content_hash(&Instance::new(&Setting::small(seed), seed).model);
        assert_eq!(hash(3), hash(3));
        assert_ne!(hash(3), hash(4));
    }

    #[test]
    fn nothing_is_over_its_capacity_and_every_plan_is_whole() {
        for seed in 0..20 {
            let instance = Instance::new(&Setting::small(seed), seed);
            for node in &instance.model.nodes {
                let pods = instance.model.pods.iter();
                let pods = pods.filter(|pod| pod.node.as_ref() == Some(&node.name));
                let cpu: u64 = pods.map(|pod| pod.requests.cpu_milli).sum();
                assert!(cpu <= node.allocatable.cpu_milli, "{}", node.name);
            }
            let plan = instance.plan().unwrap();
            assert!(plan.findings.iter().all(|finding| !finding.blocks()));
            let found = migrate_plan::lint(&plan, &instance.model, &instance.policy);
            assert!(found.is_empty(), "{found:?}");
        }
    }
}
