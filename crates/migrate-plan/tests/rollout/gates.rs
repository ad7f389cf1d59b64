//! What holds nodes back although they could begin.

use std::time::Duration;

use migrate_core::{ClusterModel, OnDeadline, Policy};
use migrate_plan::{Input, StopReason, WaitingOn};

use crate::run::{Run, cluster, policy};
use crate::support::{Cluster, OLD, version};

const PHASES: [&str; 3] = ["drain", "upgrade", "verify"];

/// One member that is a node, a second control-plane node, and two workers.
fn with_control_plane_nodes() -> ClusterModel {
    let cluster = Cluster::new().member("m1");
    cluster.pool("control-plane", 2).pool("general", 3).build()
}

#[test]
fn workers_wait_for_every_control_plane_node() {
    let model = with_control_plane_nodes();
    let mut run = Run::started(&model, &policy("1", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain control-plane-1"]);
    let waits_for = |node: &str| WaitingOn::ControlPlaneNode { node: node.into() };
    assert_eq!(run.waiting_on("general-1"), waits_for("control-plane-1"));
    run.through(&["drain", "upgrade"], "control-plane-1");
    assert_eq!(run.ok("verify control-plane-1"), ["drain control-plane-2"]);
    assert_eq!(run.waiting_on("general-1"), waits_for("control-plane-2"));
    run.through(&["drain", "upgrade"], "control-plane-2");
    assert_eq!(run.ok("verify control-plane-2"), ["drain general-1"]);
    // Left out, all pools go side by side.
    let mut policy = policy("1", false, OnDeadline::Stop);
    policy.rollout.control_plane_nodes_first = false;
    let mut run = Run::started(&model, &policy);
    let begun = ["drain control-plane-1", "drain general-1"];
    assert_eq!(run.members_done(), begun);
}

#[test]
fn a_control_plane_node_that_fails_stops_whatever_policy_says() {
    let model = with_control_plane_nodes();
    let mut skip = policy("1", false, OnDeadline::Skip);
    for phase in ["drain", "upgrade"] {
        let mut run = Run::started(&model, &skip);
        run.members_done();
        if phase == "upgrade" {
            run.ok("drain control-plane-1");
        }
        let action = format!("{phase} control-plane-1");
        let stop = format!("stop: node control-plane-1 failed in {phase}: it broke");
        assert_eq!(run.fail(&action, false), [stop]);
        assert_eq!(run.tell(Input::Started), [action]);
    }
    // One that cannot begin is not passed over either.
    let mut run = Run::started(&model, &skip);
    run.node("control-plane-1", false, false);
    run.members_done();
    run.now = run.now + skip.deadlines.drain;
    assert_eq!(run.poll(), ["stop: nothing can begin and 5 targets wait"]);
    skip.rollout.control_plane_nodes_first = false;
    let mut run = Run::started(&model, &skip);
    run.members_done();
    run.fail("drain control-plane-1", false);
    assert_eq!(run.rollout.progress().skipped, 1);
}

#[test]
fn a_control_plane_node_that_comes_back_holds_further_workers() {
    let model = with_control_plane_nodes();
    let mut run = Run::started(&model, &policy("1", false, OnDeadline::Stop));
    for node in ["control-plane-1", "control-plane-2"] {
        run.tell(Input::NodeGone { node: node.into() });
    }
    // Nobody is left to be waited for.
    assert_eq!(run.members_done(), ["drain general-1"]);
    let seen = Input::NodeSeen {
        node: "control-plane-2".into(),
        ready: true,
        unschedulable: false,
        kubelet_version: version(OLD),
        uid: None,
    };
    assert_eq!(run.tell(seen), ["drain control-plane-2"]);
    assert!(run.through(&PHASES, "general-1").is_empty());
    let waits = WaitingOn::ControlPlaneNode {
        node: "control-plane-2".into(),
    };
    assert_eq!(run.waiting_on("general-2"), waits);
    assert_eq!(run.through(&PHASES, "control-plane-2"), ["drain general-2"]);
}

const SOAK: Duration = Duration::from_secs(600);

fn with_soak(width: &str) -> Policy {
    let mut policy = policy(width, true, OnDeadline::Skip);
    policy.rollout.canary_soak = SOAK;
    policy
}

#[test]
fn a_canary_soaks_and_is_verified_once_more_before_any_other_worker() {
    let model = cluster().pool("other", 2).build();
    let mut run = Run::started(&model, &with_soak("2"));
    assert_eq!(run.members_done(), ["drain general-1", "drain other-1"]);
    assert!(run.through(&PHASES, "general-1").is_empty());
    let soak = |run: &Run, node: &str| WaitingOn::Soak {
        pool: node.split_once('-').unwrap().0.into(),
        node: node.into(),
        until: run.now + SOAK,
    };
    let (first, begun) = (soak(&run, "general-1"), run.now);
    assert_eq!(run.waiting_on("general-1"), first);
    assert_eq!(run.waiting_on("general-2"), first);
    // The other canary goes on, and nobody else begins.
    run.now = run.now + SOAK / 2;
    assert!(run.through(&PHASES, "other-1").is_empty());
    assert_eq!(run.waiting_on("other-2"), soak(&run, "other-1"));
    assert_eq!(run.wait(), ["confirm general-1"]);
    assert_eq!(run.now, begun + SOAK);
    // It is in use and takes no slot, but its pool waits for both.
    assert!(run.ok("confirm general-1").is_empty());
    assert!(matches!(
        run.waiting_on("general-2"),
        WaitingOn::Soak { node, .. } if node == "other-1"
    ));
    assert_eq!(run.wait(), ["confirm other-1"]);
    assert_eq!(
        run.ok("confirm other-1"),
        ["drain general-2", "drain general-3", "drain other-2"]
    );
}

#[test]
fn a_canary_that_gets_worse_stops_whatever_policy_says() {
    let model = cluster().build();
    let mut run = Run::started(&model, &with_soak("2"));
    run.members_done();
    run.through(&PHASES, "general-1");
    run.wait();
    run.fail("confirm general-1", false);
    assert!(matches!(
        run.rollout.stopped(),
        Some(StopReason::CanaryFailed { .. })
    ));
    // Gone on with, it has to be well first.
    assert_eq!(run.tell(Input::Started), ["confirm general-1"]);
    assert_eq!(
        run.ok("confirm general-1"),
        ["drain general-2", "drain general-3"]
    );
    // Without a soak time nobody would have looked.
    let mut run = Run::started(&model, &policy("2", true, OnDeadline::Skip));
    run.members_done();
    assert_eq!(
        run.through(&PHASES, "general-1"),
        ["drain general-2", "drain general-3"]
    );
}

#[test]
fn one_node_more_than_may_fail_stops() {
    let model = cluster().build();
    let mut policy = policy("2", false, OnDeadline::Skip);
    let mut run = Run::started(&model, &policy);
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    // One that leaves has not failed.
    run.tell(Input::NodeGone {
        node: "general-4".into(),
    });
    run.fail("drain general-1", false);
    assert_eq!(run.rollout.progress().skipped, 2);
    let stop = "stop: node general-2 failed in drain: it broke; no more than 1 nodes may fail \
                (rollout.max-failed-nodes)";
    assert_eq!(run.fail("drain general-2", false), [stop]);
    // It is tried again; those given up before stay so.
    let again = run.tell(Input::Started);
    assert!(again.contains(&"drain general-2".to_owned()), "{again:?}");
    run.ok("drain general-2");
    assert_eq!(run.rollout.progress().skipped, 2);
    policy.rollout.max_failed_nodes = 0;
    let mut run = Run::started(&model, &policy);
    run.members_done();
    assert_eq!(run.fail("drain general-1", false).len(), 1);
    assert!(run.rollout.stopped().is_some());
}
