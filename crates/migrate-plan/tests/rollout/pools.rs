//! What policy asks of a pool besides its width: ramp, zones, reserve.

use std::time::Duration;

use migrate_core::policy::ZonePolicy;
use migrate_core::{ClusterModel, IntOrPercent, OnDeadline, Policy, ZONE_LABEL};
use migrate_plan::WaitingOn;

use crate::run::{Run, policy};
use crate::support::Cluster;

const PHASES: [&str; 3] = ["drain", "upgrade", "verify"];

fn general(nodes: usize) -> ClusterModel {
    Cluster::new().member("m1").pool("general", nodes).build()
}

/// A run whose member is through, and what began after that.
fn begun(model: &ClusterModel, policy: &Policy) -> (Run, Vec<String>) {
    let mut run = Run::started(model, policy);
    run.ok("upgrade m1");
    let begun = run.ok("verify m1");
    (run, begun)
}

fn drains(nodes: &[u32]) -> Vec<String> {
    let drain = |node| format!("drain general-{node}");
    nodes.iter().map(drain).collect()
}

#[test]
fn each_stage_is_verified_before_the_next_opens() {
    let model = general(9);
    let mut policy = policy("5", true, OnDeadline::Stop);
    policy.pools.ramp = vec![2, 4];
    let (mut run, first) = begun(&model, &policy);
    assert_eq!(first, drains(&[1]));
    assert_eq!(run.through(&PHASES, "general-1"), drains(&[2, 3]));
    let ramp = |left| WaitingOn::Ramp {
        pool: "general".into(),
        left,
    };
    assert_eq!(run.waiting_on("general-4"), ramp(2));
    assert_eq!(run.through(&PHASES, "general-3"), [""; 0]);
    assert_eq!(run.waiting_on("general-4"), ramp(1));
    assert_eq!(run.through(&PHASES, "general-2"), drains(&[4, 5, 6, 7]));
    for node in ["general-4", "general-5", "general-6"] {
        assert_eq!(run.through(&PHASES, node), [""; 0]);
    }
    assert_eq!(run.through(&PHASES, "general-7"), drains(&[8, 9]));
}

#[test]
fn a_stage_is_no_wider_than_its_pool_and_one_that_fails_leaves_its_place() {
    let model = general(6);
    let mut policy = policy("2", false, OnDeadline::Skip);
    policy.pools.ramp = vec![3];
    let (mut run, first) = begun(&model, &policy);
    assert_eq!(first, drains(&[1, 2]));
    // It was left out, is not well yet, and the stage needs another.
    assert_eq!(run.fail("drain general-1", false), [""; 0]);
    assert_eq!(run.node("general-1", true, false), drains(&[3]));
    assert_eq!(run.through(&PHASES, "general-2"), drains(&[4]));
    assert_eq!(run.through(&PHASES, "general-3"), [""; 0]);
    assert_eq!(run.through(&PHASES, "general-4"), drains(&[5, 6]));
}

#[test]
fn one_zone_of_a_pool_is_in_work_at_a_time() {
    let model = Cluster::new()
        .member("m1")
        .pool("general", 5)
        .change(|model| {
            for (node, zone) in model.nodes.iter_mut().zip(["a", "b", "a", "", "b"]) {
                if !zone.is_empty() {
                    node.labels.insert(ZONE_LABEL.into(), zone.into());
                }
            }
        });
    let model = model.build();
    let mut policy = policy("3", false, OnDeadline::Stop);
    let (_, all) = begun(&model, &policy);
    assert_eq!(all, drains(&[1, 2, 3]));
    policy.pools.zones = ZonePolicy::OneAtATime;
    let (mut run, first) = begun(&model, &policy);
    assert_eq!(first, drains(&[1, 3]));
    let zone = |zone: &str| WaitingOn::Zone {
        pool: "general".into(),
        zone: zone.into(),
    };
    assert_eq!(run.waiting_on("general-2"), zone("a"));
    assert_eq!(run.through(&PHASES, "general-3"), [""; 0]);
    assert_eq!(run.through(&PHASES, "general-1"), drains(&[2, 5]));
    assert_eq!(run.waiting_on("general-4"), zone("b"));
    run.through(&PHASES, "general-2");
    assert_eq!(run.through(&PHASES, "general-5"), drains(&[4]));
}

#[test]
fn a_drain_begins_when_the_pods_before_it_have_had_their_time() {
    let nodes = ["general-1", "general-1", "general-2", "batch-1"];
    let cluster = Cluster::new()
        .member("m1")
        .pool("general", 3)
        .pool("batch", 2);
    let model = cluster.deployment("web", &nodes).budget("web", 4).build();
    let mut policy = policy("3", false, OnDeadline::Stop);
    policy.rollout.displaced_per_minute = 4;
    let (mut run, first) = begun(&model, &policy);
    assert_eq!(first, ["drain batch-1"]);
    let start = run.now;
    let until = start + Duration::from_secs(15);
    assert_eq!(run.waiting_on("general-1"), WaitingOn::Pace { until });
    assert_eq!(run.rollout.wake_at(), Some(until));
    run.now = until;
    // The other pool has its turn, with two pods.
    assert_eq!(run.poll(), ["drain general-1"]);
    run.now = until + Duration::from_millis(29_999);
    assert_eq!(run.poll(), [""; 0]);
    run.now = until + Duration::from_secs(30);
    // What displaces nothing keeps nobody waiting.
    assert_eq!(run.poll(), ["drain batch-2", "drain general-2"]);
    run.now = until + Duration::from_secs(45);
    assert_eq!(run.poll(), ["drain general-3"]);
}

#[test]
fn failures_use_the_reserve_up_before_they_narrow_the_run() {
    let model = general(8);
    let mut policy = policy("4", false, OnDeadline::Stop);
    policy.pools.failure_reserve = IntOrPercent::Int(2);
    let (mut run, first) = begun(&model, &policy);
    assert_eq!(first, drains(&[1, 2]));
    let reserve = WaitingOn::Reserve {
        pool: "general".into(),
        reserve: 2,
    };
    assert_eq!(run.waiting_on("general-3"), reserve);
    // Two that fail are what it was kept for.
    run.node("general-8", false, false);
    run.node("general-7", false, false);
    assert_eq!(run.through(&PHASES, "general-1"), drains(&[3]));
    // A third one is not.
    run.node("general-6", false, false);
    assert_eq!(run.through(&PHASES, "general-2"), [""; 0]);
    assert_eq!(run.node("general-6", true, false), drains(&[4]));
    assert_eq!(run.node("general-7", true, false), [""; 0]);
    // A node that somebody has cordoned takes nothing away.
    assert_eq!(run.node("general-5", true, true), drains(&[5]));
}
