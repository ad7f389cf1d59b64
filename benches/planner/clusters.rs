//! Clusters to plan for, made from a seed.

use migrate_core::model::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm,
};
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget, IntOrPercent,
    KubeVersion, LabelSelector, Moment, Node, Pod, PodId, Resources, Role, Workload, WorkloadId,
};

use crate::common::Random;

/// Before the upgrade.
pub(crate) const OLD: KubeVersion = KubeVersion::new(1, 36, 3);
const HOSTNAME: &str = "kubernetes.io/hostname";
const PODS_PER_NODE: usize = 30;
/// Workloads of a namespace.
const WORKLOADS: usize = 100;
/// What its pods ask for: some 14 of the 32 processors of a node.
const CPU_MILLI: [u64; 4] = [100, 250, 500, 1_000];
/// Pods of a workload, at most.
const REPLICAS: usize = 500;
/// Workloads of at least k replicas are k^-1.3 of all: 3.4 on average.
const TAIL: f64 = 1.3;

/// A cluster of `nodes` workers with 30 pods each, in pools of some 1,000 nodes.
///
/// Workloads are as heavy-tailed as real ones (most have one replica, the largest
/// 500), and three of four have a PodDisruptionBudget of a tenth, rounded up:
/// more than six for each node. Their pods are spread over all nodes at random.
pub(crate) fn synthetic(nodes: usize) -> ClusterModel {
    let mut model = ClusterModel::new(ClusterId::new("synthetic"), Moment::EPOCH);
    for number in 0..3 {
        let name = format!("cp-{number}");
        model
            .control_plane
            .push(ControlPlaneMember::new(&name, OLD));
        let mut node = Node::new(name, OLD);
        node.role = Role::ControlPlane;
        model.nodes.push(node);
    }
    let pools = nodes.div_ceil(1000);
    for number in 0..nodes {
        let mut node = Node::new(format!("node-{number:06}"), OLD);
        let pool = format!("pool-{:03}", number % pools);
        node.labels.insert("node.kubernetes.io/pool".into(), pool);
        let name = node.name.clone();
        node.labels.insert(HOSTNAME.into(), name);
        node.allocatable = Resources::new(32_000, 128 << 30, 110);
        model.nodes.push(node);
    }
    let mut random = Random(42);
    let pods = nodes * PODS_PER_NODE;
    model.pods.reserve_exact(pods);
    for workload in 0.. {
        let left = pods - model.pods.len();
        if left == 0 {
            break;
        }
        let replicas = replicas(&mut random).min(left);
        add_workload(&mut model, &mut random, workload, replicas, nodes);
    }
    model.sort();
    model
}

fn add_workload(
    model: &mut ClusterModel,
    random: &mut Random,
    number: usize,
    replicas: usize,
    nodes: usize,
) {
    // Numbers of one length: what is made in order is in order.
    let namespace = format!("team-{:05}", number / WORKLOADS);
    let app = format!("app-{number:07}");
    let id = WorkloadId::new("Deployment", &namespace, &app);
    model
        .workloads
        .push(Workload::new(id.clone(), replicas as u32));
    if number % 4 != 3 {
        let selector = LabelSelector::new().with_label("app", &app);
        let mut budget = DisruptionBudget::new(&namespace, &app, selector);
        let allowed = replicas.div_ceil(10) as i32;
        budget.max_unavailable = Some(IntOrPercent::Percent(10));
        budget.status.observed = true;
        budget.status.expected_pods = replicas as i32;
        budget.status.current_healthy = replicas as i32;
        budget.status.desired_healthy = replicas as i32 - allowed;
        budget.status.disruptions_allowed = allowed;
        model.budgets.push(budget);
    }
    let cpu = CPU_MILLI[number % CPU_MILLI.len()];
    let hash = format!("{:010x}", number * 2_654_435_761 % (1 << 40));
    let owner = format!("{app}-{hash}");
    let controller = ControllerRef {
        group: "apps".into(),
        kind: "ReplicaSet".into(),
        name: owner.clone(),
        uid: format!("00000000-0000-4000-ffff-{number:012x}"),
    };
    for replica in 0..replicas {
        let name = format!("{owner}-{replica:05}");
        let uid = format!("00000000-0000-4000-{replica:04x}-{number:012x}");
        let node = format!("node-{:06}", random.below(nodes));
        let mut pod = Pod::new(PodId::new(&namespace, name, uid), node);
        pod.labels.insert("app".into(), app.clone());
        pod.labels.insert("pod-template-hash".into(), hash.clone());
        pod.workload = Some(id.clone().into());
        pod.controller = Some(controller.clone().into());
        pod.requests = Resources::new(cpu, cpu << 22, 1);
        model.pods.push(pod);
    }
}

/// More than an everyday cluster has beside healthy pods: one pod in a hundred
/// is not Ready, every tenth workload keeps its pods on different nodes, the
/// pods of another tenth have volumes of their node, every tenth budget lets
/// nothing go.
pub(crate) fn troubled(mut model: ClusterModel) -> ClusterModel {
    for (number, pod) in model.pods.iter_mut().enumerate() {
        pod.ready = number % 100 != 0;
        let app = &pod.labels["app"];
        if app.ends_with('7') {
            pod.placement.anti_affinity.push(AntiAffinityTerm {
                selector: LabelSelector::new().with_label("app", app),
                topology_key: HOSTNAME.into(),
            });
        }
        if app.ends_with('3') {
            let here = NodeRequirement {
                key: HOSTNAME.into(),
                operator: NodeSelectorOperator::In,
                values: pod.node.iter().cloned().collect(),
            };
            let volume = vec![NodeSelectorTerm(vec![here])];
            pod.placement.volume_affinity.push(volume);
        }
    }
    for budget in model.budgets.iter_mut().step_by(10) {
        budget.max_unavailable = Some(IntOrPercent::Int(0));
        budget.status.desired_healthy = budget.status.expected_pods;
        budget.status.disruptions_allowed = 0;
    }
    model
}

/// Of one workload.
fn replicas(random: &mut Random) -> usize {
    let part = (random.below(1 << 30) + 1) as f64 / (1u64 << 30) as f64;
    (part.powf(-1.0 / TAIL) as usize).min(REPLICAS)
}
