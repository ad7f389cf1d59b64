//! Safety under lost, repeated and late inputs, and its negative controls.

use std::time::Duration;

use migrate_core::steps::DrainOutcome;
use proptest::prelude::*;

use super::super::Options;
use super::harness::{Run, World, run};

fn options() -> Options {
    Options {
        pod_deadline: Duration::from_secs(300),
        drain_deadline: Duration::from_secs(900),
        max_requests: 4,
        ..Options::default()
    }
}

fn any_app() -> impl Strategy<Value = (u32, Option<u32>, bool, bool, bool)> {
    let budget = prop_oneof![2 => Just(None), 1 => (1u32..3).prop_map(Some)];
    (
        1u32..7,
        budget,
        any::<bool>(),
        prop::bool::weighted(0.15),
        any::<bool>(),
    )
}

fn any_world() -> impl Strategy<Value = World> {
    (
        any::<u64>(),
        3usize..7,
        prop::collection::vec(any_app(), 1..6),
        1usize..4,
        prop_oneof![Just(0u64), 0u64..40],
        0u64..40,
        prop_oneof![Just(0u64), 0u64..20_000],
        prop_oneof![Just(0u64), 0u64..50],
        any::<bool>(),
        prop::option::weighted(0.2, 0u64..120),
    )
        .prop_map(
            |(seed, nodes, apps, drained, lost, twice, lag, faults, relists, cancel)| World {
                seed,
                nodes,
                apps,
                drained: drained.min(nodes - 1),
                lost,
                twice,
                lag,
                faults,
                relists,
                cancel,
            },
        )
}

/// 128, or what `PROPTEST_CASES` says: a number set in code hides it.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(128)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Whatever inputs are lost, repeated or late and whatever the API
    /// answers: no budget is overdrawn, no foreign pod asked, nothing asked
    /// before the cordon or after the end, and every drain ends.
    #[test]
    fn safe_and_terminating_over_an_unreliable_channel(world in any_world()) {
        let run = run(&world, options());
        prop_assert!(run.violations.is_empty(), "{:?}", run.violations);
    }

    /// With a channel that works, faults of the API only cost time: drains end
    /// empty, long before their deadline.
    #[test]
    fn live_over_a_reliable_channel(mut world in any_world()) {
        world.lost = 0;
        world.cancel = None;
        world.relists = false;
        world.lag = world.lag.min(3_000);
        world.faults = world.faults.min(20);
        let run = run(&world, options());
        prop_assert!(run.violations.is_empty(), "{:?}", run.violations);
        for (node, outcome) in &run.outcomes {
            prop_assert!(
                matches!(outcome, DrainOutcome::Empty { .. }),
                "{node}: {outcome:?} after {} s", run.seconds,
            );
        }
    }
}

/// Worlds in which an unguarded drain cannot but do harm.
fn crowded(seed: u64) -> World {
    World {
        seed,
        nodes: 4,
        apps: vec![
            (4, None, false, false, false),
            (3, None, true, false, false),
        ],
        drained: 2,
        lost: 0,
        twice: 0,
        lag: 500,
        faults: 0,
        relists: true,
        cancel: None,
    }
}

fn harmful(options: &Options) -> Vec<Run> {
    let runs = (0..20).map(|seed| run(&crowded(seed), options.clone()));
    runs.filter(|run| !run.violations.is_empty()).collect()
}

#[test]
fn negative_control_without_the_ledger_the_checker_objects() {
    let mut unguarded = options();
    unguarded.guarded = false;
    assert!(harmful(&unguarded).len() > 10);
    assert!(harmful(&options()).is_empty());
}

#[test]
fn negative_control_without_assumed_budgets_the_checker_objects() {
    let mut off = options();
    off.assumed_budgets.enabled = false;
    assert!(harmful(&off).len() > 10);
}

#[test]
fn a_healthy_cluster_is_drained_with_one_request_for_each_pod() {
    for seed in 0..20 {
        let run = run(&crowded(seed), options());
        let evictions: u32 = run
            .outcomes
            .values()
            .map(|outcome| match outcome {
                DrainOutcome::Empty { evictions } => *evictions,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(run.requests, evictions, "seed {seed}");
        assert!(run.seconds < 300, "seed {seed}: {} s", run.seconds);
    }
}

/// The watch never tells that two pods have gone, whose evictions the API had
/// accepted, and the drain of their node ends before anybody else's.
#[test]
fn an_accepted_eviction_that_no_watch_ever_shows_is_not_given_back() {
    let world = World {
        seed: 1_000_248,
        nodes: 3,
        apps: vec![
            (5, None, false, false, false),
            (1, Some(1), true, true, true),
            (4, None, false, false, true),
            (4, None, false, false, true),
            (6, None, false, false, false),
        ],
        drained: 2,
        lost: 21,
        twice: 18,
        lag: 0,
        faults: 43,
        relists: false,
        cancel: None,
    };
    let run = run(&world, options());
    assert!(run.violations.is_empty(), "{:?}", run.violations);
}
