//! A policy and a model of a cluster, as they come from files: an error or a plan,
//! which the linter reads to its end.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use migrate_core::{ClusterModel, KubeVersion, Policy};
use migrate_plan::{Planner, lint};

/// Larger ones only take longer.
const NODES: usize = 40;
const YEAR: Duration = Duration::from_secs(31_536_000);

fuzz_target!(|input: &str| {
    let (policy, model) = input.split_once("\n---\n").unwrap_or(("", input));
    let (Ok(policy), Ok(model)) = (
        toml::from_str::<Policy>(policy),
        ClusterModel::from_json(model),
    ) else {
        return;
    };
    let target: KubeVersion = "v1.37.2".parse().expect("a version");
    // Each window that passes is looked at, which nobody's years are worth.
    let is_short = policy.rollout.canary_soak < YEAR && policy.deadlines.drain < YEAR;
    if model.nodes.len() > NODES || !is_short {
        return;
    }
    match Planner::new(&model, &policy, target).plan() {
        Ok(plan) => drop(lint(&plan, &model, &policy)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
