//! How true forecasts are, on durations that they were not made for.
//!
//! `cargo bench -p migrate-quality --bench forecast` (`FORECAST_UPGRADES`, of each kind
//! of truth, 250; `FORECAST_FIRST_SEED`, 1; `FORECAST_NODES`, 60; `FORECAST_SAMPLES`, 200;
//! `FORECAST_KNOWN`, 100: samples of what could be said at best). Prints the tables of
//! docs/time.md and `figure NAME VALUE UNIT` lines. Everything is the same for the
//! same seed.

#![allow(clippy::unwrap_used, reason = "benches")]
#![allow(unreachable_pub, reason = "modules of a program")]

mod truth;
mod upgrade;

use migrate_plan::Beliefs;
use migrate_quality::instance::{Instance, Setting};

use truth::{Family, Truth};
use upgrade::{Formulas, POINTS, Said, Upgrade, learned, upgrade};

/// Upgrades of the same cluster before, where forecasts learn from them.
const EARLIER: usize = 5;

fn main() {
    let is_trial = std::env::args().any(|argument| argument == "--test");
    let number = |name: &str, default: usize, of_trial: usize| {
        let set = std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok());
        set.unwrap_or(if is_trial { of_trial } else { default })
    };
    let upgrades = number("FORECAST_UPGRADES", 250, 1);
    let nodes = number("FORECAST_NODES", 60, 12);
    let samples = u32::try_from(number("FORECAST_SAMPLES", 200, 20)).unwrap();
    let first = number("FORECAST_FIRST_SEED", 1, 1) as u64;
    let luck = u32::try_from(number("FORECAST_KNOWN", 100, 3)).unwrap();
    let mut all = Vec::new();
    let mut tables = Vec::new();
    for family in Family::EACH.into_iter().chain(Family::HELD_OUT) {
        let seeds = first..first + upgrades as u64;
        let cases = seeds.map(|seed| Case::new(family, nodes, samples, luck, seed));
        let cases: Vec<Case> = cases.collect();
        if family != Family::Believed && Family::EACH.contains(&family) {
            all.extend(cases.iter().cloned());
        }
        tables.push((family.name(), cases));
    }
    tables.push(("together", all));
    println!("| durations | n | at | P50 | P80 | P95 | error of P50 | P95 over P50 |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, cases) in &tables {
        for (at, percent) in POINTS.iter().enumerate() {
            let point = format!("{percent} %");
            row(name, &point, cases, |case| case.fresh.said[at]);
        }
        row(name, "0 %, five runs before", cases, |case| {
            case.taught.said[0]
        });
        if luck > 0 {
            row(name, "25 %, all but luck known", cases, |case| {
                case.fresh.known.unwrap()
            });
        }
    }
    println!("\n| durations | forecast, 25 % | elapsed / done, 25 % | plan | rounds | N · D / S |");
    println!("|---|---|---|---|---|---|");
    for (name, cases) in &tables {
        baselines(name, cases);
    }
}

/// One upgrade that began with what is public, and one after [`EARLIER`] others of the same
/// cluster.
#[derive(Clone)]
struct Case {
    fresh: Upgrade,
    taught: Upgrade,
    formulas: Formulas,
}

impl Case {
    fn new(family: Family, nodes: usize, samples: u32, luck: u32, seed: u64) -> Self {
        let instance = Instance::new(&Setting::fleet(nodes, seed), seed);
        let plan = instance.plan().unwrap();
        let mut truth = Truth::new(family, seed);
        let beliefs = learned(&instance, &plan, &mut truth, EARLIER);
        let public = Beliefs::default();
        let mut same = truth.clone();
        let (fresh, _) = upgrade(&instance, &plan, &mut truth, &public, samples, luck);
        let (taught, _) = upgrade(&instance, &plan, &mut same, &beliefs, samples, 0);
        Self {
            fresh,
            taught,
            formulas: Formulas::new(&plan),
        }
    }
}

/// Coverage in per cent and errors, of what was said at one point.
fn row(name: &str, point: &str, cases: &[Case], said: impl Fn(&Case) -> Said) {
    let covered = |quantile: fn(&Said) -> f64| {
        let within = cases
            .iter()
            .filter(|case| case.fresh.took <= quantile(&said(case)));
        100.0 * within.count() as f64 / cases.len() as f64
    };
    let coverage = [
        covered(|it| it.p50),
        covered(|it| it.p80),
        covered(|it| it.p95),
    ];
    let error = error(cases, |case| said(case).p50);
    let wide = mean(cases, |case| said(case).p95 / said(case).p50);
    let [p50, p80, p95] = coverage;
    let n = cases.len();
    println!(
        "| {name} | {n} | {point} | {p50:.1} | {p80:.1} | {p95:.1} | {error:.1} % | {wide:.2} |"
    );
    let point = point.replace(" %", "").replace(", ", "_").replace(' ', "_");
    for (quantile, covered) in ["p50", "p80", "p95"].iter().zip(coverage) {
        println!("figure forecast_{name}_at_{point}_covered_{quantile} {covered:.1} percent");
    }
    println!("figure forecast_{name}_at_{point}_error {error:.1} percent");
}

/// Mean absolute errors beside those of others.
fn baselines(name: &str, cases: &[Case]) {
    let at = POINTS.iter().position(|percent| *percent == 25).unwrap();
    let ours = error(cases, |case| case.fresh.said[at].p50);
    let done = error(cases, |case| case.fresh.said[at].elapsed_over_done.unwrap());
    let plan = error(cases, |case| case.formulas.plan);
    let rounds = error(cases, |case| case.formulas.rounds);
    let law = error(cases, |case| case.formulas.transfer_law);
    println!("| {name} | {ours:.1} % | {done:.1} % | {plan:.1} % | {rounds:.1} % | {law:.1} % |");
    for (of, error) in [
        ("elapsed_over_done", done),
        ("plan", plan),
        ("rounds", rounds),
        ("transfer_law", law),
    ] {
        println!("figure forecast_{name}_error_of_{of} {error:.1} percent");
    }
}

/// Mean absolute error in per cent of what an upgrade took.
fn error(cases: &[Case], said: impl Fn(&Case) -> f64) -> f64 {
    100.0 * mean(cases, |case| (said(case) / case.fresh.took - 1.0).abs())
}

fn mean(cases: &[Case], of: impl Fn(&Case) -> f64) -> f64 {
    cases.iter().map(of).sum::<f64>() / cases.len().max(1) as f64
}
