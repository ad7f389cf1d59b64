//! Plans beside the policies of other tools, on the same simulated clusters.
//!
//! `cargo bench -p migrate-quality --bench peers` (`PEERS_NODES`, 200;
//! `PEERS_SEEDS`, how many clusters, 3). Prints the tables of docs/quality.md and
//! `figure NAME VALUE UNIT` lines.

#![allow(clippy::unwrap_used, reason = "benches")]

use migrate_quality::cluster::Guard;
use migrate_quality::instance::{Instance, Setting};
use migrate_quality::peers::{Marking, Outcome, Tool, change_times, run, run_planned};

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
    for longest_stop in [30, 1800] {
        for guard in [Guard::All, Guard::Real] {
            for as_policy in [true, false] {
                table(nodes, seeds, longest_stop, guard, as_policy);
            }
        }
    }
}

fn table(nodes: usize, seeds: usize, longest_stop: u64, guard: Guard, as_policy: bool) {
    let guarded = match guard {
        Guard::All => "every workload's budget is real",
        Guard::Real => "only the cluster's own budgets are real",
    };
    let widths = match as_policy {
        true => "as wide as the plan where the tool can be told",
        false => "as wide as each tool's default",
    };
    println!("\n### Pods go within {longest_stop} s; {guarded}; {widths}\n");
    println!(
        "| policy | hours | over plan | moves per pod | violations real | assumed | failed waits | pods without room | nodes done |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let instances: Vec<Instance> = (1..=seeds as u64)
        .map(|seed| {
            let mut setting = Setting::fleet(nodes, seed);
            setting.longest_stop = longest_stop;
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
    let planned = |marking, canary: bool| {
        all(&|instance, times| {
            let mut instance = instance.clone();
            instance.policy.pools.canary = canary;
            run_planned(&instance, guard, marking, times).unwrap()
        })
    };
    let plain = planned(Marking::Nothing, true);
    let base = hours(&plain);
    let whole = nodes * seeds;
    row("**plan** (canary in each pool)", &plain, base, whole);
    row(
        "plan, no canary",
        &planned(Marking::Nothing, false),
        base,
        whole,
    );
    row(
        "plan, old nodes tainted (not built)",
        &planned(Marking::Taint, true),
        base,
        whole,
    );
    for is_joint in [true, false] {
        let tool = Tool::planned(is_joint);
        let outcomes = all(&|instance, times| run(&tool, instance, guard, times));
        row(&tool.name, &outcomes, base, whole);
    }
    let mut best = f64::INFINITY;
    for tool in Tool::all(as_policy) {
        let outcomes = all(&|instance, times| run(&tool, instance, guard, times));
        row(&tool.name, &outcomes, base, whole);
        let broken: u64 = outcomes.iter().map(|it| violations(it)).sum();
        let done: usize = outcomes.iter().map(|it| it.done).sum();
        if broken == 0 && done == whole {
            best = best.min(hours(&outcomes));
        }
    }
    let kind = if as_policy { "as_wide" } else { "default" };
    println!(
        "\nfigure peers_{longest_stop}s_{guard:?}_{kind}_best_over_plan {:.2} ratio",
        best / base
    );
}

fn violations(outcome: &Outcome) -> u64 {
    outcome.tally.real_violations + outcome.tally.assumed_violations
}

fn hours(outcomes: &[Outcome]) -> f64 {
    let all: u64 = outcomes.iter().map(|it| it.makespan).sum();
    all as f64 / 3_600_000.0 / outcomes.len().max(1) as f64
}

fn row(name: &str, outcomes: &[Outcome], base: f64, whole: usize) {
    let sum = |of: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let moves: f64 = outcomes.iter().map(|it| it.moves_per_pod).sum();
    let done: usize = outcomes.iter().map(|it| it.done).sum();
    println!(
        "| {name} | {:.2} | {:.2} | {:.3} | {} | {} | {} | {} | {} |",
        hours(outcomes),
        hours(outcomes) / base,
        moves / outcomes.len().max(1) as f64,
        sum(&|it| it.tally.real_violations),
        sum(&|it| it.tally.assumed_violations),
        sum(&|it| it.tally.failed_waits),
        sum(&|it| it.tally.pending),
        if done == whole {
            "all".to_owned()
        } else {
            format!("{done} of {whole}")
        },
    );
}
