//! Many random clusters, each upgraded through many random faults.

mod dice;
mod faults;
mod run;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seeds of the long test when nobody says how many.
const SEEDS: u64 = 300;
/// Seeds of every change, in a build that is not optimized.
const FEW: u64 = 16;

/// The first clusters of the long test, on every change.
#[test]
fn through_some_weather_no_rule_is_broken() {
    storm(1, FEW);
}

/// Each of `KUBE_MIGRATE_SEEDS` clusters, counted from `KUBE_MIGRATE_FIRST_SEED`,
/// ends upgraded or with a stop that says why; no rule is broken, no cordon or
/// mark is left that the report does not name, and the replay law holds. A cluster with which nothing
/// lasting is wrong must arrive.
#[test]
#[ignore = "long"]
fn through_any_weather_no_rule_is_broken() {
    let first = from_environment("KUBE_MIGRATE_FIRST_SEED", 1);
    let seeds = from_environment("KUBE_MIGRATE_SEEDS", SEEDS);
    storm(first, seeds);
}

/// Upgrades the clusters of `seeds` seeds from `first` on, as many at once as there
/// are processors.
fn storm(first: u64, seeds: u64) {
    let next = AtomicU64::new(0);
    let ended = Mutex::new(Vec::new());
    let failed = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    if number > 0 && number.is_multiple_of(50) {
                        println!("{number} of {seeds} clusters");
                    }
                    match run::upgrade(first + number) {
                        Ok(end) => ended.lock().unwrap().push(end),
                        Err(wrong) => {
                            failed.lock().unwrap().insert(first + number, wrong);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    figures(&ended.into_inner().unwrap());
    let shown: Vec<String> = failed
        .iter()
        .take(10)
        .map(|(seed, wrong)| format!("seed {seed}: {wrong}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} clusters: {:?}\n{}",
        failed.len(),
        failed.keys(),
        shown.join("\n\n")
    );
}

fn figures(ended: &[run::Ended]) {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for end in ended {
        *outcomes.entry(end.outcome).or_default() += 1;
    }
    let nodes: usize = ended.iter().map(|end| end.nodes).sum();
    let crashes: u32 = ended.iter().map(|end| end.crashes).sum();
    let actions: usize = ended.iter().map(|end| end.actions).sum();
    let pauses: usize = ended.iter().map(|end| end.pauses).sum();
    let evictions: u32 = ended.iter().map(|end| end.evictions).sum();
    let took: Duration = ended.iter().map(|end| end.took).sum();
    println!("figure storm.clusters {} 1", ended.len());
    println!("figure storm.nodes {nodes} 1");
    println!("figure storm.actions {actions} 1");
    println!("figure storm.crashes {crashes} 1");
    println!("figure storm.pauses {pauses} 1");
    println!("figure storm.evictions {evictions} 1");
    println!("figure storm.cluster-time {} s", took.as_secs());
    for (outcome, count) in outcomes {
        println!("figure storm.outcome.{outcome} {count} 1");
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}
