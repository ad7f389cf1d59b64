//! Nodes that go away, come back, or are replaced.

use migrate_core::{OnDeadline, Outcome};
use migrate_plan::{ActionResult, Input, WaitingOn};

use crate::run::{Run, cluster, policy};
use crate::support::{NEW, OLD, version};

#[test]
fn nodes_away_count_and_come_back() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", false, OnDeadline::Stop));
    run.node("general-4", false, false);
    // One is not Ready: only one more may go.
    assert_eq!(run.members_done(), ["drain general-1"]);
    assert_eq!(run.waiting_on("general-4"), WaitingOn::NotReady);
    assert_eq!(run.node("general-4", true, false), ["drain general-2"]);
    // A cordon by somebody else counts too, but its node needs no further slot.
    run.node("general-3", true, true);
    run.through(&["drain", "upgrade"], "general-1");
    assert_eq!(run.ok("verify general-1"), ["drain general-3"]);
}

#[test]
fn a_replaced_machine_is_verified_under_its_new_name() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    run.members_done();
    run.ok("drain general-1");
    run.tell(Input::NodeGone {
        node: "general-1".into(),
    });
    let nodes = vec!["fresh-1".to_owned(), "fresh-2".to_owned()];
    let replaced = ActionResult::Succeeded(Outcome::ReplacedBy { nodes });
    assert_eq!(run.end("upgrade general-1", replaced), ["verify fresh-1"]);
    assert_eq!(run.ok("verify fresh-1"), ["verify fresh-2"]);
    assert_eq!(run.ok("verify fresh-2"), ["drain general-2"]);
    // A fresh node counts against its pool like any other.
    run.node("fresh-2", false, false);
    assert!(
        run.through(&["drain", "upgrade", "verify"], "general-2")
            .is_empty()
    );
    assert_eq!(run.node("fresh-2", true, false), ["drain general-3"]);
}

#[test]
fn nodes_that_leave_or_arrive_by_themselves_need_nothing() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    // The canary is upgraded by hand: the next one takes its place.
    run.tell(Input::NodeSeen {
        node: "general-1".into(),
        ready: true,
        unschedulable: false,
        kubelet_version: version(NEW),
        uid: None,
    });
    assert_eq!(run.members_done(), ["drain general-2"]);
    run.tell(Input::NodeGone {
        node: "general-3".into(),
    });
    assert_eq!(run.rollout.progress().skipped, 1);
    run.tell(Input::NodeGone {
        node: "somebody-else".into(),
    });
    assert_eq!(
        run.through(&["drain", "upgrade", "verify"], "general-2"),
        ["drain general-4"]
    );
    // It comes back before the end.
    assert!(run.node("general-3", true, false).is_empty());
    assert_eq!(
        run.through(&["drain", "upgrade", "verify"], "general-4"),
        ["drain general-3"]
    );
}

/// Where its pool goes is what counts, short of the version of the cluster or not.
#[test]
fn a_node_that_is_where_its_pool_goes_needs_nothing_and_one_short_of_it_does() {
    let own = "v1.36.5";
    let model = cluster().build();
    let mut policy = policy("1", false, OnDeadline::Stop);
    let targets = &mut policy.pools.target_of;
    targets.insert("general".to_owned(), version(own));
    let mut run = Run::started(&model, &policy);
    for (node, at) in [("general-1", own), ("general-2", "v1.36.4")] {
        run.tell(Input::NodeSeen {
            node: node.into(),
            ready: true,
            unschedulable: false,
            kubelet_version: version(at),
            uid: None,
        });
    }
    assert_eq!(run.members_done(), ["drain general-2"]);
}

#[test]
fn nodes_that_come_back_are_not_spared_the_canary() {
    let model = cluster().pool("other", 1).build();
    let mut policy = policy("2", true, OnDeadline::Skip);
    policy.rollout.max_failed_nodes = 2;
    let mut run = Run::started(&model, &policy);
    run.members_done();
    for node in ["general-2", "general-3", "general-4"] {
        run.tell(Input::NodeGone { node: node.into() });
    }
    assert!(
        run.node("general-2", true, false).is_empty(),
        "behind the canary"
    );
    assert_eq!(run.fail("drain general-1", false), ["drain general-2"]);
    assert!(
        run.node("general-3", true, false).is_empty(),
        "behind the next one"
    );
    // Nobody is left to go first; whoever comes back goes alone.
    for node in ["general-3", "general-4"] {
        run.tell(Input::NodeGone { node: node.into() });
    }
    run.node("general-1", true, false);
    run.fail("drain general-2", false);
    run.node("general-2", true, false);
    assert_eq!(run.node("general-3", true, false), ["drain general-3"]);
    assert!(
        run.node("general-4", true, false).is_empty(),
        "behind the canary"
    );
}

/// What is told of `general-1`, which the model knows by another uid.
fn anew(unschedulable: bool) -> Input {
    Input::NodeSeen {
        node: "general-1".into(),
        ready: true,
        unschedulable,
        kubelet_version: version(OLD),
        uid: Some("another machine".into()),
    }
}

fn gone() -> Input {
    Input::NodeGone {
        node: "general-1".into(),
    }
}

#[test]
fn a_node_that_is_lost_during_its_drain_is_drained_anew() {
    let model = cluster().build();
    let skipped = || ActionResult::Skipped {
        reason: "its node is gone".into(),
    };
    // Deleted, and back later: the canary is another one meanwhile.
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    run.members_done();
    assert!(run.tell(gone()).is_empty(), "its drain runs");
    assert_eq!(
        run.end("drain general-1", skipped()),
        ["drain general-2"],
        "and is no failure"
    );
    assert_eq!(run.rollout.progress().skipped, 1);
    assert!(run.tell(anew(false)).is_empty());
    assert_eq!(run.rollout.progress().skipped, 0);
    let through = run.through(&["drain", "upgrade", "verify"], "general-2");
    assert_eq!(through, ["drain general-1"]);
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);

    // Made anew before anybody looked: whatever the drain says, it was not of
    // this machine.
    for result in [ActionResult::Succeeded(Outcome::SameNode), skipped()] {
        let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
        run.members_done();
        assert!(run.tell(anew(false)).is_empty());
        assert_eq!(run.end("drain general-1", result), ["drain general-1"]);
        assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    }
}

#[test]
fn a_node_that_is_lost_between_drain_and_upgrade_is_drained_anew() {
    let model = cluster().build();
    for back_at_once in [true, false] {
        let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
        run.members_done();
        run.tell(Input::Paused { paused: true });
        assert!(run.ok("drain general-1").is_empty());
        let lost = if back_at_once { anew(true) } else { gone() };
        assert!(run.tell(lost).is_empty());
        let goes_on = run.tell(Input::Paused { paused: false });
        let next = if back_at_once { "1" } else { "2" };
        assert_eq!(goes_on, [format!("drain general-{next}")]);
    }
    // Once its upgrade runs, that is the driver's to find out.
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    run.members_done();
    run.ok("drain general-1");
    run.tell(anew(true));
    assert_eq!(run.ok("upgrade general-1"), ["verify general-1"]);
    assert_eq!(run.fail("verify general-1", false).len(), 1, "it stops");
}
