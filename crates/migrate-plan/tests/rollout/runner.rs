//! The node that the runner's own pod is on.

use migrate_core::{OnDeadline, Target};
use migrate_plan::{Input, WaitingOn};

use crate::run::{Run, cluster, policy};

fn runner(node: &str) -> Input {
    let node = (!node.is_empty()).then(|| node.to_owned());
    Input::RunnerSeen { node }
}

const ALL: [&str; 3] = ["drain", "upgrade", "verify"];

#[test]
fn it_waits_for_all_others_of_every_pool_and_nothing_begins_beside_it() {
    let model = cluster().pool("other", 2).build();
    let mut run = Run::new(&model, &policy("4", false, OnDeadline::Skip));
    run.tell(runner("general-2"));
    run.tell(Input::Started);
    let begun = ["general-1", "general-3", "general-4", "other-1", "other-2"];
    assert_eq!(
        run.members_done(),
        begun.map(|node| format!("drain {node}"))
    );
    let left = |left| WaitingOn::HostsRunner { left };
    assert_eq!(run.waiting_on("general-2"), left(5));
    let said = run.waiting_on("general-2").to_string();
    assert!(said.contains("5 others come first"), "{said}");
    for node in ["general-1", "general-3", "other-1"] {
        assert!(run.through(&ALL, node).is_empty());
    }
    // Given up is as good as done, gone too.
    assert!(run.fail("drain general-4", false).is_empty());
    assert_eq!(run.waiting_on("general-2"), left(1));
    let gone = Input::NodeGone {
        node: "other-2".into(),
    };
    assert!(run.tell(gone).is_empty(), "its drain runs");
    assert_eq!(run.ok("drain other-2"), ["drain general-2"]);
    // What comes back waits until it is through.
    assert!(run.node("other-2", true, false).is_empty());
    let target = Target::Node {
        pool: "general".into(),
        node: "general-2".into(),
    };
    assert_eq!(run.waiting_on("other-2"), WaitingOn::Before { target });
    assert_eq!(run.through(&ALL, "general-2"), ["drain other-2"]);
}

#[test]
fn a_runner_that_has_moved_frees_its_node_and_holds_the_other() {
    let model = cluster().build();
    let mut run = Run::new(&model, &policy("2", false, OnDeadline::Stop));
    run.tell(runner("general-1"));
    run.tell(Input::Started);
    assert_eq!(run.members_done(), ["drain general-2", "drain general-3"]);
    run.through(&ALL, "general-2");
    // To one that is done: nothing is waited for any more.
    assert_eq!(run.tell(runner("general-2")), [""; 0], "the pool is full");
    assert_eq!(run.through(&ALL, "general-3"), ["drain general-1"]);
    // To one that has not begun.
    let mut run = Run::new(&model, &policy("1", false, OnDeadline::Stop));
    run.tell(runner("general-1"));
    run.tell(Input::Started);
    assert_eq!(run.members_done(), ["drain general-2"]);
    run.tell(runner("general-3"));
    assert_eq!(run.through(&ALL, "general-2"), ["drain general-1"]);
    assert_eq!(run.through(&ALL, "general-1"), ["drain general-4"]);
    assert_eq!(run.through(&ALL, "general-4"), ["drain general-3"]);
    // Out of the cluster.
    let mut run = Run::new(&model, &policy("1", false, OnDeadline::Stop));
    run.tell(runner("general-1"));
    run.tell(Input::Started);
    assert_eq!(run.members_done(), ["drain general-2"]);
    run.tell(runner(""));
    assert_eq!(run.through(&ALL, "general-2"), ["drain general-1"]);
}

#[test]
fn a_canary_that_comes_to_host_it_hands_its_role_on() {
    let model = cluster().build();
    for started_before in [false, true] {
        let mut run = Run::new(&model, &policy("4", true, OnDeadline::Stop));
        run.node("general-1", false, false);
        if started_before {
            run.tell(Input::Started);
            assert!(run.members_done().is_empty(), "the canary is not Ready");
            assert_eq!(run.tell(runner("general-1")), ["drain general-2"]);
        } else {
            run.tell(runner("general-1"));
            run.tell(Input::Started);
            assert_eq!(run.members_done(), ["drain general-2"]);
        }
        run.node("general-1", true, false);
        let others = ["drain general-3", "drain general-4"];
        assert_eq!(run.through(&ALL, "general-2"), others);
        run.through(&ALL, "general-3");
        assert_eq!(
            run.waiting_on("general-1"),
            WaitingOn::HostsRunner { left: 1 }
        );
        assert_eq!(run.through(&ALL, "general-4"), ["drain general-1"]);
        assert_eq!(run.through(&ALL, "general-1"), ["finished"]);
    }
}
