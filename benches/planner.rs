//! Planning at the size of large clusters.
//!
//! Prints `figure NAME VALUE UNIT` lines (processor time, so that a busy machine
//! tells the same), then measures with criterion. `PLANNER_BENCH_NODES=40000`
//! adds the figures of that size, which needs some 80 kB for each node.

#![allow(clippy::unwrap_used, reason = "benches")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use migrate_core::impossible;
use migrate_core::model::{
    AntiAffinityTerm, NodeRequirement, NodeSelectorOperator, NodeSelectorTerm,
};
use migrate_core::{
    ClusterId, ClusterModel, ControlPlaneMember, ControllerRef, DisruptionBudget, IntOrPercent,
    KubeVersion, LabelSelector, Moment, Node, Pod, PodId, Policy, Role, Workload, WorkloadId,
};
use migrate_plan::{Input, Planner, Recorded, Rollout};

const OLD: KubeVersion = KubeVersion::new(1, 36, 3);
const NEW: KubeVersion = KubeVersion::new(1, 37, 2);
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Fixed, so that no figure contains the time of hashing a model.
const MODEL_HASH: &str = "000000000000";

/// A cluster of `nodes` nodes with 30 pods each: workloads of 1 to 40 replicas
/// in a namespace for every 100 of them, half with a budget of a tenth, spread
/// at random over pools of some 1,000 nodes.
fn synthetic(nodes: usize) -> ClusterModel {
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
        model.nodes.push(node);
    }
    let mut random = 42u64;
    let mut below = move |limit: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % limit
    };
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
        if workload % 2 == 0 && replicas > 1 {
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
        for replica in 0..replicas {
            let name = format!("{app}-{replica}");
            let node = format!("node-{:06}", below(nodes));
            let mut pod = Pod::new(PodId::new(&namespace, &name, &name), node);
            pod.labels.insert("app".into(), app.clone());
            pod.labels
                .insert("pod-template-hash".into(), format!("{workload:x}"));
            pod.workload = Some(id.clone());
            pod.controller = Some(ControllerRef {
                group: "apps".into(),
                kind: "ReplicaSet".into(),
                name: app.clone(),
                uid: app.clone(),
            });
            model.pods.push(pod);
        }
        workload += 1;
    }
    model.sort();
    model
}

/// More than an everyday cluster has beside healthy pods: one pod in a hundred
/// is not Ready, every tenth workload keeps its pods on different nodes, the
/// pods of another tenth have volumes of their node, every tenth budget lets
/// nothing go.
fn troubled(mut model: ClusterModel) -> ClusterModel {
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
    for node in &mut model.nodes {
        let name = node.name.clone();
        node.labels.insert(HOSTNAME.into(), name);
    }
    for budget in model.budgets.iter_mut().step_by(10) {
        budget.max_unavailable = Some(IntOrPercent::Int(0));
        budget.status.desired_healthy = budget.status.expected_pods;
        budget.status.disruptions_allowed = 0;
    }
    model
}

/// Five per cent of each pool at once.
fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Percent(5);
    policy
}

/// How long `work` kept this thread busy; where the system does not tell, how
/// long it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (busy, start) = (busy_time(), wall_clock());
    let result = work();
    let took = match (busy, busy_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => start.elapsed(),
    };
    (result, took)
}

/// The first number of Linux' schedstat: nanoseconds on a processor.
fn busy_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn wall_clock() -> Instant {
    Instant::now()
}

/// The mean of as many runs as a fifth of a second holds, two at least: short
/// ones are below the resolution of the clock.
fn mean_of_runs<T>(mut work: impl FnMut() -> T) -> (T, Duration) {
    let (_, mut total) = timed(&mut work);
    let mut runs = 1;
    loop {
        let (result, took) = timed(&mut work);
        total += took;
        runs += 1;
        if total > Duration::from_millis(200) || runs == 1000 {
            return (result, total / runs);
        }
    }
}

fn figures(name: &str, nodes: usize) -> ClusterModel {
    let model = synthetic(nodes);
    let policy = policy();
    let planner = Planner::new(&model, &policy, NEW).with_model_hash(MODEL_HASH);
    let (plan, took) = mean_of_runs(|| planner.plan().unwrap());
    println!("figure planner_{name}_plan {:.1} ms", millis(took));
    let per_node = took.as_secs_f64() * 1e6 / nodes as f64;
    println!("figure planner_{name}_plan_per_node {per_node:.1} us");
    let hours = plan.makespan().as_secs_f64() / 3600.0;
    println!("figure planner_{name}_makespan {hours:.2} hours");
    let limits = plan.estimate.terms.iter().filter(|term| {
        matches!(
            term.kind,
            migrate_core::cost::TermKind::Slots { .. }
                | migrate_core::cost::TermKind::Budget { .. }
        )
    });
    let limit = limits.map(|term| term.duration).max().unwrap_or_default();
    let members = plan.estimate.terms[0].duration;
    let ratio = (plan.makespan() - members).as_secs_f64() / limit.as_secs_f64();
    println!("figure planner_{name}_over_bound {ratio:.3} ratio");

    let trace = planner.trace().unwrap();
    let (rollout, took) = mean_of_runs(|| Rollout::new(&trace.plan, &model, &policy).unwrap());
    println!("figure rollout_{name}_open {:.1} ms", millis(took));
    let (_, took) = mean_of_runs(|| drive(rollout.clone(), &trace.inputs));
    let events = trace.inputs.len() as f64;
    println!("figure rollout_{name}_replay {:.1} ms", millis(took));
    println!(
        "figure rollout_{name}_per_event {:.2} us",
        took.as_secs_f64() * 1e6 / events
    );
    let (_, took) = mean_of_runs(|| rollout.clone());
    println!("figure rollout_{name}_clone {:.2} ms", millis(took));
    let (_, took) = mean_of_runs(|| migrate_core::content_hash(&plan));
    println!("figure plan_{name}_hash {:.1} ms", millis(took));

    let mut one_sick = model.clone();
    one_sick.pods[0].ready = false;
    in_trouble(&format!("{name}_one_sick"), &one_sick);
    in_trouble(&format!("{name}_troubled"), &troubled(one_sick));
    model
}

/// A plan that has to look for what can never be done, and that search alone,
/// as the preflight makes it.
fn in_trouble(name: &str, model: &ClusterModel) {
    let policy = policy();
    let planner = Planner::new(model, &policy, NEW).with_model_hash(MODEL_HASH);
    let (plan, took) = mean_of_runs(|| planner.plan().unwrap());
    println!("figure planner_{name}_plan {:.1} ms", millis(took));
    let (found, took) = mean_of_runs(|| impossible::check(model, &policy));
    println!("figure impossible_{name}_check {:.1} ms", millis(took));
    println!("figure impossible_{name}_found {} findings", found.len());
    let blockers = plan
        .findings
        .iter()
        .filter(|finding| finding.blocks())
        .count();
    println!("figure planner_{name}_blockers {blockers} findings");
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn drive(mut rollout: Rollout, inputs: &[Recorded]) -> usize {
    let mut commands = 0;
    for Recorded { at, input } in inputs {
        rollout.handle(*at, input);
        while rollout.poll(*at).is_some() {
            commands += 1;
        }
    }
    assert!(rollout.is_finished());
    commands
}

fn planner(criterion: &mut Criterion) {
    figures("1k", 1_000);
    let model = figures("5k", 5_000);
    if let Ok(nodes) = std::env::var("PLANNER_BENCH_NODES") {
        figures("large", nodes.parse().unwrap());
    }
    let policy = policy();
    let planner = Planner::new(&model, &policy, NEW).with_model_hash(MODEL_HASH);
    let mut group = criterion.benchmark_group("planner");
    group.sample_size(20);
    group.bench_function("plan 5k nodes", |b| {
        b.iter(|| black_box(planner.plan().unwrap()))
    });
    let plan = planner.plan().unwrap();
    let rollout = Rollout::new(&plan, &model, &policy).unwrap();
    group.bench_function("start a rollout of 5k nodes", |b| {
        b.iter_batched(
            || rollout.clone(),
            |mut rollout| {
                rollout.handle(Moment::EPOCH, &Input::Started);
                black_box(rollout)
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, planner);
criterion_main!(benches);
