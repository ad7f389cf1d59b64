//! Workloads, their budgets, and where their pods are.

use migrate_core::model::Resources;
use migrate_core::{
    ClusterModel, ControllerRef, DisruptionBudget, IntOrPercent, LabelSelector, Pod, PodId,
    Workload, WorkloadId,
};

use super::Setting;
use crate::random::{Random, Zipf};

const MIB: f64 = (1u64 << 20) as f64;
/// Workloads of a namespace.
const PER_NAMESPACE: usize = 40;
/// So many workloads one after the other that find no room: the pools are full.
const FULL: usize = 25;
/// Nodes that are compared for the place of a pod.
const COMPARED: usize = 6;

/// One workload, before its pods are placed.
struct App {
    id: WorkloadId,
    requests: Resources,
    grace_seconds: u64,
    has_volumes: bool,
}

/// What is free on a node, and how many pods of the workload at hand it has.
#[derive(Clone, Debug)]
struct Room {
    cpu: u64,
    memory: u64,
    pods: u64,
    of_app: u32,
}

/// Adds workloads until there are as many pods as `setting` wants, or no room.
pub(super) fn add(
    model: &mut ClusterModel,
    pools: &[Vec<usize>],
    setting: &Setting,
    random: &mut Random,
) {
    let room = |node: &migrate_core::Node| Room {
        cpu: node.allocatable.cpu_milli,
        memory: node.allocatable.memory_bytes,
        pods: node.allocatable.pods,
        of_app: 0,
    };
    let mut rooms: Vec<Room> = model.nodes.iter().map(room).collect();
    let all: u64 = rooms.iter().map(|room| room.cpu).sum();
    let wanted = setting.nodes * setting.pods_per_node;
    let mean_cpu = all as f64 * setting.fill / wanted.max(1) as f64;
    let sizes = Zipf::new(setting.largest_app, 1.1);
    let mut number = 0;
    let mut in_vain = 0;
    while model.pods.len() < wanted && in_vain < FULL {
        let size = sizes.draw(random).min(wanted - model.pods.len());
        let app = App::draw(number, mean_cpu, random);
        let pool = random.below(pools.len()).min(random.below(pools.len()));
        let placed = place(model, &mut rooms, &pools[pool], &app, size, random);
        in_vain = if placed == 0 { in_vain + 1 } else { 0 };
        if placed > 0 {
            let workload = Workload::new(app.id.clone(), placed);
            model.workloads.push(workload);
            if let Some(budget) = budget(&app.id, placed, random) {
                model.budgets.push(budget);
            }
        }
        number += 1;
    }
}

impl App {
    fn draw(number: usize, mean_cpu: f64, random: &mut Random) -> Self {
        let has_volumes = random.chance(0.15);
        let kind = if has_volumes {
            "StatefulSet"
        } else {
            "Deployment"
        };
        let namespace = format!("ns-{:04}", number / PER_NAMESPACE);
        // The mean of a lognormal is above its median by e^(sigma²/2).
        let cpu = random.lognormal(mean_cpu * 0.78, 0.7).max(10.0);
        let memory = cpu * random.lognormal(2.5, 0.4) * MIB;
        let grace = random.lognormal(30.0, 0.8).clamp(1.0, 900.0);
        Self {
            id: WorkloadId::new(kind, namespace, format!("app-{number:05}")),
            requests: Resources::new(cpu as u64, memory as u64, 1),
            grace_seconds: grace as u64,
            has_volumes,
        }
    }

    fn pod(&self, replica: u32, node: &str) -> Pod {
        let WorkloadId {
            namespace, name, ..
        } = &self.id;
        let pod_name = format!("{name}-{replica}");
        let mut pod = Pod::new(PodId::new(namespace, &pod_name, &pod_name), node);
        pod.labels.insert("app".to_owned(), name.clone());
        pod.grace_seconds = self.grace_seconds;
        pod.requests = self.requests.clone();
        if self.has_volumes {
            pod.claims.push(format!("data-{pod_name}"));
        }
        let kind = if self.has_volumes {
            "StatefulSet"
        } else {
            "ReplicaSet"
        };
        pod.controller = Some(ControllerRef {
            group: "apps".to_owned(),
            kind: kind.to_owned(),
            name: name.clone(),
            uid: name.clone(),
        });
        pod.workload = Some(self.id.clone());
        pod
    }
}

/// Puts pods of `app` where few of it are and much is free, as far as there is
/// room; says how many.
fn place(
    model: &mut ClusterModel,
    rooms: &mut [Room],
    pool: &[usize],
    app: &App,
    size: usize,
    random: &mut Random,
) -> u32 {
    for node in pool {
        rooms[*node].of_app = 0;
    }
    let mut placed = 0;
    for _ in 0..size {
        let candidates = (0..COMPARED).filter_map(|_| random.pick(pool).copied());
        let fitting = candidates.filter(|node| {
            let room = &rooms[*node];
            room.pods > 0
                && room.cpu >= app.requests.cpu_milli
                && room.memory >= app.requests.memory_bytes
        });
        let best = fitting.min_by_key(|node| {
            let room = &rooms[*node];
            (room.of_app, u64::MAX - room.cpu, *node)
        });
        let Some(node) = best else { break };
        let room = &mut rooms[node];
        room.cpu -= app.requests.cpu_milli;
        room.memory -= app.requests.memory_bytes;
        room.pods -= 1;
        room.of_app += 1;
        let pod = app.pod(placed, &model.nodes[node].name);
        model.pods.push(pod);
        placed += 1;
    }
    placed
}

/// A budget for two workloads of three that have more than one replica; it
/// always lets one pod go.
fn budget(id: &WorkloadId, replicas: u32, random: &mut Random) -> Option<DisruptionBudget> {
    if replicas < 2 {
        return None;
    }
    let selector = LabelSelector::new().with_label("app", &id.name);
    let mut budget = DisruptionBudget::new(&id.namespace, &id.name, selector);
    let one = IntOrPercent::Int(1);
    match random.below(20) {
        0..6 => {
            let percents = [10, 20, 25, 30];
            let percent = percents[random.below(percents.len())];
            budget.max_unavailable = Some(IntOrPercent::Percent(percent));
        }
        6..9 => {
            let percents = [50, 75, 80, 90];
            let percent = percents[random.below(percents.len())];
            budget.min_available = Some(IntOrPercent::Percent(percent));
        }
        9..11 => budget.min_available = Some(IntOrPercent::Int(replicas - 1)),
        11..13 => budget.max_unavailable = Some(IntOrPercent::Int(2)),
        13 => budget.max_unavailable = Some(one),
        _ => return None,
    }
    if budget.desired_healthy(replicas) >= replicas {
        budget.min_available = None;
        budget.max_unavailable = Some(one);
    }
    let desired = budget.desired_healthy(replicas) as i32;
    let healthy = replicas as i32;
    budget.status.observed = true;
    budget.status.expected_pods = healthy;
    budget.status.current_healthy = healthy;
    budget.status.desired_healthy = desired;
    budget.status.disruptions_allowed = healthy - desired;
    Some(budget)
}
