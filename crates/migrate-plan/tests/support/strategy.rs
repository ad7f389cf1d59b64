//! Random clusters and days.

use proptest::prelude::*;

use super::OLD;
use super::scenario::Scenario;

/// Clusters and days of all kinds, without surge.
pub(crate) fn scenario() -> impl Strategy<Value = Scenario> {
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
        prop::sample::select(vec![0u64, 0, 500, 20_000]),
        // A patch that it goes to, or what it runs already.
        prop::sample::select(vec![None, None, Some("v1.36.5"), Some(OLD)]),
        prop::sample::select(vec![0u64, 0, 1, 400, 9_000]),
    );
    (shape, day, gates, any::<[bool; 9]>(), abort, rules).prop_map(
        |(
            (seed, members, control_plane_nodes, pools, workloads),
            (retry, fail, replace, defer, noise, lose),
            (soak, max_failed),
            flags,
            abort,
            (ramp, one_zone, reserve, pace, per_pod, own_target, fetches),
        )| {
            Scenario {
                seed,
                members,
                control_plane_nodes,
                control_plane_nodes_first: flags[4],
                soak,
                max_failed,
                windows: flags[5],
                beliefs: flags[8],
                tasks: flags[6],
                pools,
                workloads,
                canary: flags[0],
                ramp,
                one_zone,
                reserve,
                surge: 0,
                pace,
                per_pod,
                fetches,
                own_target,
                runner: flags[7],
                skip: flags[1],
                retry,
                fail,
                replace,
                defer,
                noise,
                lose,
                late: 70,
                budget_status: flags[2],
                punctual: flags[3],
                abort,
            }
        },
    )
}

/// The same with surge, and with nobody who may be away in some.
pub(crate) fn surging() -> impl Strategy<Value = Scenario> {
    (scenario(), 1..4u32, any::<bool>()).prop_map(|(scenario, surge, all)| {
        let pools = scenario.pools.iter();
        let pools = pools.map(|(nodes, width)| (*nodes, if all { 0 } else { *width }));
        Scenario {
            surge,
            pools: pools.collect(),
            ..scenario
        }
    })
}

/// A day on which nothing goes wrong, and every budget lets a pod go.
pub(crate) fn good(scenario: Scenario) -> Scenario {
    let workloads = scenario.workloads.iter();
    let workloads = workloads.map(|(n, b)| (*n, b.map(|b| b.max(1))));
    Scenario {
        workloads: workloads.collect(),
        retry: 0,
        fail: 0,
        replace: 0,
        defer: 0,
        noise: 0,
        lose: 0,
        late: 0,
        budget_status: false,
        abort: None,
        punctual: true,
        ..scenario
    }
}

/// One case in `part` of 1000, or of what `PROPTEST_CASES` says: a number set in code hides it.
pub(crate) fn config(part: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let cases: u32 = asked.and_then(|text| text.parse().ok()).unwrap_or(1000);
    ProptestConfig {
        cases: cases.div_ceil(part),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
