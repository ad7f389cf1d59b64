//! What a rollout guarantees, judged from its log alone; and the replay law.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use migrate_core::Phase;
use migrate_plan::{
    Command, Input, Recorded, Rollout, StopReason, TargetState, Waves, budget_uses, rehearse,
    replay,
};
use proptest::prelude::*;
use support::judge::Judge;
use support::world::{Scenario, World};

fn scenario() -> impl Strategy<Value = Scenario> {
    let shape = (
        any::<u64>(),
        1..4usize,
        0..3usize,
        prop::collection::vec((1..9usize, 1..5u32), 1..4),
        prop::collection::vec((1..8usize, prop::option::of(0..4i32)), 0..7),
    );
    let day = (
        prop::sample::select(vec![0u64, 10, 40]),
        prop::sample::select(vec![0u64, 0, 3, 15]),
        prop::sample::select(vec![0u64, 30]),
        prop::sample::select(vec![0u64, 0, 20]),
        prop::sample::select(vec![0u64, 10, 40]),
        prop::sample::select(vec![0u64, 0, 20]),
    );
    let gates = (
        prop::sample::select(vec![0u64, 0, 30, 600]),
        prop::sample::select(vec![0u32, 1, 2, 99]),
    );
    let abort = prop::option::weighted(0.3, 0..60u64);
    let none = Vec::new;
    let rules = (
        prop::sample::select(vec![none(), none(), vec![1, 3], vec![2], vec![1, 2, 4]]),
        prop::sample::select(vec![false, false, true]),
        prop::sample::select(vec![0u32, 0, 1, 2]),
        prop::sample::select(vec![0u32, 0, 1, 20]),
    );
    (shape, day, gates, any::<[bool; 8]>(), abort, rules).prop_map(
        |(
            (seed, members, control_plane_nodes, pools, workloads),
            (retry, fail, replace, defer, noise, lose),
            (soak, max_failed),
            flags,
            abort,
            (ramp, one_zone, reserve, pace),
        )| {
            Scenario {
                seed,
                members,
                control_plane_nodes,
                control_plane_nodes_first: flags[4],
                soak,
                max_failed,
                windows: flags[5],
                tasks: flags[6],
                pools,
                workloads,
                canary: flags[0],
                ramp,
                one_zone,
                reserve,
                pace,
                runner: flags[7],
                skip: flags[1],
                retry,
                fail,
                replace,
                defer,
                noise,
                lose,
                budget_status: flags[2],
                punctual: flags[3],
                abort,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

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
        let commands = world.commands();
        // Told everything at once, fetched at the end.
        let mut fresh = Rollout::new(&world.plan, &world.model, &world.policy).unwrap();
        for Recorded { at, input } in &inputs {
            fresh.handle(*at, input);
        }
        let replayed: Vec<Command> = std::iter::from_fn(|| fresh.poll(world.end)).collect();
        prop_assert_eq!(&replayed, &commands);
        prop_assert_eq!(fresh.standings(), world.rollout.standings());
        // Up to the last input, as after a crash.
        let early = replay(&world.plan, &world.model, &world.policy, &inputs).unwrap();
        prop_assert!(commands.starts_with(&early));
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
        let mut world = World::new(Scenario {
            retry: 0,
            fail: 0,
            replace: 0,
            defer: 0,
            noise: 0,
            lose: 0,
            budget_status: false,
            abort: None,
            punctual: true,
            workloads: scenario.workloads.iter().map(|(n, b)| (*n, b.map(|b| b.max(1)))).collect(),
            ..scenario
        });
        world.run();
        let run = world.timeline();
        let rehearsal = rehearse(&world.model, &world.policy, &world.plan, &world.measured()).unwrap();
        prop_assert_eq!(rehearsal.differences(&run, Duration::ZERO), []);
    }

    /// No schedule beats its bounds: with soaks, windows, tasks, the runner's node,
    /// nodes that are away.
    #[test]
    fn no_schedule_is_shorter_than_a_bound(scenario in scenario()) {
        let plan = World::new(scenario).plan;
        prop_assert_eq!(plan.bounds.is_some(), !plan.schedule.is_empty());
        for limit in plan.bounds.iter().flat_map(|bounds| &bounds.limits) {
            prop_assert!(limit.time <= plan.makespan(), "{:?} of {:?}", limit, plan.makespan());
        }
    }

    /// Waves keep the rules that the schedule keeps, and have all of it.
    #[test]
    fn waves_keep_the_rules_of_the_plan(scenario in scenario()) {
        let world = World::new(scenario);
        let waves = Waves::new(&world.plan, &world.model, &world.policy);
        let cut = support::linted(waves.as_plan(&world.plan), &world.model, &world.policy);
        prop_assert_eq!(cut.schedule.len(), world.plan.schedule.len());
        prop_assert!(cut.makespan() <= waves.barrier);
        let in_waves: usize = waves.waves.iter().map(|wave| wave.targets.len()).sum();
        let begun: BTreeSet<_> = world.plan.schedule.iter().map(|action| &action.target).collect();
        prop_assert_eq!(in_waves, begun.len());
        let bounds = world.plan.bounds.iter().filter_map(|bounds| bounds.best());
        prop_assert!(bounds.into_iter().all(|best| best.time <= waves.barrier));
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
        let plan = &world.plan;
        let is_last = |phase| matches!(phase, Phase::Verify | Phase::BackUp);
        let verified = plan.schedule.iter().filter(|a| is_last(a.phase)).count();
        let targets = plan.targets().count();
        prop_assert!(verified == targets || plan.findings.iter().any(|f| f.blocks()));
    }
}
