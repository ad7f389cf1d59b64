//! What holds nodes back although they could begin.

use migrate_core::{ClusterModel, OnDeadline};
use migrate_plan::{Input, WaitingOn};

use crate::run::{Run, policy};
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
    };
    assert_eq!(run.tell(seen), ["drain control-plane-2"]);
    assert!(run.through(&PHASES, "general-1").is_empty());
    let waits = WaitingOn::ControlPlaneNode {
        node: "control-plane-2".into(),
    };
    assert_eq!(run.waiting_on("general-2"), waits);
    assert_eq!(run.through(&PHASES, "control-plane-2"), ["drain general-2"]);
}
