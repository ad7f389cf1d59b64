//! Room: what nodes that are away together may take.

use migrate_core::model::Resources;
use migrate_core::{ClusterModel, OnDeadline};
use migrate_plan::{Input, WaitingOn};

use crate::run::{Run, policy};
use crate::support::Cluster;

/// Six workers of four CPUs each, of which 15.6 are asked for: two may be away.
fn tight() -> ClusterModel {
    let mut cluster = Cluster::new().member("m1").pool("general", 6);
    for node in 1..=6 {
        cluster = cluster.deployment(&format!("web-{node}"), &[&format!("general-{node}")]);
    }
    let cluster = cluster.change(|model| {
        for node in &mut model.nodes {
            node.allocatable = Resources::new(4_000, 1 << 34, 110);
        }
        for pod in &mut model.pods {
            pod.requests = Resources::new(2_600, 1 << 28, 1);
        }
    });
    cluster.build()
}

fn lacks() -> WaitingOn {
    WaitingOn::Room {
        resource: "cpu".into(),
    }
}

#[test]
fn no_more_begin_than_there_is_room_for_and_the_next_when_one_is_back() {
    let model = tight();
    let mut run = Run::started(&model, &policy("5", false, OnDeadline::Skip));
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    assert_eq!(run.waiting_on("general-3"), lacks());
    for name in ["general-1", "general-2"] {
        run.ok(&format!("drain {name}"));
        run.ok(&format!("upgrade {name}"));
    }
    assert_eq!(run.ok("verify general-2"), ["drain general-3"]);
    assert_eq!(run.waiting_on("general-4"), lacks());
}

#[test]
fn a_node_that_failed_takes_room_until_it_is_seen_well() {
    let model = tight();
    let mut run = Run::started(&model, &policy("5", false, OnDeadline::Skip));
    run.members_done();
    run.ok("drain general-1");
    run.ok("drain general-2");
    assert!(run.fail("upgrade general-1", false).is_empty());
    assert_eq!(run.waiting_on("general-3"), lacks());
    run.node("general-1", true, true);
    assert_eq!(run.node("general-1", true, false), ["drain general-3"]);
}

#[test]
fn nodes_that_others_cordon_take_room_and_need_no_more_of_it() {
    let model = tight();
    let mut run = Run::started(&model, &policy("5", false, OnDeadline::Skip));
    for name in ["general-4", "general-5", "general-6"] {
        assert!(run.node(name, true, true).is_empty());
    }
    // While these are in work, none of the others begins.
    let begun = run.members_done();
    let others = begun.iter().filter(|it| {
        let mut free = ["general-1", "general-2", "general-3"].iter();
        free.any(|node| it.ends_with(node))
    });
    assert_eq!(begun.len(), 3, "{begun:?}");
    assert_eq!(others.count(), 0, "{begun:?}");
    assert_eq!(run.waiting_on("general-1"), lacks());
}

/// Nothing else would ever: its pods wait.
#[test]
fn one_begins_whatever_is_away_if_none_is_in_work() {
    let model = tight();
    let mut run = Run::started(&model, &policy("5", false, OnDeadline::Skip));
    for name in ["general-4", "general-5"] {
        assert!(run.node(name, false, false).is_empty());
    }
    assert_eq!(run.members_done(), ["drain general-1"]);
    assert_eq!(run.waiting_on("general-2"), lacks());
    assert_eq!(run.node("general-4", true, false), [""; 0]);
    assert_eq!(run.node("general-5", true, false), ["drain general-2"]);
}

/// What they offered was counted on.
#[test]
fn nodes_that_are_deleted_take_room_and_what_comes_in_their_place_has_it() {
    let model = tight();
    let mut run = Run::started(&model, &policy("5", false, OnDeadline::Skip));
    for name in ["general-4", "general-5"] {
        assert!(run.node(name, false, false).is_empty());
    }
    assert_eq!(run.members_done(), ["drain general-1"]);
    for name in ["general-4", "general-5"] {
        let node = name.to_owned();
        assert_eq!(run.tell(Input::NodeGone { node }), [""; 0]);
    }
    assert_eq!(run.waiting_on("general-2"), lacks());
    assert_eq!(run.node("general-4", true, false), [""; 0]);
    assert_eq!(run.node("general-5", true, false), ["drain general-2"]);
}
