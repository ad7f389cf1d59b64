//! What a rollout guarantees, judged from its log alone; and the replay law.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::cost::BoundKind;
use migrate_core::{Plan, Point, Target};
use migrate_plan::{
    Command, Input, Recorded, Rollout, StopReason, TargetState, Waves, budget_uses, rehearse,
    replay,
};
use proptest::prelude::*;
use support::judge::Judge;
use support::judge::surge::SurgeJudge;
use support::strategy::{config, good, scenario, surging};
use support::world::{Entry, Scenario, World};
use support::{NEW, has_all};

/// With nothing that is late for its window, which waves ask room for and a rollout does not.
fn on_time(scenario: Scenario) -> Scenario {
    let (per_pod, fetches) = match scenario.windows {
        true => (0, 0),
        false => (scenario.per_pod, scenario.fetches),
    };
    Scenario {
        per_pod,
        fetches,
        ..scenario
    }
}

/// A fresh rollout that is told all of `inputs` at once, and asked at the end, does what was done.
fn is_repeated(world: &World, inputs: &[Recorded]) -> Result<(), TestCaseError> {
    let mut fresh = Rollout::new(&world.plan, &world.model, &world.policy).unwrap();
    for Recorded { at, input } in inputs {
        fresh.handle(*at, input);
    }
    let replayed: Vec<Command> = std::iter::from_fn(|| fresh.poll(world.end)).collect();
    prop_assert_eq!(replayed, world.commands());
    prop_assert_eq!(fresh.standings(), world.rollout.standings());
    Ok(())
}

/// A rehearsal with what its actions took is the same run.
fn is_rehearsed(world: &World) -> Result<(), TestCaseError> {
    let run = world.timeline();
    let rehearsal = rehearse(&world.model, &world.policy, &world.plan, &world.measured());
    prop_assert_eq!(rehearsal.unwrap().differences(&run, Duration::ZERO), []);
    Ok(())
}

fn keeps_to_its_bounds(plan: &Plan) -> Result<(), TestCaseError> {
    for limit in plan.bounds.iter().flat_map(|bounds| &bounds.limits) {
        let makespan = plan.makespan();
        prop_assert!(limit.time <= makespan, "{limit:?} of {makespan:?}");
    }
    Ok(())
}

fn has_all_or_a_blocker(plan: &Plan) -> Result<(), TestCaseError> {
    prop_assert!(has_all(plan) || plan.findings.iter().any(|f| f.blocks()));
    Ok(())
}

proptest! {
    #![proptest_config(config(1))]

    /// Rules and termination, with failures, retries, replaced machines,
    /// pauses, cancellations, flapping and vanishing nodes, nodes made anew, actions
    /// that are too late, aborted or not.
    #[test]
    fn every_run_keeps_the_rules_and_ends(scenario in scenario()) {
        let mut world = World::new(scenario);
        world.run();
        Judge::watch(&world);
        let progress = world.rollout.progress();
        prop_assert_eq!(progress.total() as usize,
            world.plan.targets().count());
        for entry in &world.log {
            if let Entry::Out(_, Command::Begin { action }) = entry {
                let of_first = matches!(&action.target, Target::Node { pool, .. } if pool == "pool-0");
                let own = world.scenario.own_target.filter(|_| of_first);
                prop_assert_eq!(action.to.to_string(), own.unwrap_or(NEW), "{}", action);
            }
        }
        if world.rollout.is_finished() {
            prop_assert_eq!((progress.waiting, progress.running), (0, 0));
            prop_assert!(world.rollout.waiting().is_empty());
        } else {
            prop_assert!(world.rollout.stopped().is_some());
        }
    }

    /// Aborted at any moment, what has begun is brought to its end, nothing else
    /// begins (the judge), and the end is for good.
    #[test]
    fn an_aborted_run_ends_for_good(scenario in scenario(), turn in 0..60u64) {
        let mut world = World::new(Scenario { abort: Some(turn), ..scenario });
        world.run();
        Judge::watch(&world);
        // It may have finished before it came to that.
        let was_told = world.inputs().iter().any(|r| r.input == Input::Aborted);
        prop_assume!(was_told);
        prop_assert_eq!(world.rollout.stopped(), Some(StopReason::Aborted));
        let is_over = |state: &TargetState| {
            !matches!(state, TargetState::Waiting | TargetState::InWork { .. })
        };
        let standings = world.rollout.standings();
        prop_assert!(standings.iter().all(|s| is_over(&s.state)), "{:?}", standings);
        let mut later = world.rollout.clone();
        for input in [Input::Started, Input::Cancelled, Input::Aborted] {
            later.handle(world.end, &input);
        }
        prop_assert_eq!(later.poll(world.end), None);
    }

    /// The replay law, through the JSON that a journal would hold.
    #[test]
    fn a_fresh_rollout_repeats_every_run(scenario in scenario()) {
        let mut world = World::new(scenario);
        world.run();
        let json = serde_json::to_string(&world.inputs()).unwrap();
        let inputs: Vec<Recorded> = serde_json::from_str(&json).unwrap();
        is_repeated(&world, &inputs)?;
        // Up to the last input, as after a crash.
        let early = replay(&world.plan, &world.model, &world.policy, &inputs).unwrap();
        prop_assert!(world.commands().starts_with(&early));
    }

    /// Without trouble everything is upgraded, and waiting always says why.
    #[test]
    fn a_good_day_upgrades_everything(scenario in scenario()) {
        let scenario = Scenario {
            retry: 0,
            fail: 0,
            defer: 0,
            noise: 0,
            lose: 0,
            abort: None,
            workloads: scenario.workloads.iter().map(|(n, b)| (*n, b.map(|b| b.max(1)))).collect(),
            ..scenario
        };
        let mut world = World::new(scenario);
        let targets = world.plan.targets().count();
        prop_assert_eq!(world.rollout.waiting().len(), targets);
        world.run();
        prop_assert!(world.rollout.is_finished());
        prop_assert_eq!(world.rollout.progress().done as usize, targets);
    }

    /// The replay law of the planner: what the actions of a run took is all that a
    /// rehearsal needs to begin the same, in the same order, at the same time.
    #[test]
    fn measured_durations_rehearse_every_good_day(scenario in scenario()) {
        let mut world = World::new(good(scenario));
        world.run();
        is_rehearsed(&world)?;
    }

    /// No schedule beats its bounds: with soaks, windows, tasks, the runner's node,
    /// nodes that are away.
    #[test]
    fn no_schedule_is_shorter_than_a_bound(scenario in scenario()) {
        let plan = World::new(scenario).plan;
        prop_assert_eq!(plan.bounds.is_some(), !plan.schedule.is_empty());
        keeps_to_its_bounds(&plan)?;
    }

    /// Waves keep the rules that the schedule keeps, and have all of it.
    #[test]
    fn waves_keep_the_rules_of_the_plan(scenario in scenario()) {
        let world = World::new(on_time(scenario));
        let waves = Waves::new(&world.plan, &world.model, &world.policy);
        let cut = support::linted(waves.as_plan(&world.plan), &world.model, &world.policy);
        prop_assert_eq!(cut.schedule.len(), world.plan.schedule.len());
        prop_assert!(cut.makespan() <= waves.barrier);
        let in_waves: usize = waves.waves.iter().map(|wave| wave.targets.len()).sum();
        let begun: BTreeSet<_> = world.plan.schedule.iter().map(|action| &action.target).collect();
        prop_assert_eq!(in_waves, begun.len());
        // Actions last as long as in the schedule, where fewer may wait for a link.
        let limits = world.plan.bounds.iter().flat_map(|bounds| &bounds.limits);
        let limits = limits.filter(|limit| !matches!(limit.kind, BoundKind::Bandwidth { .. }));
        for limit in limits {
            prop_assert!(limit.time <= waves.barrier, "{:?} over {:#?}", limit, waves);
        }
    }

    /// No schedule holds more of a budget than that allows, counted by what it
    /// takes of each.
    #[test]
    fn no_budget_is_held_beyond_what_it_allows(scenario in scenario()) {
        let world = World::new(scenario);
        let makespan = world.plan.makespan();
        for of in budget_uses(&world.plan, &world.model, &world.policy) {
            prop_assert!(of.most_held <= of.allowed.max(1), "{:?}", of);
            prop_assert!(of.full <= of.busy && of.busy <= makespan, "{:?}", of);
        }
    }

    /// What has no time in a schedule has a reason among the findings.
    #[test]
    fn what_cannot_begin_has_a_blocker(scenario in scenario()) {
        let world = World::new(scenario);
        has_all_or_a_blocker(&world.plan)?;
    }
}

proptest! {
    #![proptest_config(config(2))]

    /// Behind replacements: no more machines than the surge, none drained before its own is
    /// Ready, no more away than may be; failures, retries and drains that are put off.
    #[test]
    fn nodes_behind_replacements_keep_the_rules(scenario in surging()) {
        let mut world = World::new(Scenario { noise: 0, lose: 0, ..scenario });
        world.run();
        SurgeJudge::watch(&world);
    }

    /// With all that may happen to nodes besides, it ends, and is repeated from its inputs.
    #[test]
    fn a_surging_run_ends_and_is_repeated(scenario in surging()) {
        let mut world = World::new(scenario);
        world.run();
        let progress = world.rollout.progress();
        match world.rollout.is_finished() {
            true => prop_assert_eq!((progress.waiting, progress.running), (0, 0)),
            false => prop_assert!(world.rollout.stopped().is_some()),
        }
        is_repeated(&world, &world.inputs())?;
    }

    /// On a good day all of it is done, and a rehearsal with what it took is the same.
    #[test]
    fn a_good_day_behind_replacements_is_rehearsed(scenario in surging()) {
        let mut world = World::new(good(scenario));
        world.run();
        prop_assert!(world.rollout.is_finished());
        is_rehearsed(&world)?;
    }

    /// Bounds, waves and reasons of plans with surge. In waves with a pace a canary may begin
    /// while another soaks.
    #[test]
    fn plans_with_surge_keep_to_bounds_and_waves(scenario in surging()) {
        let soak = if scenario.pace > 0 { 0 } else { scenario.soak };
        let world = World::new(on_time(Scenario { soak, ..scenario }));
        let plan = &world.plan;
        keeps_to_its_bounds(plan)?;
        let waves = Waves::new(plan, &world.model, &world.policy);
        let cut = support::linted(waves.as_plan(plan), &world.model, &world.policy);
        prop_assert_eq!(cut.schedule.len(), plan.schedule.len());
        for of in budget_uses(plan, &world.model, &world.policy) {
            prop_assert!(of.most_held <= of.allowed.max(1), "{:?}", of);
        }
        has_all_or_a_blocker(plan)?;
    }
}

proptest! {
    // Each makes two plans, and P95 of every target of one.
    #![proptest_config(config(4))]

    /// What is less certain needs no less of a window: nothing begins that would not fit if
    /// all were certain, and the first target no sooner.
    #[test]
    fn what_is_less_certain_needs_no_less_of_a_window(scenario in scenario()) {
        let of = |beliefs| World::new(Scenario { windows: true, beliefs, ..scenario.clone() }).plan;
        let (certain, believed) = (of(false), of(true));
        let first = |plan: &Plan| plan.schedule.iter().map(|action| action.start).min();
        if let Some(start) = first(&believed) {
            prop_assert!(first(&certain).is_some_and(|of_certain| of_certain <= start));
        }
        let lengths = |plan: &Plan| {
            let slots = plan.slots.iter().map(|slot| (slot.node.clone(), slot.length));
            let tasks = plan.tasks.iter().filter(|task| task.at != Point::BeforeControlPlane);
            let tasks = tasks.map(|task| (task.target.to_string(), task.length));
            slots.chain(tasks).collect::<BTreeMap<_, _>>()
        };
        for ((name, least), (of, length)) in lengths(&certain).iter().zip(&lengths(&believed)) {
            prop_assert_eq!(name, of);
            prop_assert!(length >= least, "{}: {:?} and {:?}", of, length, least);
        }
        // What is left of the control plane, from the last on.
        let in_a_row = |plan: &Plan| {
            let before = plan.tasks.iter().filter(|task| task.at == Point::BeforeControlPlane);
            let members = plan.control_plane.iter().map(|member| member.length);
            let lengths: Vec<_> = before.map(|task| task.length).chain(members).collect();
            let left = lengths.iter().rev().scan(Duration::ZERO, |left, length| {
                *left += *length;
                Some(*left)
            });
            left.collect::<Vec<_>>()
        };
        for (least, left) in in_a_row(&certain).iter().zip(&in_a_row(&believed)) {
            prop_assert!(left >= least, "{:?} and {:?}", left, least);
        }
    }
}
