//! A policy, a model of a cluster, and what a planner is told besides (links, what a run took,
//! what earlier runs took), as they come from files: an error or a plan, which the linter reads
//! to its end and which is forecast.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use migrate_core::cost::{Draws, Link};
use migrate_core::{ClusterModel, KubeVersion, Policy};
use migrate_plan::{Beliefs, Forecaster, History, Measured, Planner, lint, rehearse};

/// Larger ones only take longer.
const NODES: usize = 40;
const LINKS: usize = 8;
const YEAR: Duration = Duration::from_secs(31_536_000);
const BETWEEN: &str = "\n---\n";

/// What a planner is told besides.
#[derive(Default)]
struct Told {
    links: Vec<Link>,
    measured: Measured,
    history: History,
}

impl Told {
    /// Of an object with `links`, `measured`, and `history`, which is a list of its lines;
    /// nothing of what cannot be read.
    fn read(text: &str) -> Self {
        let told: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let lines = told["history"].as_array().into_iter().flatten();
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        Self {
            links: serde_json::from_value(told["links"].clone()).unwrap_or_default(),
            measured: Measured::from_json(&told["measured"].to_string()).unwrap_or_default(),
            history: History::from_text(&lines).unwrap_or_default(),
        }
    }

    /// Whether nothing that it tells takes a year.
    fn is_short(&self) -> bool {
        let actions = self.measured.actions.iter().map(|it| it.millis);
        let phases = self.measured.phases.iter().map(|it| it.total_millis);
        let longest = actions.chain(phases).max().unwrap_or(0);
        let time = |link: &Link| link.latency.max(link.time(1, 1_000).unwrap_or_default());
        Duration::from_millis(longest) < YEAR && self.links.iter().all(|link| time(link) < YEAR)
    }
}

fuzz_target!(|input: &str| {
    let (policy, rest) = input.split_once(BETWEEN).unwrap_or(("", input));
    let (model, told) = rest.split_once(BETWEEN).unwrap_or((rest, ""));
    let (Ok(policy), Ok(model)) = (
        toml::from_str::<Policy>(policy),
        ClusterModel::from_json(model),
    ) else {
        return;
    };
    let told = Told::read(told);
    let target: KubeVersion = "v1.37.2".parse().expect("a version");
    // Each window that passes is looked at, which nobody's years are worth.
    let is_short = policy.rollout.canary_soak < YEAR && policy.deadlines.drain < YEAR;
    let is_short = is_short && told.is_short();
    if model.nodes.len() > NODES || told.links.len() > LINKS || !is_short {
        return;
    }
    let beliefs = Beliefs::learned(&told.history);
    let planner = Planner::new(&model, &policy, target).with_beliefs(&beliefs);
    let planner = planner.with_measured(&told.measured);
    let planner = told.links.into_iter().fold(planner, Planner::with_link);
    match planner.plan() {
        Ok(plan) => {
            drop(lint(&plan, &model, &policy));
            drop(rehearse(&model, &policy, &plan, &told.measured));
            if let Ok(forecaster) = Forecaster::new(&model, &policy, &plan, &beliefs) {
                drop(forecaster.before_start(&Draws::new(0), 2));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
