//! What it costs to predict where pods go.
//!
//! Prints `figure NAME VALUE UNIT` lines: the least of several runs, in processor
//! time. A plan for a cluster whose nodes say what they offer, less the same plan
//! where they do not. `PLACEMENT_BENCH_NODES=100000` adds that size, which needs
//! some 80 kB for each node.

#![allow(clippy::unwrap_used, reason = "benches")]

use std::time::{Duration, Instant};

use migrate_core::model::Resources;
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, IntOrPercent, KubeVersion, Moment,
    Node, Pod, PodId, Policy, Workload, WorkloadId,
};
use migrate_plan::Planner;

const OLD: KubeVersion = KubeVersion::new(1, 36, 3);
const NEW: KubeVersion = KubeVersion::new(1, 37, 2);
const ZONE: &str = "topology.kubernetes.io/zone";
const RUNS: usize = 5;

/// `nodes` nodes of three shapes in three zones and pools of some 1,000, with 30
/// pods each of ten shapes, one in twenty of which may run in its own pool only;
/// four fifths of the CPU are asked for.
fn cluster(nodes: usize) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("synthetic"), Moment::EPOCH);
    model.control_plane.push(ControlPlaneMember::new("cp", OLD));
    let pools = nodes.div_ceil(1000);
    for number in 0..nodes {
        let mut node = Node::new(format!("node-{number:06}"), OLD);
        let pool = format!("pool-{:03}", number % pools);
        node.labels.insert("node.kubernetes.io/pool".into(), pool);
        let zone = format!("zone-{}", number % 3);
        node.labels.insert(ZONE.into(), zone);
        let cpu = [16_000, 32_000, 64_000][number / 7 % 3];
        node.allocatable = Resources::new(cpu, cpu << 22, 110);
        model.nodes.push(node);
    }
    let mut random = 42u64;
    let mut below = move |limit: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % limit
    };
    let mut free: Vec<u64> = model
        .nodes
        .iter()
        .map(|node| node.allocatable.cpu_milli * 4 / 5)
        .collect();
    let mut workload = 0;
    while model.pods.len() < nodes * 30 {
        let replicas = 1 + below(40).min(below(40));
        let (namespace, app) = (
            format!("ns-{:04}", workload / 100),
            format!("app-{workload}"),
        );
        let id = WorkloadId::new("Deployment", &namespace, &app);
        model
            .workloads
            .push(Workload::new(id.clone(), replicas as u32));
        let cpu = [100, 150, 250, 500, 500, 750, 1_000, 1_000, 2_000, 4_000][below(10)];
        let bound_to_pool = below(20) == 0;
        for replica in 0..replicas {
            let name = format!("{app}-{replica}");
            let tries = [(); 8].map(|()| below(nodes));
            let Some(node) = tries.into_iter().find(|node| free[*node] >= cpu) else {
                continue;
            };
            free[node] -= cpu;
            let mut pod = Pod::new(
                PodId::new(&namespace, &name, &name),
                &model.nodes[node].name,
            );
            pod.labels.insert("app".into(), app.clone());
            pod.workload = Some(id.clone());
            pod.controller = Some(ControllerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: app.clone(),
                uid: app.clone(),
            });
            pod.requests = Resources::new(cpu, cpu << 21, 1);
            if bound_to_pool {
                let pool = format!("pool-{:03}", node % pools);
                let selector = &mut pod.placement.node_selector;
                selector.insert("node.kubernetes.io/pool".into(), pool);
            }
            model.pods.push(pod);
        }
        workload += 1;
    }
    model.sort();
    model
}

/// Nanoseconds that this thread was busy, as Linux' schedstat tells; else of the
/// wall clock.
fn busy() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    fn wall() -> Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let first = stat.and_then(|stat| stat.split_whitespace().next()?.parse().ok());
    first.map_or_else(wall, Duration::from_nanos)
}

fn least<T>(mut work: impl FnMut() -> T) -> (T, f64) {
    let mut run = || {
        let start = busy();
        let result = work();
        (result, (busy() - start).as_secs_f64() * 1e3)
    };
    let (mut result, mut least) = run();
    for _ in 1..RUNS {
        let (again, took) = run();
        (result, least) = (again, least.min(took));
    }
    (result, least)
}

fn figures(name: &str, nodes: usize) {
    let mut model = cluster(nodes);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Percent(5);
    let plan = |model: &ClusterModel| {
        let planner = Planner::new(model, &policy, NEW).with_model_hash("000000000000");
        planner.plan().unwrap()
    };
    let (placed, with) = least(|| plan(&model));
    let relocation = placed.relocation.unwrap();
    for node in &mut model.nodes {
        node.allocatable = Resources::default();
    }
    let (_, without) = least(|| plan(&model));
    println!("figure placement_{name}_pods {} pods", relocation.pods);
    println!("figure placement_{name}_plan {with:.1} ms");
    println!("figure placement_{name}_plan_without {without:.1} ms");
    println!("figure placement_{name}_cost {:.1} ms", with - without);
    let (moves, bound) = (relocation.moves_per_pod(), relocation.least_moves_per_pod());
    println!("figure placement_{name}_moves_per_pod {moves:.3} moves");
    println!("figure placement_{name}_moves_bound {bound:.3} moves");
    println!(
        "figure placement_{name}_homeless {} pods",
        relocation.homeless
    );
}

fn main() {
    figures("1k", 1_000);
    figures("5k", 5_000);
    if let Ok(nodes) = std::env::var("PLACEMENT_BENCH_NODES") {
        figures("large", nodes.parse().unwrap());
    }
}
