//! Plans: content, order, refusals, impossibilities, table and JSON.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod consent;
mod documents;
mod edited;
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
mod pins;
mod placement;
mod pulls;
mod renewed;
mod replan;
mod room;
mod rooms;
mod scheduler;
#[path = "../support/mod.rs"]
mod support;
mod surge;
mod views;

use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::{ClusterModel, Phase, Plan, Policy};
use migrate_plan::{Beliefs, Forecaster, Measured, Planner, Timeline, Trace, rehearse, replay};
use proptest::prelude::*;
use support::{Cluster, NEW, version};

fn plan(model: &ClusterModel) -> Plan {
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

/// No bound is beyond the plan, the replay laws hold (from inputs, and from what each action
/// took), and a forecast of which all is certain says what the plan does.
fn holds_together(
    trace: &Trace,
    model: &ClusterModel,
    policy: &Policy,
) -> Result<(), TestCaseError> {
    let plan = &trace.plan;
    for limit in &plan.bounds.as_ref().unwrap().limits {
        prop_assert!(limit.time <= plan.makespan(), "{:?}", limit);
    }
    let commands = replay(plan, model, policy, &trace.inputs).unwrap();
    prop_assert_eq!(&commands, &trace.commands);
    let mut ended: Vec<_> = plan.schedule.iter().collect();
    ended.sort_by_key(|action| action.end);
    let ended = ended.iter();
    let ended = ended.map(|it| (it.target.clone(), it.phase, it.end - it.start));
    let measured = Measured::of_run(model.taken_at, ended);
    let rehearsal = rehearse(model, policy, plan, &measured).unwrap();
    let run = Timeline::new(plan.schedule.clone());
    prop_assert_eq!(rehearsal.differences(&run, Duration::ZERO), []);
    let certain = Forecaster::new(model, policy, plan, &Beliefs::certain()).unwrap();
    let forecast = certain.before_start(&Draws::new(1), 2).makespan;
    prop_assert_eq!(forecast.p95, plan.makespan());
    Ok(())
}
