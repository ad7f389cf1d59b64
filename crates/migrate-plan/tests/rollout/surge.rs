//! Nodes behind replacements: what they wait for, and what becomes of their places.

use migrate_core::{ClusterModel, OnDeadline, Outcome, Phase, Policy};
use migrate_plan::{ActionResult, Input, TargetState, WaitingOn};

use crate::run::{Run, policy};
use crate::support::Cluster;

const PHASES: [&str; 4] = ["provision", "drain", "upgrade", "verify"];

fn general(nodes: usize) -> ClusterModel {
    Cluster::new().member("m1").pool("general", nodes).build()
}

/// `unavailable` may be away, and `surge` behind replacements.
fn surging(unavailable: &str, surge: &str, then: OnDeadline) -> Policy {
    let mut policy = policy(unavailable, false, then);
    policy.pools.max_surge = surge.parse().unwrap();
    policy
}

fn begun(model: &ClusterModel, policy: &Policy) -> (Run, Vec<String>) {
    let mut run = Run::started(model, policy);
    run.ok("upgrade m1");
    let begun = run.ok("verify m1");
    (run, begun)
}

#[test]
fn both_kinds_of_places_are_taken_in_order() {
    let (mut run, first) = begun(&general(5), &surging("1", "2", OnDeadline::Stop));
    assert_eq!(
        first,
        [
            "provision general-1",
            "provision general-2",
            "drain general-3"
        ]
    );
    let full = WaitingOn::PoolSlot {
        pool: "general".into(),
        width: 3,
    };
    assert_eq!(run.waiting_on("general-4"), full);
    assert_eq!(run.ok("provision general-1"), ["drain general-1"]);
    // Whichever place is free is taken.
    let alone = &PHASES[1..];
    assert_eq!(run.through(alone, "general-3"), ["drain general-4"]);
    assert_eq!(run.through(alone, "general-1"), ["provision general-5"]);
}

#[test]
fn a_place_is_free_when_the_replacement_is_verified() {
    let (mut run, first) = begun(&general(3), &surging("0", "1", OnDeadline::Stop));
    assert_eq!(first, ["provision general-1"]);
    assert_eq!(run.ok("provision general-1"), ["drain general-1"]);
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    let nodes = vec!["new-1".to_owned()];
    let replaced = ActionResult::Succeeded(Outcome::ReplacedBy { nodes });
    assert_eq!(run.end("upgrade general-1", replaced), ["verify new-1"]);
    assert_eq!(run.ok("verify new-1"), ["provision general-2"]);
    assert_eq!(run.through(&PHASES, "general-2"), ["provision general-3"]);
    assert_eq!(run.through(&PHASES, "general-3"), ["finished"]);
}

#[test]
fn nodes_that_are_away_take_nothing_of_a_surge() {
    let (mut run, first) = begun(&general(4), &surging("0", "1", OnDeadline::Stop));
    assert_eq!(first, ["provision general-1"]);
    // Also the node that has its replacement, whatever becomes of it.
    run.ok("provision general-1");
    run.node("general-4", false, false);
    run.node("general-1", true, true);
    run.ok("drain general-1");
    run.ok("upgrade general-1");
    assert_eq!(run.ok("verify general-1"), ["provision general-2"]);
}

#[test]
fn a_drain_waits_for_its_budget_with_its_replacement() {
    let model = Cluster::new()
        .member("m1")
        .pool("general", 3)
        .deployment("web", &["general-1", "general-2"])
        .budget("web", 1)
        .build();
    let (mut run, first) = begun(&model, &surging("0", "2", OnDeadline::Stop));
    assert_eq!(first, ["provision general-1", "provision general-2"]);
    assert_eq!(run.ok("provision general-2"), ["drain general-2"]);
    assert_eq!(run.ok("provision general-1"), [""; 0]);
    assert!(matches!(
        run.waiting_on("general-1"),
        WaitingOn::Budget { .. }
    ));
    let standings = run.rollout.standings();
    let standing = standings.iter().find(|it| it.target.name() == "general-1");
    let state = TargetState::InWork {
        phase: Phase::Drain,
    };
    assert_eq!(standing.unwrap().state, state);
    assert_eq!(run.rollout.progress().waiting, 1);
    assert_eq!(
        run.ok("drain general-2"),
        ["upgrade general-2", "drain general-1"]
    );
}

/// Nobody knows whether its machine is on the way.
#[test]
fn one_that_is_given_up_keeps_its_place() {
    let (mut run, first) = begun(&general(4), &surging("0", "2", OnDeadline::Skip));
    assert_eq!(first, ["provision general-1", "provision general-2"]);
    assert_eq!(run.fail("provision general-1", false), [""; 0]);
    assert_eq!(run.through(&PHASES, "general-2"), ["provision general-3"]);
    // One is left, and `general-4` waits for it.
    assert_eq!(run.through(&PHASES, "general-3"), ["provision general-4"]);
}

#[test]
fn a_machine_that_does_not_come_changes_nothing() {
    let mut policy = surging("0", "1", OnDeadline::Skip);
    policy.pools.canary = true;
    policy.rollout.max_failed_nodes = 3;
    let (mut run, first) = begun(&general(3), &policy);
    assert_eq!(first, ["provision general-1"]);
    // Three attempts, and no canary that has failed; but the only place is gone.
    assert_eq!(run.fail("provision general-1", false), [""; 0]);
    assert!(run.rollout.stopped().is_none());
    assert!(matches!(
        run.waiting_on("general-2"),
        WaitingOn::PoolSlot { .. }
    ));
}

#[test]
fn a_node_that_is_gone_leaves_its_place() {
    let (mut run, first) = begun(&general(3), &surging("0", "1", OnDeadline::Stop));
    assert_eq!(first, ["provision general-1"]);
    let node = "general-1".to_owned();
    assert_eq!(run.tell(Input::NodeGone { node }), [""; 0]);
    assert_eq!(run.ok("provision general-1"), ["provision general-2"]);
}
