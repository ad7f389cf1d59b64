//! What a plan does not depend on: the order in which the cluster was read, and
//! what its objects are called.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use migrate_core::cost::{BoundKind, Draws};
use migrate_core::{ClusterModel, Plan, Policy};
use migrate_plan::{
    Beliefs, Change, Forecaster, Planner, Waves, budget_uses, lint, plan_to_json, rehearse, replay,
};
use proptest::prelude::*;
use serde_json::Value;
use support::furnished::{Names, furnished, shuffled};
use support::scenario::{Scenario, planner};
use support::strategy::{config, scenario, surging};
use support::world::World;
use support::{NEW, Random, linted, version};

/// The node at a place by name that the seed of `scenario` says.
fn runner<'m>(scenario: &Scenario, model: &'m ClusterModel) -> Option<&'m str> {
    let at = Random(!scenario.seed).below(model.nodes.len() as u64) as usize;
    let mut names: Vec<&str> = model.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    scenario.runner.then(|| names[at])
}

fn plan_of(scenario: &Scenario, model: &ClusterModel, policy: &Policy) -> Plan {
    let planner = planner(scenario, model, policy, runner(scenario, model));
    let plan = planner.with_destinations().plan().unwrap();
    linted(plan, model, policy)
}

/// The JSON of `plan` but for what is a hash of names, or made of one.
fn without_hashes(plan: &Plan) -> Value {
    let mut plan = serde_json::to_value(plan).unwrap();
    for hash in ["id", "modelHash", "policyHash"] {
        plan[hash] = Value::Null;
    }
    plan
}

proptest! {
    #![proptest_config(config(8))]

    /// However the lists of a cluster were read, its plan is the same to the byte, and so
    /// is all that is made of both.
    #[test]
    fn the_order_of_lists_changes_nothing(
        scenario in prop_oneof![scenario(), surging()],
        seed in any::<u64>(),
    ) {
        let (model, policy) = furnished(&scenario);
        let turned = shuffled(&model, seed);
        let plan = plan_of(&scenario, &model, &policy);
        let again = plan_of(&scenario, &turned, &policy);
        prop_assert_eq!(plan_to_json(&plan).unwrap(), plan_to_json(&again).unwrap());
        prop_assert_eq!(lint(&plan, &model, &policy), lint(&plan, &turned, &policy));
        let waves = |model| Waves::new(&plan, model, &policy);
        prop_assert_eq!(waves(&model), waves(&turned));
        let uses = |model| budget_uses(&plan, model, &policy);
        prop_assert_eq!(uses(&model), uses(&turned));
        let trace = |model| Planner::new(model, &policy, version(NEW)).trace().unwrap();
        let (trace, of_turned) = (trace(&model), trace(&turned));
        prop_assert_eq!(&trace, &of_turned);
        let replayed = |model| replay(&trace.plan, model, &policy, &trace.inputs).unwrap();
        prop_assert_eq!(replayed(&model), replayed(&turned));
        let rehearsed = |model| rehearse(model, &policy, &plan, &Default::default()).unwrap();
        prop_assert_eq!(rehearsed(&model), rehearsed(&turned));
        let beliefs = Beliefs::default();
        let forecast = |model| {
            let forecaster = Forecaster::new(model, &policy, &plan, &beliefs).unwrap();
            forecaster.before_start(&Draws::new(seed), 2)
        };
        prop_assert_eq!(forecast(&model), forecast(&turned));
    }

    /// The same of what is planned anew, of a whole journey, and of a change.
    #[test]
    fn the_order_of_lists_changes_no_other_plan(scenario in scenario(), seed in any::<u64>()) {
        let (model, policy) = furnished(&scenario);
        let turned = shuffled(&model, seed);
        let (planner, of_turned) = (
            planner(&scenario, &model, &policy, runner(&scenario, &model)),
            planner(&scenario, &turned, &policy, runner(&scenario, &turned)),
        );
        let mut earlier = planner.plan().unwrap();
        Random(seed).shuffle(&mut earlier.slots);
        let replan = |planner: &Planner<'_>| planner.replan(&earlier).unwrap().plan;
        prop_assert_eq!(replan(&planner), replan(&of_turned));
        let wider = Change::Width { pool: "pool-0".into(), width: 7 };
        let what_if = |planner: &Planner<'_>| planner.what_if(&wider).unwrap().plan;
        prop_assert_eq!(what_if(&planner), what_if(&of_turned));
        let journey = |model| {
            let planner = Planner::new(model, &policy, version("v1.39.1"));
            planner.journey().map(|journey| journey.plans).map_err(|error| error.to_string())
        };
        prop_assert_eq!(journey(&model), journey(&turned));
    }

    /// The order of windows and blackouts has no meaning.
    #[test]
    fn the_order_of_windows_changes_nothing(scenario in scenario()) {
        let (model, mut policy) = furnished(&scenario);
        policy.rollout.windows = serde_json::from_str(
            r#"[{"from": "09:00", "to": "11:00"}, {"from": "10:00", "to": "13:00"},
                {"days": ["sat"], "from": "20:00", "to": "02:00"}]"#,
        ).unwrap();
        policy.rollout.blackouts = serde_json::from_str(
            r#"[{"from": "10:30", "to": "10:40"},
                {"from": "2027-01-16T00:00Z", "to": "2027-01-17T00:00Z"}]"#,
        ).unwrap();
        let plan = plan_of(&scenario, &model, &policy);
        policy.rollout.windows.rotate_left(1);
        policy.rollout.blackouts.reverse();
        let again = plan_of(&scenario, &model, &policy);
        prop_assert_eq!(plan, again);
    }

    /// A run decides the same, whichever of both its model was.
    #[test]
    fn the_order_of_lists_changes_no_run(scenario in scenario(), seed in any::<u64>()) {
        let mut world = World::new(scenario);
        world.run();
        let turned = shuffled(&world.model, seed);
        let replayed = |model| replay(&world.plan, model, &world.policy, &world.inputs()).unwrap();
        prop_assert_eq!(replayed(&turned), replayed(&world.model));
    }

    /// Names in the same order give the same plan under the new names.
    #[test]
    fn new_names_in_the_same_order_are_all_that_changes(
        scenario in prop_oneof![scenario(), surging()],
        seed in any::<u64>(),
    ) {
        let (model, policy) = furnished(&scenario);
        let names = Names::in_order(&model, seed);
        let text = serde_json::to_string(&model).unwrap();
        let renamed = ClusterModel::from_json(&names.in_text(&text)).unwrap();
        let plan = without_hashes(&plan_of(&scenario, &model, &policy));
        let plan: Value = serde_json::from_str(&names.in_text(&plan.to_string())).unwrap();
        prop_assert_eq!(plan, without_hashes(&plan_of(&scenario, &renamed, &policy)));
    }

    /// Names in any order give other plans of the same bounds. The scheduler's is left out:
    /// it is listed where drains of the schedule wait for it, and schedules differ. So are
    /// clusters with a pool that nodes which are away keep from beginning, which is a
    /// blocker: what of it has a time all the same, depends on which node is its canary.
    #[test]
    fn no_bound_depends_on_names(scenario in scenario(), seed in any::<u64>()) {
        let (model, policy) = furnished(&scenario);
        let names = Names::in_any_order(&model, seed);
        let text = serde_json::to_string(&model).unwrap();
        let renamed = ClusterModel::from_json(&names.in_text(&text)).unwrap();
        let runner = runner(&scenario, &model);
        let of = |model, runner| {
            let plan = planner(&scenario, model, &policy, runner).plan().unwrap();
            let plan = linted(plan, model, &policy);
            let mut found = plan.findings.iter();
            let is_kept = found.any(|finding| finding.code == "KM-NODE-003");
            plan.bounds.filter(|_| !is_kept).map(|bounds| {
                let limits = bounds.limits.iter();
                let limits = limits.filter(|limit| limit.kind != BoundKind::Scheduler);
                let times = limits.map(|limit| limit.time);
                (times.collect::<Vec<_>>(), bounds.widths)
            })
        };
        let new = runner.map(|name| names.of_name(name));
        prop_assert_eq!(of(&model, runner), of(&renamed, new));
    }
}
