//! What kind of cluster and what kind of day a world is of.

use std::time::Duration;

use migrate_core::cost::{Bytes, BytesPerSecond, Link, PhaseDurations};
use migrate_core::model::Resources;
use migrate_core::policy::ZonePolicy;
use migrate_core::{ClusterModel, IntOrPercent, OnDeadline, Policy, ZONE_LABEL};

use migrate_plan::{Beliefs, Planner};

use super::{Cluster, NEW, Random, addons, version};

/// What kind of cluster and what kind of day.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) members: usize,
    pub(crate) control_plane_nodes: usize,
    pub(crate) control_plane_nodes_first: bool,
    /// Seconds.
    pub(crate) soak: u64,
    pub(crate) max_failed: u32,
    /// An addon at each point, two after the control plane, and the second backup.
    pub(crate) tasks: bool,
    /// Begins only from 9 to 11.
    pub(crate) windows: bool,
    /// A window has to hold P95, by public figures.
    pub(crate) beliefs: bool,
    /// Nodes and width of each pool.
    pub(crate) pools: Vec<(usize, u32)>,
    /// Replicas, and allowance of a real budget if it has one.
    pub(crate) workloads: Vec<(usize, Option<i32>)>,
    pub(crate) canary: bool,
    /// Stages of each pool after its canary.
    pub(crate) ramp: Vec<u32>,
    /// Nodes are in three zones, and one of a pool is in work at a time.
    pub(crate) one_zone: bool,
    /// Nodes of each pool that are kept for failures; its width is wider by so many.
    pub(crate) reserve: u32,
    /// Nodes of each pool that may be behind replacements.
    pub(crate) surge: u32,
    /// A version of its own of the first pool.
    pub(crate) own_target: Option<&'static str>,
    /// The runner is on one of the nodes; where there is noise, it also moves.
    pub(crate) runner: bool,
    /// Pods that may be displaced in a minute.
    pub(crate) pace: u32,
    /// What the scheduler is predicted to take for each pod, in milliseconds, if it is slow.
    pub(crate) per_pod: u64,
    /// What each node fetches over a link, in bytes of which it carries 7 a second; in some
    /// worlds half as much over a second one, which is half as fast and has latency.
    pub(crate) fetches: u64,
    pub(crate) skip: bool,
    /// Chances in per cent, per action or per event.
    pub(crate) retry: u64,
    pub(crate) fail: u64,
    pub(crate) replace: u64,
    /// Drains that are put off because another node of the pool is away.
    pub(crate) defer: u64,
    pub(crate) noise: u64,
    /// Nodes that are found to be others, or gone, when they are to be upgraded.
    pub(crate) lose: u64,
    /// Actions that are begun so long after they were decided that their window is over.
    pub(crate) late: u64,
    /// Feed budget states as a cluster would show them.
    pub(crate) budget_status: bool,
    /// Aborts after so many turns, 0 being before the start.
    pub(crate) abort: Option<u64>,
    /// Poll at `wake_at`, or only when something happens anyway.
    pub(crate) punctual: bool,
}

/// Plans as worlds of `scenario` do.
pub(crate) fn planner<'a>(
    scenario: &Scenario,
    model: &'a ClusterModel,
    policy: &'a Policy,
    runner: Option<&'a str>,
) -> Planner<'a> {
    let rounds = (scenario.seed % 3) as u32 * 8;
    let mut planner = Planner::new(model, policy, version(NEW))
        .with_improvement(rounds)
        .with_replacements();
    if let Some(runner) = runner {
        planner = planner.with_runner_on(runner);
    }
    if scenario.per_pod > 0 {
        let mut durations = PhaseDurations::default();
        durations.schedule = Duration::from_millis(scenario.per_pod);
        planner = planner.with_durations(durations);
    }
    for link in links(scenario) {
        planner = planner.with_link(link);
    }
    if scenario.beliefs {
        planner = planner.with_beliefs(&Beliefs::default());
    }
    planner
}

/// What nodes and pods of `scenario` fetch over.
fn links(scenario: &Scenario) -> Vec<Link> {
    if scenario.fetches == 0 {
        return Vec::new();
    }
    // Pods fetch over it too, in every third world, and fit into a window with it.
    let of_pods = match scenario.seed % 3 {
        0 => scenario.fetches / 90,
        _ => 0,
    };
    let link = |name: &str, throughput: u64, bytes: u64| {
        let link = Link::new(name, BytesPerSecond(throughput)).with_per_node(Bytes(bytes));
        link.with_per_pod(Bytes(of_pods))
    };
    let second = link("packages", 3, scenario.fetches / 2);
    let second = second.with_latency(Duration::from_micros(20_700));
    let mut links = vec![link("registry", 7, scenario.fetches), second];
    links.truncate(1 + scenario.seed as usize % 2);
    links
}

/// The cluster, and the policy that goes with it.
pub(crate) fn cluster(scenario: &Scenario, random: &mut Random) -> (ClusterModel, Policy) {
    let mut cluster = Cluster::new();
    for member in 0..scenario.members {
        cluster = cluster.member(&format!("member-{member}"));
    }
    let mut policy = Policy::default();
    policy.pools.canary = scenario.canary;
    policy.pools.ramp.clone_from(&scenario.ramp);
    policy.pools.failure_reserve = IntOrPercent::Int(scenario.reserve);
    policy.deadlines.then = if scenario.skip {
        OnDeadline::Skip
    } else {
        OnDeadline::Stop
    };
    policy.rollout.control_plane_nodes_first = scenario.control_plane_nodes_first;
    policy.rollout.canary_soak = Duration::from_secs(scenario.soak);
    policy.rollout.displaced_per_minute = scenario.pace;
    policy.rollout.max_failed_nodes = scenario.max_failed;
    policy.backup.after_control_plane = scenario.tasks;
    if scenario.tasks {
        policy.addons = addons();
    }
    if scenario.windows {
        let windows = r#"[{"from": "09:00", "to": "11:00"}]"#;
        policy.rollout.windows = serde_json::from_str(windows).unwrap();
    }
    if let Some(own) = scenario.own_target {
        let targets = &mut policy.pools.target_of;
        targets.insert("pool-0".to_owned(), version(own));
    }
    cluster = cluster.pool("control-plane", scenario.control_plane_nodes);
    let mut names: Vec<String> = (1..=scenario.control_plane_nodes)
        .map(|node| format!("control-plane-{node}"))
        .collect();
    for (number, (nodes, width)) in scenario.pools.iter().enumerate() {
        let pool = format!("pool-{number}");
        cluster = cluster.pool(&pool, *nodes);
        names.extend((1..=*nodes).map(|node| format!("{pool}-{node}")));
        let width = IntOrPercent::Int(width + scenario.reserve);
        policy.pools.max_unavailable_of.insert(pool.clone(), width);
        if scenario.surge > 0 {
            let surge = IntOrPercent::Int(scenario.surge);
            policy.pools.max_surge_of.insert(pool, surge);
        }
    }
    if scenario.one_zone {
        policy.pools.zones = ZonePolicy::OneAtATime;
        cluster = cluster.change(|model| {
            for (at, node) in model.nodes.iter_mut().enumerate() {
                let zone = ["a", "b", ""][at % 3].to_owned();
                if !zone.is_empty() {
                    node.labels.insert(ZONE_LABEL.to_owned(), zone);
                }
            }
        });
    }
    for (number, (replicas, budget)) in scenario.workloads.iter().enumerate() {
        let place = |_| names[random.below(names.len() as u64) as usize].clone();
        let nodes: Vec<String> = (0..*replicas).map(place).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let name = format!("w{number}");
        cluster = cluster.deployment(&name, &nodes);
        if let Some(allowed) = budget {
            cluster = cluster.budget(&name, (*allowed).min(*replicas as i32));
        }
    }
    if scenario.noise > 0 {
        let changed = names[random.below(names.len() as u64) as usize].clone();
        let (ready, cordoned) = (random.percent(80), random.percent(30));
        cluster = cluster.node(&changed, |node| {
            node.ready = ready;
            node.unschedulable = cordoned;
        });
    }
    let mut model = cluster.build();
    if scenario.seed.is_multiple_of(3) {
        give_room(&mut model, Random(scenario.seed));
    }
    (model, policy)
}

/// Nodes of several sizes, and pods that ask for half to nine tenths of all of it, so that
/// room, and not only widths, limits what is away at once.
fn give_room(model: &mut ClusterModel, mut random: Random) {
    let mut all = 0;
    for node in &mut model.nodes {
        let cpu = 1_000 << random.below(4);
        node.allocatable = Resources::new(cpu, 1 << 40, 1_000);
        all += cpu;
    }
    let asked = all * (50 + random.below(41)) / 100;
    let pods = model.pods.len().max(1) as u64;
    for pod in &mut model.pods {
        pod.requests = Resources::new(asked / pods, 1, 1);
    }
}
