//! What-ifs of a rollout that runs, beside plans made anew with the same change.

use migrate_core::cost::{BytesPerSecond, Draws};
use migrate_core::{BudgetKey, ClusterModel, IntOrPercent, Moment, Plan, Policy, Resources};
use migrate_plan::{
    Beliefs, Change, Command, Error, Forecaster, Input, LiveWhatIf, Planner, Rollout,
};

use super::{plan_of, secs};
use crate::support::{Cluster, NEW, version};

const DRAWS: Draws = Draws::new(1);

/// Twelve nodes, two at once, whose pods one budget lets go of one by one.
fn twelve(width: u32) -> (ClusterModel, Policy) {
    let names: Vec<String> = (1..=12).map(|n| format!("general-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let model = Cluster::new().member("cp-1").pool("general", 12);
    let model = model.deployment("web", &names).budget("web", 1).build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = IntOrPercent::Int(width);
    policy.pools.canary = false;
    (model, policy)
}

fn width(width: u32) -> Change {
    let pool = "general".to_owned();
    Change::Width { pool, width }
}

fn replicas(name: &str, more: u32) -> Change {
    let budget = BudgetKey::real("shop", name);
    Change::Replicas { budget, more }
}

/// At the start of the rollout, with durations as they are planned.
fn at_start(model: &ClusterModel, policy: &Policy, change: &Change) -> Result<LiveWhatIf, Error> {
    let plan = plan_of(model, policy);
    after(model, policy, &plan, 0, change)
}

/// After so many ends of actions, each when it was planned.
fn after(
    model: &ClusterModel,
    policy: &Policy,
    plan: &Plan,
    ends: usize,
    change: &Change,
) -> Result<LiveWhatIf, Error> {
    let mut rollout = Rollout::new(plan, model, policy).unwrap();
    let mut forecaster = Forecaster::new(model, policy, plan, &Beliefs::certain()).unwrap();
    let mut now = model.taken_at;
    rollout.handle(now, &Input::Started);
    let mut running = Vec::new();
    for end in 0.. {
        while let Some(Command::Begin { action }) = rollout.poll(now) {
            forecaster.began(now, &action);
            let mut planned = plan.schedule.iter();
            let is_it = |it: &&migrate_core::PlannedAction| {
                (&it.target, it.phase) == (&action.target, action.phase)
            };
            let planned = planned.find(is_it).unwrap();
            running.push((now + (planned.end - planned.start), action));
        }
        if end == ends {
            break;
        }
        running.sort_by_key(|(at, action)| (*at, action.id.clone()));
        let (at, action) = running.remove(0);
        now = at;
        forecaster.ended(now, &action, true);
        let result = migrate_plan::ActionResult::Succeeded(migrate_core::Outcome::SameNode);
        let id = action.id.clone();
        rollout.handle(now, &Input::ActionEnded { id, result });
    }
    let told: Moment = now;
    let unchanged = forecaster.at(told, &rollout, &DRAWS, 3);
    let what_if = forecaster.what_if(told, &rollout, change, &DRAWS, 3)?;
    assert_eq!(what_if.before, unchanged);
    assert_eq!(forecaster.at(told, &rollout, &DRAWS, 3), unchanged);
    Ok(what_if)
}

#[test]
fn at_the_start_it_is_what_a_plan_made_anew_takes() {
    let changes = [
        (1, width(2)),
        (1, width(4)),
        (4, width(1)),
        (4, replicas("web", 1)),
        (4, replicas("web", 3)),
        (1, replicas("web", 1)),
    ];
    for (wide, change) in changes {
        let (model, policy) = twelve(wide);
        let planner = Planner::new(&model, &policy, version(NEW));
        let anew = planner.what_if(&change).unwrap();
        let live = at_start(&model, &policy, &change).unwrap();
        assert_eq!(live.before.makespan.p50, anew.before, "{change:?}");
        assert_eq!(live.after.makespan.p50, anew.after, "{change:?}");
        assert_eq!((live.before.unended, live.after.unended), (0, 0));
    }
    let (model, policy) = twelve(4);
    let gains = |change| {
        let live = at_start(&model, &policy, &change).unwrap();
        live.before
            .makespan
            .p50
            .saturating_sub(live.after.makespan.p50)
    };
    assert!(gains(replicas("web", 1)) > secs(60));
}

#[test]
fn on_the_way_what_is_done_gains_nothing_any_more() {
    let (model, policy) = twelve(1);
    let plan = plan_of(&model, &policy);
    let gain = |ends| {
        let live = after(&model, &policy, &plan, ends, &width(2)).unwrap();
        live.before.makespan.p50 - live.after.makespan.p50
    };
    // Two actions of the member, three of each node.
    let gains = [0, 2 + 3, 2 + 18, 2 + 33, 2 + 36 - 1].map(gain);
    assert!(gains.is_sorted_by(|a, b| a >= b), "{gains:?}");
    assert!(gains[1] > gains[2] && gains[2] > gains[4], "{gains:?}");
    assert!(gains[4].is_zero(), "{gains:?}");
}

#[test]
fn what_no_rollout_can_be_told_is_refused() {
    let (model, policy) = twelve(2);
    let refused = |change: Change| at_start(&model, &policy, &change).unwrap_err();
    let (name, throughput) = ("registry".to_owned(), BytesPerSecond(1));
    let never = [
        Change::Link { name, throughput },
        Change::Policy(Box::new(policy.clone())),
        Change::Model(Box::new(model.clone())),
    ];
    for change in never {
        let error = refused(change);
        assert!(matches!(error, Error::NotLive { .. }), "{error}");
    }
    let pool = "none".to_owned();
    for change in [Change::Width { pool, width: 3 }, replicas("none", 1)] {
        let error = refused(change);
        assert!(matches!(error, Error::NoSuchThing { .. }), "{error}");
    }
    // Forty-eight CPUs, of which 32.4 are asked for: three nodes may be away.
    let mut full = model;
    for node in &mut full.nodes {
        node.allocatable = Resources::new(4_000, 1 << 34, 110);
    }
    for pod in &mut full.pods {
        pod.requests = Resources::new(2_700, 1 << 28, 1);
    }
    assert!(at_start(&full, &policy, &width(3)).is_ok());
    let error = at_start(&full, &policy, &width(5)).unwrap_err();
    let says = error.to_string();
    assert!(matches!(error, Error::NotLive { .. }), "{error}");
    assert!(says.contains("too little room"), "{says}");
}
