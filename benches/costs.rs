//! What grows with something else than nodes and pods: budgets on one pod, placements
//! and sets of pools for the linter, windows that pass.
//!
//! Prints `figure NAME VALUE UNIT` lines: processor time of one thread, the least of three
//! runs. Each is there in sizes that grow fourfold or tenfold, so that what grows faster
//! than they do is seen.

#![allow(clippy::unwrap_used, reason = "benches")]

// It needs nothing else of what benches share.
#[path = "common/busy.rs"]
mod busy;

use std::time::Duration;

use busy::{least, millis};
use migrate_core::model::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm, Placement,
};
use migrate_core::selector::{Operator, Requirement};
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget, IntOrPercent,
    KubeVersion, LabelSelector, Moment, Node, Pod, PodId, Policy, Resources, Workload, WorkloadId,
};
use migrate_plan::{Planner, lint};

const OLD: KubeVersion = KubeVersion::new(1, 36, 3);
const NEW: KubeVersion = KubeVersion::new(1, 37, 2);
const POOL: &str = "node.kubernetes.io/pool";
const HOST: &str = "kubernetes.io/hostname";
/// Three runs of each.
const PATIENCE: Duration = Duration::ZERO;

fn main() {
    for budgets in [10_000, 100_000, 1_000_000] {
        let model = on_one_pod(budgets, |_| LabelSelector::new().with_label("app", "web"));
        planned(
            &format!("{budgets}_budgets_on_one_pod"),
            &model,
            &Policy::default(),
        );
    }
    for budgets in [2_500, 10_000, 40_000] {
        let model = on_one_pod(budgets, |number| {
            let key = format!("not-{number}");
            let absent = Requirement::new(key, Operator::DoesNotExist, [""; 0]);
            LabelSelector::new().with_requirement(absent)
        });
        planned(
            &format!("{budgets}_budgets_of_other_keys"),
            &model,
            &Policy::default(),
        );
    }
    for placements in [1_000, 4_000, 16_000] {
        linted(&format!("{placements}_placements"), &placed(placements));
    }
    for pools in [16, 32, 64] {
        linted(&format!("pairs_of_{pools}_pools"), &paired(pools));
    }
    let mut policy = Policy::default();
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "09:15"}]"#).unwrap();
    policy.pools.max_unavailable = IntOrPercent::Int(1);
    for nodes in [250, 1_000, 4_000] {
        let mut model = cluster(nodes, 1);
        model.sort();
        planned(&format!("{nodes}_nodes_in_windows"), &model, &policy);
    }
}

fn planned(name: &str, model: &ClusterModel, policy: &Policy) {
    let planner = Planner::new(model, policy, NEW);
    let took = least(PATIENCE, || planner.plan().unwrap());
    println!("figure plan_{name} {:.1} ms", millis(took));
}

fn linted(name: &str, model: &ClusterModel) {
    let policy = Policy::default();
    let plan = Planner::new(model, &policy, NEW).plan().unwrap();
    let took = least(PATIENCE, || lint(&plan, model, &policy));
    println!("figure lint_{name} {:.1} ms", millis(took));
}

/// So many nodes in so many pools, and one member.
fn cluster(nodes: usize, pools: usize) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("costs"), Moment::EPOCH);
    model.control_plane.push(ControlPlaneMember::new("m", OLD));
    for number in 0..nodes {
        let mut node = Node::new(format!("node-{number:06}"), OLD);
        node.labels
            .insert(POOL.into(), format!("pool-{:03}", number % pools));
        node.labels.insert(HOST.into(), node.name.clone());
        node.allocatable = Resources::new(64_000, 256 << 30, 110);
        model.nodes.push(node);
    }
    model
}

/// A workload of two pods, on nodes one after the other from `at` on.
fn add_workload(model: &mut ClusterModel, number: usize, at: usize, placement: Placement) {
    let app = format!("app-{number:06}");
    let id = WorkloadId::new("Deployment", "shop", &app);
    model.workloads.push(Workload::new(id.clone(), 2));
    for replica in 0..2 {
        let node = &model.nodes[(at + replica) % model.nodes.len()].name;
        let name = format!("{app}-{replica}");
        let mut pod = Pod::new(PodId::new("shop", &name, &name), node);
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
        pod.requests = Resources::new(10, 1 << 20, 1);
        pod.placement = placement.clone().into();
        model.pods.push(pod);
    }
}

/// A workload whose pods so many budgets guard.
fn on_one_pod(budgets: usize, selector: impl Fn(usize) -> LabelSelector) -> ClusterModel {
    let mut model = cluster(3, 1);
    add_workload(&mut model, 0, 0, Placement::default());
    for pod in &mut model.pods {
        pod.labels.insert("app".into(), "web".into());
    }
    model.budgets = (0..budgets)
        .map(|number| {
            let name = format!("b{number:07}");
            let mut budget = DisruptionBudget::new("shop", name, selector(number));
            budget.max_unavailable = Some(IntOrPercent::Int(1));
            budget
        })
        .collect();
    model.sort();
    model
}

/// 2,000 nodes, and workloads that each keep away from their own pods.
fn placed(workloads: usize) -> ClusterModel {
    let mut model = cluster(2_000, 4);
    for number in 0..workloads {
        let mut placement = Placement::default();
        placement.anti_affinity.push(AntiAffinityTerm {
            selector: LabelSelector::new().with_label("app", format!("app-{number:06}")),
            topology_key: HOST.into(),
        });
        add_workload(&mut model, number, number, placement);
    }
    model.sort();
    model
}

/// Two nodes of each pool, and for each two pools a workload that may run there alone.
fn paired(pools: usize) -> ClusterModel {
    let mut model = cluster(2 * pools, pools);
    let pairs = (0..pools).flat_map(|a| (a + 1..pools).map(move |b| (a, b)));
    for (number, (a, b)) in pairs.enumerate() {
        let mut placement = Placement::default();
        let there = NodeRequirement {
            key: POOL.into(),
            operator: NodeSelectorOperator::In,
            values: [a, b].map(|pool| format!("pool-{pool:03}")).into(),
        };
        placement.node_affinity.push(NodeSelectorTerm(vec![there]));
        add_workload(&mut model, number, a, placement);
    }
    model.sort();
    model
}
