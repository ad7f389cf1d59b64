//! What it costs to predict where pods go.
//!
//! Prints `figure NAME VALUE UNIT` lines: the least of several runs, in processor
//! time. A plan for a cluster whose nodes say what they offer, less the same plan
//! where they do not. `PLACEMENT_BENCH_NODES=100000` adds that size, which needs
//! some 80 kB for each node.

#![allow(clippy::unwrap_used, reason = "benches")]

mod common;

use std::time::Duration;

use common::{Random, least, millis};
use migrate_core::model::Resources;
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, IntOrPercent, KubeVersion, Moment,
    Node, Pod, PodId, Policy, Workload, WorkloadId,
};
use migrate_plan::Planner;

const OLD: KubeVersion = KubeVersion::new(1, 36, 3);
const NEW: KubeVersion = KubeVersion::new(1, 37, 2);
const ZONE: &str = "topology.kubernetes.io/zone";
const PATIENCE: Duration = Duration::from_secs(1);

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
    let mut random = Random(42);
    let mut below = move |limit| random.below(limit);
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
            pod.workload = Some(id.clone().into());
            pod.controller = Some(
                ControllerRef {
                    group: "apps".into(),
                    kind: "ReplicaSet".into(),
                    name: app.clone(),
                    uid: app.clone(),
                }
                .into(),
            );
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

fn figures(name: &str, nodes: usize) {
    let mut model = cluster(nodes);
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Percent(5);
    let plan = |model: &ClusterModel| {
        let planner = Planner::new(model, &policy, NEW).with_model_hash("000000000000");
        planner.plan().unwrap()
    };
    let relocation = plan(&model).relocation.unwrap();
    let with = millis(least(PATIENCE, || plan(&model)));
    for node in &mut model.nodes {
        node.allocatable = Resources::default();
    }
    let without = millis(least(PATIENCE, || plan(&model)));
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
