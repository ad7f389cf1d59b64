//! Addons and the second backup: what is done between members and nodes.

use migrate_core::{OnDeadline, Policy};
use migrate_plan::{Input, Planner, Rollout, WaitingOn};

use crate::run::{Run, cluster, policy};
use crate::support::{Cluster, NEW, addons, version};

/// CSI is listed before CNI at another point, and one at each further point.
fn with_tasks(then: OnDeadline) -> Policy {
    let mut policy = policy("1", false, then);
    policy.backup.after_control_plane = true;
    policy.addons = addons();
    policy
}

const ADDON: [&str; 2] = ["upgrade", "verify"];
const NODE: [&str; 3] = ["drain", "upgrade", "verify"];

/// Up to the end of the second backup.
fn backed_up(run: &mut Run) -> Vec<String> {
    run.through(&ADDON, "first");
    assert_eq!(run.members_done(), ["drain control-plane-1"]);
    assert_eq!(run.through(&NODE, "control-plane-1"), ["backup second"]);
    run.ok("backup second")
}

fn model() -> migrate_core::ClusterModel {
    let cluster = Cluster::new().member("m1");
    cluster.pool("control-plane", 1).pool("general", 2).build()
}

#[test]
fn each_goes_alone_at_its_point_in_the_order_of_the_policy() {
    let mut run = Run::new(&model(), &with_tasks(OnDeadline::Stop));
    assert_eq!(run.tell(Input::Started), ["upgrade first"]);
    let first = WaitingOn::Before {
        target: run.plan.tasks[0].target.clone(),
    };
    assert_eq!(run.waiting_on("m1"), first);
    assert_eq!(run.ok("upgrade first"), ["verify first"]);
    assert_eq!(run.ok("verify first"), ["upgrade m1"]);
    let mut run = Run::started(&model(), &with_tasks(OnDeadline::Stop));
    assert_eq!(backed_up(&mut run), ["upgrade cni"]);
    assert_eq!(run.through(&ADDON, "cni"), ["upgrade csi"]);
    assert_eq!(
        run.waiting_on("general-1").to_string(),
        "addon csi comes first"
    );
    assert_eq!(run.through(&ADDON, "csi"), ["upgrade agents"]);
    assert_eq!(run.through(&ADDON, "agents"), ["drain general-1"]);
    run.through(&NODE, "general-1");
    assert_eq!(run.through(&NODE, "general-2"), ["upgrade last"]);
    assert_eq!(run.through(&ADDON, "last"), ["finished"]);
}

#[test]
fn one_that_fails_stops_whatever_policy_says_and_is_tried_again() {
    for then in [OnDeadline::Stop, OnDeadline::Skip] {
        let mut run = Run::started(&model(), &with_tasks(then));
        backed_up(&mut run);
        assert_eq!(run.ok("upgrade cni"), ["verify cni"]);
        let stop = "stop: addon cni failed in verify: it broke";
        assert_eq!(run.fail("verify cni", false), [stop]);
        // Its upgrade is done, and not begun again.
        assert_eq!(run.tell(Input::Started), ["verify cni"]);
        assert_eq!(run.ok("verify cni"), ["upgrade csi"]);
    }
}

#[test]
fn a_second_backup_that_fails_stops_before_anything_else() {
    let mut run = Run::started(&model(), &with_tasks(OnDeadline::Skip));
    run.through(&ADDON, "first");
    run.members_done();
    run.through(&NODE, "control-plane-1");
    let stop = "stop: the second backup failed: it broke";
    assert_eq!(run.fail("backup second", false), [stop]);
    assert_eq!(run.tell(Input::Started), ["backup second"]);
}

#[test]
fn after_all_means_all() {
    let mut run = Run::started(&model(), &with_tasks(OnDeadline::Skip));
    backed_up(&mut run);
    for addon in ["cni", "csi", "agents"] {
        run.through(&ADDON, addon);
    }
    run.fail("drain general-1", false);
    run.node("general-1", true, false);
    assert_eq!(run.through(&NODE, "general-2"), ["finished"]);
    assert_eq!(run.rollout.progress().skipped, 2, "general-1 and last");
}

#[test]
fn a_control_plane_node_that_comes_back_waits_for_the_addon_under_way() {
    let mut run = Run::started(&model(), &with_tasks(OnDeadline::Stop));
    run.tell(Input::NodeGone {
        node: "control-plane-1".into(),
    });
    run.through(&ADDON, "first");
    assert_eq!(run.members_done(), ["backup second"]);
    assert_eq!(run.node("control-plane-1", true, false), [""; 0]);
    assert_eq!(run.ok("backup second"), ["drain control-plane-1"]);
    assert_eq!(run.through(&NODE, "control-plane-1"), ["upgrade cni"]);
}

#[test]
fn an_abort_leaves_out_what_has_not_begun_and_ends_what_has() {
    let mut run = Run::started(&model(), &with_tasks(OnDeadline::Stop));
    backed_up(&mut run);
    assert_eq!(run.tell(Input::Aborted), [""; 0]);
    assert_eq!(run.ok("upgrade cni"), ["verify cni"]);
    let aborted = "stop: the run was aborted";
    assert_eq!(run.ok("verify cni"), [aborted]);
    // A backup that is under way changes nothing: it ends, or is left.
    let mut run = Run::started(&model(), &with_tasks(OnDeadline::Stop));
    run.through(&ADDON, "first");
    run.members_done();
    run.through(&NODE, "control-plane-1");
    run.tell(Input::Aborted);
    assert_eq!(run.fail("backup second", true), [aborted]);
}

#[test]
fn points_without_their_targets_are_left_out() {
    let names = |model: &migrate_core::ClusterModel| -> Vec<String> {
        let policy = with_tasks(OnDeadline::Stop);
        let plan = Planner::new(model, &policy, version(NEW)).plan().unwrap();
        let tasks = plan.tasks.iter();
        tasks.map(|task| task.target.name().to_owned()).collect()
    };
    let mut done = cluster().build();
    for member in &mut done.control_plane {
        member.version = version(NEW);
    }
    assert_eq!(names(&done), ["cni", "csi", "agents", "last"]);
    let no_workers = Cluster::new().member("m1").build();
    assert_eq!(
        names(&no_workers),
        ["first", "second", "cni", "csi", "last"]
    );
    for node in &mut done.nodes {
        node.kubelet_version = version(NEW);
    }
    assert_eq!(names(&done), [""; 0]);
}

#[test]
fn a_plan_with_a_task_out_of_order_is_refused() {
    let (model, policy) = (model(), with_tasks(OnDeadline::Stop));
    let mut plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    plan.tasks.reverse();
    let error = Rollout::new(&plan, &model, &policy).unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
}
