//! Plans beside the policies of other tools, on the same simulated clusters.
//!
//! `cargo bench -p migrate-quality --bench peers` (`PEERS_NODES`, 200;
//! `PEERS_SEEDS`, how many clusters, 3). Prints the tables of docs/quality.md and
//! `figure NAME VALUE UNIT` lines.

#![allow(clippy::unwrap_used, reason = "benches")]

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::IntOrPercent;
use migrate_quality::cluster::{Cluster, Guard};
use migrate_quality::instance::{Instance, Setting};
use migrate_quality::peers::{Marking, Outcome, Tool, change_times, run, run_planned};
use migrate_quality::problem::Problem;

/// How much nodes of a pool differ in what changing them takes.
const SIGMA: f64 = 0.5;

fn main() {
    let is_trial = std::env::args().any(|argument| argument == "--test");
    let number = |name: &str, default: usize| {
        let set = std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok());
        set.unwrap_or(default)
    };
    let nodes = number("PEERS_NODES", if is_trial { 40 } else { 200 });
    let seeds = number("PEERS_SEEDS", if is_trial { 1 } else { 3 });
    for case in CASES {
        table(nodes, seeds, &case);
    }
}

/// What is compared.
struct Case {
    name: &'static str,
    /// How long pods take to go at most, in seconds.
    longest_stop: u64,
    /// Part of all processors that is asked for.
    fill: f64,
    /// Nodes of a pool that may be away, in per cent.
    width: u32,
    guard: Guard,
    as_policy: bool,
}

const CASES: [Case; 6] = [
    Case {
        name: "same width, same budgets",
        longest_stop: 30,
        fill: 0.65,
        width: 10,
        guard: Guard::All,
        as_policy: true,
    },
    Case {
        name: "each tool's own width, same budgets",
        longest_stop: 30,
        fill: 0.65,
        width: 10,
        guard: Guard::All,
        as_policy: false,
    },
    Case {
        name: "same width, only the cluster's own budgets are known to the API",
        longest_stop: 30,
        fill: 0.65,
        width: 10,
        guard: Guard::Real,
        as_policy: true,
    },
    Case {
        name: "same width, same budgets, little room",
        longest_stop: 30,
        fill: 0.92,
        width: 10,
        guard: Guard::All,
        as_policy: true,
    },
    Case {
        name: "three times as wide, same budgets",
        longest_stop: 30,
        fill: 0.65,
        width: 30,
        guard: Guard::All,
        as_policy: true,
    },
    Case {
        name: "same width, same budgets, pods that take all of long grace periods",
        longest_stop: 1800,
        fill: 0.65,
        width: 10,
        guard: Guard::All,
        as_policy: true,
    },
];

fn table(nodes: usize, seeds: usize, case: &Case) {
    let Case {
        guard, as_policy, ..
    } = *case;
    println!("\n### {}\n", case.name);
    println!(
        "| policy | hours | over plan | moves per pod | violations real | assumed | failed waits | pods without room | nodes done |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let instances: Vec<Instance> = (1..=seeds as u64)
        .map(|seed| {
            let mut setting = Setting::fleet(nodes, seed);
            setting.longest_stop = case.longest_stop;
            setting.fill = case.fill;
            setting.width = IntOrPercent::Percent(case.width);
            Instance::new(&setting, seed)
        })
        .collect();
    let all = |of: &dyn Fn(&Instance, &[u64]) -> Outcome| -> Vec<Outcome> {
        let outcomes = instances.iter().map(|instance| {
            let times = change_times(instance, SIGMA);
            of(instance, &times)
        });
        outcomes.collect()
    };
    let planned = |marking, change: &dyn Fn(&mut Instance)| {
        all(&|instance, times| {
            let mut instance = instance.clone();
            change(&mut instance);
            run_planned(&instance, guard, marking, times).unwrap()
        })
    };
    let plain = planned(Marking::Nothing, &|_| {});
    let whole = nodes * seeds;
    let is_whole = |outcomes: &[Outcome]| outcomes.iter().map(|it| it.done).sum::<usize>() == whole;
    let base = if is_whole(&plain) {
        hours(&plain)
    } else {
        f64::NAN
    };
    row("**plan**", &plain, base, whole);
    let predicted: f64 = instances.iter().map(predicted).sum::<f64>() / seeds as f64;
    println!(
        "| *as it predicted* | {predicted:.2} | {} | | | | | | |",
        over(predicted, base)
    );
    let bare = planned(Marking::Nothing, &|instance| {
        instance.policy.pools.canary = false;
        instance.durations.verify = Duration::ZERO;
    });
    row("plan, no canary and no verification", &bare, base, whole);
    let tainted = planned(Marking::Taint, &|_| {});
    row("plan, `prefer-upgraded-nodes`", &tainted, base, whole);
    for is_joint in [true, false] {
        let tool = Tool::planned(is_joint);
        let outcomes = all(&|instance, times| run(&tool, instance, guard, times));
        row(&tool.name, &outcomes, base, whole);
    }
    let bound = instances.iter().map(|instance| {
        let times = change_times(instance, SIGMA);
        changes_alone(instance, &times)
    });
    let bound = bound.sum::<f64>() / instances.len().max(1) as f64;
    println!(
        "| *bound: the changes alone, without drains* | {bound:.2} | {} | | | | | | |",
        over(bound, base)
    );
    let mut best = f64::INFINITY;
    for tool in Tool::all(as_policy) {
        let outcomes = all(&|instance, times| run(&tool, instance, guard, times));
        row(&tool.name, &outcomes, base, whole);
        let broken: u64 = outcomes.iter().map(violations).sum();
        if broken == 0 && is_whole(&outcomes) {
            best = best.min(hours(&outcomes));
        }
    }
    if best.is_infinite() || base.is_nan() {
        println!("\nNo tool, or no plan, upgraded everything and kept every budget.");
        return;
    }
    let name = case.name.replace(", ", "_").replace(' ', "_");
    println!(
        "\nfigure peers_{name}_best_over_plan {:.2} ratio",
        best / base
    );
}

/// Hours from the first worker's drain to the end, as planned.
fn predicted(instance: &Instance) -> f64 {
    let plan = instance.plan().unwrap();
    let problem = Problem::new(&instance.model, &instance.policy, &plan).unwrap();
    problem.makespan(&problem.starts(&plan)) as f64 / 3_600_000.0
}

/// Hours that no order of the nodes beats at the policy's widths, however short
/// drains are.
fn changes_alone(instance: &Instance, times: &[u64]) -> f64 {
    let cluster = Cluster::new(instance, Guard::Real);
    let mut of_pool: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for (host, time) in cluster.hosts().iter().zip(times) {
        let (nodes, sum) = of_pool.entry(&host.pool).or_default();
        *nodes += 1;
        *sum += time;
    }
    let bounds = of_pool.into_iter().map(|(pool, (nodes, sum))| {
        sum as f64 / f64::from(instance.policy.pools.width(pool, nodes))
    });
    bounds.fold(0.0, f64::max) / 3_600_000.0
}

fn violations(outcome: &Outcome) -> u64 {
    outcome.tally.real_violations + outcome.tally.assumed_violations
}

fn hours(outcomes: &[Outcome]) -> f64 {
    let all: u64 = outcomes.iter().map(|it| it.makespan).sum();
    all as f64 / 3_600_000.0 / outcomes.len().max(1) as f64
}

/// Over the plan's time, if that came to an end.
fn over(hours: f64, base: f64) -> String {
    match base.is_nan() {
        true => "–".to_owned(),
        false => format!("{:.2}", hours / base),
    }
}

/// Of what came to a standstill, how long it took says nothing.
fn row(name: &str, outcomes: &[Outcome], base: f64, whole: usize) {
    let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let moves: f64 = outcomes.iter().map(|it| it.moves_per_pod).sum();
    let done: usize = outcomes.iter().map(|it| it.done).sum();
    let hours = hours(outcomes);
    let time = match done == whole {
        true => format!("{hours:.2} | {}", over(hours, base)),
        false => "– | –".to_owned(),
    };
    println!(
        "| {name} | {time} | {:.3} | {} | {} | {} | {} | {} |",
        moves / outcomes.len().max(1) as f64,
        sum(&|it| it.tally.real_violations),
        sum(&|it| it.tally.assumed_violations),
        sum(&|it| it.tally.failed_waits),
        sum(&|it| it.tally.pending),
        match done == whole {
            true => "all".to_owned(),
            false => format!("{done} of {whole}"),
        },
    );
}
