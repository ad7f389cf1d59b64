//! Pods that fetch their images over links which they share, in the prediction alone.

use std::time::Duration;

use migrate_core::cost::{BoundKind, Bytes, BytesPerSecond, Link, TermKind};
use migrate_core::{Phase, Plan};
use migrate_plan::{Measured, Planner, TargetKind, plan_to_json};
use proptest::prelude::*;

use crate::scheduler::{self, wide};
use crate::support::{NEW, linted, version};
use crate::{holds_together, took};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
/// Lengths are in a plan where there are windows.
const WINDOWS: &str = r#"[{"from": "08:00", "to": "20:00"}]"#;

/// Each displaced pod takes `bytes` over it, at ten a second.
fn link(bytes: u64) -> Link {
    Link::new("registry", BytesPerSecond(10)).with_per_pod(Bytes(bytes))
}

fn bandwidth(plan: &Plan) -> Option<Duration> {
    let mut limits = plan.bounds.iter().flat_map(|bounds| &bounds.limits);
    let bound = limits.find(|limit| matches!(limit.kind, BoundKind::Bandwidth { .. }));
    bound.map(|bound| bound.time)
}

fn drains(plan: &Plan, nodes: usize) -> Vec<u64> {
    let drain = |node| took(plan, &format!("general-{node}"), Phase::Drain);
    let mut drains: Vec<u64> = (1..=nodes).map(|node| drain(node).as_secs()).collect();
    drains.sort_unstable();
    drains
}

#[test]
fn drains_at_once_end_when_the_link_has_carried_what_their_pods_fetch() {
    let (model, policy) = wide(&[20; 4]);
    let planner = Planner::new(&model, &policy, version(NEW)).with_link(link(30));
    let plan = linted(planner.plan().unwrap(), &model, &policy);
    // 81 s alone, a minute for the images of a node.
    assert_eq!(drains(&plan, 4), [81, 120, 180, 240]);
    // All that, an upgrade and two looks, behind the member and the one of the cluster.
    let before = plan.schedule.iter().filter(|it| it.phase == Phase::Drain);
    let before = before.map(|it| it.start).min().unwrap();
    let law = before + SECONDS(240 + 240 + 60);
    assert_eq!((bandwidth(&plan), plan.makespan()), (Some(law), law));
    assert_eq!(plan.bounds.as_ref().unwrap().gap_permille, 0);
    let mut terms = plan.estimate.terms.iter();
    let term = terms.find(|term| term.kind == TermKind::Bandwidth);
    assert_eq!(term.map(|term| term.duration), Some(SECONDS(240)));
    // The scheduler has nothing to do with it.
    let limits = &plan.bounds.as_ref().unwrap().limits;
    assert!(!limits.iter().any(|it| it.kind == BoundKind::Scheduler));
}

/// What a node's own pods fetch is a part of how long it takes; that of others is not.
#[test]
fn images_that_take_longer_than_a_drain_are_a_part_of_its_length() {
    let (model, mut policy) = wide(&[20, 20]);
    policy.rollout.windows = serde_json::from_str(WINDOWS).unwrap();
    let length = |bytes| {
        let planner = Planner::new(&model, &policy, version(NEW)).with_link(link(bytes));
        let plan = planner.plan().unwrap();
        let lengths = plan.slots.iter().map(|slot| slot.length.as_secs());
        lengths.max().unwrap()
    };
    assert_eq!(length(30), length(0));
    assert_eq!(length(100), length(0) - 81 + 200);
}

/// What was measured of drains has their transfers in it, and none is shorter than its own.
#[test]
fn a_measured_drain_is_no_shorter_than_what_its_pods_fetch() {
    let (model, mut policy) = wide(&[20, 20]);
    policy.rollout.windows = serde_json::from_str(WINDOWS).unwrap();
    let length = |mean: u64| {
        let kind = TargetKind::Nodes {
            pool: "general".into(),
        };
        let measured = Measured::default().with_phase(kind, Phase::Drain, 1, SECONDS(mean));
        let planner = Planner::new(&model, &policy, version(NEW)).with_measured(&measured);
        let plan = planner.with_link(link(30)).plan().unwrap();
        plan.slots[0].length.as_secs()
    };
    // A minute for the pods of each node.
    assert_eq!(length(10), length(60));
    assert_eq!(length(100), length(60) + 40);
}

/// The control: pods that take nothing change no plan, and no JSON of one.
#[test]
fn a_link_over_which_no_pod_fetches_changes_nothing() {
    let (model, policy) = wide(&[20; 4]);
    let planner = Planner::new(&model, &policy, version(NEW));
    let without = planner.plan().unwrap();
    let idle = planner.with_link(link(0)).plan().unwrap();
    assert_eq!(
        plan_to_json(&without).unwrap(),
        plan_to_json(&idle).unwrap()
    );
}

/// What nodes fetch over the same link waits for the pods, and they for it.
#[test]
fn nodes_and_pods_share_a_link() {
    let (model, policy) = wide(&[20, 20]);
    let planner = Planner::new(&model, &policy, version(NEW));
    let both = link(100).with_per_node(Bytes(1000));
    let plan = linted(planner.with_link(both).plan().unwrap(), &model, &policy);
    // 200 s for the pods of each. The first node asks behind those of the second, which asks
    // behind the first: 300 and 200 s, and 240 of the upgrade.
    assert_eq!(drains(&plan, 2), [200, 400]);
    let upgrade = |node: &str| took(&plan, node, Phase::Upgrade).as_secs();
    let mut upgrades = [upgrade("general-1"), upgrade("general-2")];
    upgrades.sort_unstable();
    assert_eq!(upgrades, [440, 540]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// From the begin of any drain on, no more has come than the throughput allows; what is
    /// begun follows from what actions took, as in a run; and no bound is above the plan.
    #[test]
    fn no_drain_ends_before_its_pods_may_have_their_images(
        pods in prop::collection::vec(0..20usize, 1..12),
        width in 1..12u32,
        bytes in prop::sample::select(vec![1u64, 70, 900]),
        of_node in prop::sample::select(vec![0u64, 700]),
        latency in prop::sample::select(vec![0u64, 30, 70_000]),
        canary in any::<bool>(),
    ) {
        let (model, mut policy) = wide(&pods);
        policy.pools.canary = canary;
        policy.pools.max_unavailable = width.to_string().parse().unwrap();
        let link = link(bytes).with_latency(Duration::from_millis(latency));
        let link = link.with_per_node(Bytes(of_node));
        let planner = Planner::new(&model, &policy, version(NEW)).with_link(link.clone());
        let trace = planner.trace().unwrap();
        let plan = linted(trace.plan.clone(), &model, &policy);
        let drains = scheduler::drains(&plan, &model);
        for (at, (_, end, pods)) in drains.iter().enumerate() {
            for from in (0..=at).filter(|_| *pods > 0) {
                let come: u32 = drains[from..=at].iter().map(|(.., pods)| pods).sum();
                let least = drains[from].0 + link.time(0, come.into()).unwrap() + link.latency;
                // Less than the millisecond that a transfer may have begun before.
                prop_assert!(least < *end + Duration::from_millis(1), "{:?}", drains);
            }
        }
        let bound = bandwidth(&plan);
        prop_assert!(bound <= Some(plan.makespan()), "{:?} {:?}", bound, plan.makespan());
        holds_together(&trace, &model, &policy)?;
    }
}
