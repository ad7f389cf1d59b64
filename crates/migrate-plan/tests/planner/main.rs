//! Plans: content, order, refusals, impossibilities, table and JSON.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod documents;
mod findings;
mod formulas;
mod half_upgraded;
mod identity;
mod journey;
mod links;
mod lint;
mod measured;
mod order;
mod own_targets;
mod placement;
mod renewed;
mod replan;
mod scheduler;
#[path = "../support/mod.rs"]
mod support;
mod surge;
mod views;

use std::time::Duration;

use migrate_core::{Phase, Plan, Policy};
use migrate_plan::Planner;
use support::{Cluster, NEW, version};

fn plan(model: &migrate_core::ClusterModel) -> Plan {
    let policy = Policy::default();
    let planner = Planner::new(model, &policy, version(NEW));
    support::linted(planner.plan().unwrap(), model, &policy)
}

/// Three members and their nodes, four and two workers, budgets of both kinds.
fn small() -> Cluster {
    Cluster::new()
        .member("control-plane-1")
        .member("control-plane-2")
        .pool("control-plane", 2)
        .pool("general", 4)
        .pool("batch", 2)
        .deployment("web", &["general-1", "general-2", "general-3"])
        .budget("web", 1)
        .deployment("api", &["general-3", "general-4"])
        .deployment("single", &["batch-1"])
}

fn drains(plan: &Plan) -> Vec<(Duration, Duration)> {
    let drains = plan
        .schedule
        .iter()
        .filter(|action| action.phase == Phase::Drain);
    drains.map(|action| (action.start, action.end)).collect()
}

/// What a phase of a node is predicted to take.
fn took(plan: &Plan, node: &str, phase: Phase) -> Duration {
    let mut actions = plan.schedule.iter();
    let action = actions.find(|it| it.target.name() == node && it.phase == phase);
    let action = action.unwrap();
    action.end - action.start
}
