//! Drains that wait for the scheduler, in the prediction alone.

use std::time::Duration;

use migrate_core::cost::{BoundKind, PhaseDurations, TermKind};
use migrate_core::{ClusterModel, Phase, Plan, Policy, Severity};
use migrate_plan::{PlanTable, Planner, lint};
use proptest::prelude::*;

use crate::support::{Cluster, NEW, linted, version};
use crate::{holds_together, took};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Nodes that all begin at once, each with so many pods that nothing else limits.
pub(crate) fn wide(pods: &[usize]) -> (ClusterModel, Policy) {
    let mut cluster = Cluster::new().member("m").pool("general", pods.len());
    for (number, pods) in (1..).zip(pods) {
        let node = format!("general-{number}");
        cluster = cluster.deployment(&format!("w{number}"), &vec![node.as_str(); *pods]);
    }
    let mut policy = Policy::default();
    policy.pools.canary = false;
    policy.pools.max_unavailable = "100%".parse().unwrap();
    policy.assumed_budgets.enabled = false;
    (cluster.build(), policy)
}

/// When each drain begins and ends, and how many pods its node has.
pub(crate) fn drains(plan: &Plan, model: &ClusterModel) -> Vec<(Duration, Duration, u32)> {
    let drains = plan.schedule.iter().filter(|it| it.phase == Phase::Drain);
    let pods_of = |node: &str| {
        let pods = model.pods.iter();
        let pods = pods.filter(|pod| pod.node.as_deref() == Some(node));
        u32::try_from(pods.count()).unwrap()
    };
    drains
        .map(|it| (it.start, it.end, pods_of(it.target.name())))
        .collect()
}

fn taking(per_pod: Duration) -> PhaseDurations {
    let mut durations = PhaseDurations::default();
    durations.schedule = per_pod;
    durations
}

fn planned(model: &ClusterModel, policy: &Policy, per_pod: Duration) -> Plan {
    let planner = Planner::new(model, policy, version(NEW)).with_durations(taking(per_pod));
    linted(planner.plan().unwrap(), model, policy)
}

fn scheduler_bound(plan: &Plan) -> Option<Duration> {
    let mut limits = plan.bounds.iter().flat_map(|bounds| &bounds.limits);
    let bound = limits.find(|limit| limit.kind == BoundKind::Scheduler);
    bound.map(|bound| bound.time)
}

#[test]
fn drains_at_once_end_when_the_scheduler_has_placed_their_pods() {
    let (model, policy) = wide(&[20; 8]);
    let plan = planned(&model, &policy, SECONDS(1));
    let mut drains: Vec<u64> = (1..=8)
        .map(|node| took(&plan, &format!("general-{node}"), Phase::Drain).as_secs())
        .collect();
    drains.sort_unstable();
    // Alone: a second for the cordon, five for the retry, 30 + 1 + 30 + 5 + 10 for the pods.
    assert_eq!(drains, [82, 82, 82, 82, 100, 120, 140, 160]);
    let best = plan.bounds.as_ref().unwrap();
    assert_eq!(best.best().unwrap().kind, BoundKind::Scheduler);
    assert_eq!(best.gap_permille, 0, "{best:?}");
    assert!(
        PlanTable::new(&plan)
            .to_string()
            .contains("pods that the scheduler places")
    );
    // What the estimate has of it is in the schedule.
    let terms = plan.estimate.terms.iter();
    let mut terms = terms.filter(|term| term.kind == TermKind::Scheduler);
    assert_eq!(terms.next().map(|term| term.duration), Some(SECONDS(160)));
}

/// The control: where it is faster than drains are, nothing is another than without it.
#[test]
fn what_the_scheduler_places_in_time_changes_nothing() {
    let (model, policy) = wide(&[10; 8]);
    let plan = planned(&model, &policy, PhaseDurations::default().schedule);
    assert_eq!(scheduler_bound(&plan), None);
    for node in 1..=8 {
        // The hold in whole milliseconds, rounded up.
        let drain = took(&plan, &format!("general-{node}"), Phase::Drain);
        assert_eq!(drain, Duration::from_millis(81_007));
    }
    let none = planned(&model, &policy, Duration::ZERO);
    assert_eq!(scheduler_bound(&none), None);
    let has_term = none
        .estimate
        .terms
        .iter()
        .any(|term| term.kind == TermKind::Scheduler);
    assert!(!has_term, "{:?}", none.estimate);
}

/// A run goes by its rules alone: it begins whether or not the scheduler is busy.
#[test]
fn what_waits_for_the_scheduler_may_be_late_for_its_window() {
    let (mut model, mut policy) = wide(&[10; 8]);
    model.control_plane[0].version = version(NEW);
    let minutes = |minutes: u32| format!(r#"[{{"from": "08:00", "to": "08:{minutes:02}"}}]"#);
    policy.rollout.windows = serde_json::from_str(&minutes(10)).unwrap();
    let late = |policy: &Policy| {
        let planner = Planner::new(&model, policy, version(NEW)).with_durations(taking(SECONDS(6)));
        let plan = planner.plan().unwrap();
        let found = lint(&plan, &model, policy);
        let of_window = found.iter().filter(|f| f.code == "KM-LINT-010");
        of_window.map(|f| f.severity).collect::<Vec<_>>()
    };
    // Alone a node needs 87 and 300 seconds, the last drain 480.
    let found = late(&policy);
    assert!(
        !found.is_empty() && found.iter().all(|s| *s == Severity::Warning),
        "{found:?}"
    );
    policy.rollout.windows = serde_json::from_str(&minutes(20)).unwrap();
    assert_eq!(late(&policy), []);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// From the begin of any drain on, no more pods have been placed than time allows, and
    /// what is begun follows from what drains took, as in a run.
    #[test]
    fn no_drain_ends_before_its_pods_may_have_been_placed(
        pods in prop::collection::vec(0..20usize, 1..12),
        width in 1..12u32,
        millis in prop::sample::select(vec![6u64, 500, 5000, 60_000]),
        canary in any::<bool>(),
    ) {
        let (model, mut policy) = wide(&pods);
        policy.pools.canary = canary;
        policy.pools.max_unavailable = width.to_string().parse().unwrap();
        let per_pod = Duration::from_millis(millis);
        let planner = Planner::new(&model, &policy, version(NEW)).with_durations(taking(per_pod));
        let trace = planner.trace().unwrap();
        let plan = linted(trace.plan.clone(), &model, &policy);
        let drains = drains(&plan, &model);
        for (at, (_, end, pods)) in drains.iter().enumerate() {
            for from in (0..=at).filter(|_| *pods > 0) {
                let placed: u32 = drains[from..=at].iter().map(|(.., pods)| pods).sum();
                prop_assert!(drains[from].0 + per_pod * placed <= *end, "{:?}", drains);
            }
        }
        holds_together(&trace, &model, &policy)?;
    }
}
