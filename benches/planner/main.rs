//! Planning at the size of large clusters.
//!
//! Prints `figure NAME VALUE UNIT` lines, then measures with criterion. Times are
//! processor time of one thread, so that a busy machine tells the same, the least
//! of several runs; `PLANNER_BENCH_NODES=1000,5000` measures these sizes instead of
//! those up to 100,000 nodes, whose model alone needs some 8 GiB.

#![allow(clippy::unwrap_used, reason = "benches")]

mod clusters;
#[path = "../common/mod.rs"]
mod common;
mod count;
mod forecasts;
mod memory;
mod windows;

use std::hint::black_box;
use std::time::Duration;

use clusters::{synthetic, troubled};
use common::{least, millis};
use criterion::{Criterion, criterion_group, criterion_main};
use memory::{peak, resident};
use migrate_core::{
    ClusterModel, IntOrPercent, KubeVersion, Moment, Plan, Policy, Resources, impossible,
};
use migrate_plan::{Input, Planner, Recorded, Rollout};

const NEW: KubeVersion = KubeVersion::new(1, 37, 2);
const SIZES: [usize; 4] = [1_000, 5_000, 20_000, 100_000];
/// Above it only what has a goal at that size is measured.
const ALL_FIGURES: usize = 5_000;
/// Whose instructions are counted.
const COUNTED: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(2);

/// Five per cent of each pool at once.
fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Percent(5);
    policy
}

fn sizes() -> Vec<usize> {
    match std::env::var("PLANNER_BENCH_NODES") {
        Ok(sizes) => sizes
            .split(',')
            .map(|size| size.trim().parse().unwrap())
            .collect(),
        Err(_) => SIZES.to_vec(),
    }
}

fn name_of(nodes: usize) -> String {
    match nodes % 1000 {
        0 => format!("{}k", nodes / 1000),
        _ => nodes.to_string(),
    }
}

/// From the model in memory to the finished plan: hash of the model, bounds,
/// findings, schedule and where pods go included.
fn plan_of_size(nodes: usize) -> Duration {
    let name = name_of(nodes);
    let before = resident("VmRSS:");
    let mut model = synthetic(nodes);
    let policy = policy();
    let count = |what: &str, count: usize| println!("figure planner_{name}_{what} {count} {what}");
    count("pods", model.pods.len());
    count("budgets", model.budgets.len());
    let planner = Planner::new(&model, &policy, NEW);
    // First, before anything else leaves memory behind.
    let model_size = resident("VmRSS:")
        .zip(before)
        .map(|(a, b)| a.saturating_sub(b));
    let (plan, more) = peak(|| planner.plan().unwrap());
    for (what, bytes) in [("model_memory", model_size), ("memory", more)] {
        if let Some(bytes) = bytes {
            let mib = bytes as f64 / f64::from(1 << 20);
            println!("figure planner_{name}_{what} {mib:.1} MiB");
        }
    }
    let took = least(PATIENCE, || planner.plan().unwrap());
    println!("figure planner_{name}_plan {:.1} ms", millis(took));
    windows::of_size(&name, &model, &policy);
    let unplaced = unplaced(&mut model, &policy);
    println!(
        "figure planner_{name}_plan_unplaced {:.1} ms",
        millis(unplaced)
    );
    let planner = Planner::new(&model, &policy, NEW);
    let per_node = took.as_secs_f64() * 1e6 / nodes as f64;
    println!("figure planner_{name}_plan_per_node {per_node:.1} us");
    let hours = plan.makespan().as_secs_f64() / 3600.0;
    println!("figure planner_{name}_makespan {hours:.2} hours");
    let bounds = plan.bounds.as_ref().unwrap();
    let over = 1.0 + f64::from(bounds.gap_permille) / 1e3;
    println!("figure planner_{name}_over_bound {over:.3} ratio");
    let hashing = least(PATIENCE / 10, || migrate_core::content_hash(&plan));
    println!("figure plan_{name}_hash {:.1} ms", millis(hashing));
    if nodes <= ALL_FIGURES {
        rollout_of_size(&name, &model, &planner);
        forecasts::of_size(&name, &model, &policy, &plan);
        let mut one_sick = model.clone();
        one_sick.pods[0].ready = false;
        in_trouble(&format!("{name}_one_sick"), &one_sick);
        in_trouble(&format!("{name}_troubled"), &troubled(one_sick));
    }
    let (kept, anew) = replan_of_size(model, &plan, &policy);
    println!("figure planner_{name}_replan {:.1} ms", millis(anew));
    println!("figure planner_{name}_replan_kept {kept} nodes");
    took
}

/// A plan where no node says what it offers, so that nobody knows where pods go.
fn unplaced(model: &mut ClusterModel, policy: &Policy) -> Duration {
    let nodes = model.nodes.iter_mut();
    let offers: Vec<Resources> = nodes
        .map(|node| std::mem::take(&mut node.allocatable))
        .collect();
    let planner = Planner::new(model, policy, NEW);
    let took = least(PATIENCE / 2, || planner.plan().unwrap());
    for (node, offer) in model.nodes.iter_mut().zip(offers) {
        node.allocatable = offer;
    }
    took
}

/// From the earlier plan and the model with one node gone to the next revision; and
/// how many nodes have their place.
fn replan_of_size(mut model: ClusterModel, earlier: &Plan, policy: &Policy) -> (usize, Duration) {
    let gone = earlier.slots[earlier.slots.len() / 2].node.clone();
    model.nodes.retain(|node| node.name != gone);
    let planner = Planner::new(&model, policy, NEW);
    let took = least(PATIENCE / 2, || planner.replan(earlier).unwrap());
    let now = planner.replan(earlier).unwrap().plan;
    let left = earlier.slots.iter().filter(|slot| slot.node != gone);
    let kept = left.zip(&now.slots).filter(|(a, b)| a.node == b.node);
    (kept.count(), took)
}

fn rollout_of_size(name: &str, model: &ClusterModel, planner: &Planner<'_>) {
    let policy = policy();
    let trace = planner.trace().unwrap();
    let took = least(PATIENCE / 4, || {
        Rollout::new(&trace.plan, model, &policy).unwrap()
    });
    println!("figure rollout_{name}_open {:.1} ms", millis(took));
    let rollout = Rollout::new(&trace.plan, model, &policy).unwrap();
    let took = least(PATIENCE / 4, || drive(rollout.clone(), &trace.inputs));
    let events = trace.inputs.len() as f64;
    println!("figure rollout_{name}_replay {:.1} ms", millis(took));
    println!(
        "figure rollout_{name}_per_event {:.2} us",
        took.as_secs_f64() * 1e6 / events
    );
    let took = least(PATIENCE / 10, || rollout.clone());
    println!("figure rollout_{name}_clone {:.2} ms", millis(took));
}

/// A plan that has to look for what can never be done, and that search alone,
/// as the preflight makes it.
fn in_trouble(name: &str, model: &ClusterModel) {
    let policy = policy();
    let planner = Planner::new(model, &policy, NEW);
    let took = least(PATIENCE / 4, || planner.plan().unwrap());
    println!("figure planner_{name}_plan {:.1} ms", millis(took));
    let took = least(PATIENCE / 4, || impossible::check(model, &policy));
    println!("figure impossible_{name}_check {:.1} ms", millis(took));
    let found = impossible::check(model, &policy).len();
    println!("figure impossible_{name}_found {found} findings");
    let plan = planner.plan().unwrap();
    let blockers = plan.findings.iter().filter(|finding| finding.blocks());
    let blockers = blockers.count();
    println!("figure planner_{name}_blockers {blockers} findings");
}

/// The slope of a line through the logarithms of these points: `time` grows as
/// `size` to the power of it.
fn exponent(points: &[(usize, Duration)]) -> f64 {
    let logs = points
        .iter()
        .map(|(size, time)| ((*size as f64).ln(), time.as_secs_f64().ln()));
    let count = points.len() as f64;
    let (x, y) = logs
        .clone()
        .fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (x, y) = (x / count, y / count);
    let (over, under) = logs.fold((0.0, 0.0), |(over, under), (at, time)| {
        (over + (at - x) * (time - y), under + (at - x) * (at - x))
    });
    over / under
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
    if let Some(nodes) = count::is_counted() {
        let (model, policy) = (synthetic(nodes), policy());
        let planner = Planner::new(&model, &policy, NEW);
        // The first tidies up what making the model has left behind in the allocator.
        drop(black_box(planner.plan()));
        let _ = black_box(count::plan_once(&planner));
        return;
    }
    match count::instructions(COUNTED) {
        Ok(count) => {
            let name = name_of(COUNTED);
            println!("figure planner_{name}_instructions {count} instructions");
        }
        Err(why) => println!("no instructions counted: {why}"),
    }
    let sizes = sizes();
    let points: Vec<(usize, Duration)> = sizes
        .iter()
        .map(|&nodes| (nodes, plan_of_size(nodes)))
        .collect();
    if points.len() > 1 {
        println!("figure planner_exponent {:.3} power", exponent(&points));
    }
    let nodes = sizes.iter().copied().min().unwrap();
    let (model, policy) = (synthetic(nodes), policy());
    let planner = Planner::new(&model, &policy, NEW);
    let mut group = criterion.benchmark_group("planner");
    group.sample_size(20);
    group.bench_function(format!("plan {nodes} nodes"), |b| {
        b.iter(|| black_box(planner.plan().unwrap()))
    });
    let plan = planner.plan().unwrap();
    let rollout = Rollout::new(&plan, &model, &policy).unwrap();
    group.bench_function(format!("start a rollout of {nodes} nodes"), |b| {
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
