//! What follows when something fails, or nothing moves.

use std::time::Duration;

use migrate_core::{OnDeadline, Policy};
use migrate_plan::{Input, StopReason, WaitingOn};

use crate::run::{Run, cluster, policy};

#[test]
fn failures_are_retried_with_the_same_action_and_then_policy_decides() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", false, OnDeadline::Skip));
    assert_eq!(run.members_done(), ["drain general-1"]);
    run.ok("drain general-1");
    let begin = run.now;
    assert!(run.fail("upgrade general-1", true).is_empty());
    let retry = WaitingOn::Retry {
        at: begin + Duration::from_secs(10),
        attempt: 2,
    };
    assert_eq!(run.waiting_on("general-1"), retry);
    assert_eq!(run.wait(), ["upgrade general-1"]);
    assert!(run.fail("upgrade general-1", true).is_empty());
    assert_eq!(run.wait(), ["upgrade general-1"]);
    assert_eq!(run.now, begin + Duration::from_secs(30));
    // Given up, and away until it is seen well.
    assert!(run.fail("upgrade general-1", true).is_empty());
    assert_eq!(run.rollout.progress().skipped, 1);
    let away = WaitingOn::NodeAway {
        pool: "general".into(),
        nodes: vec!["general-1".into()],
    };
    assert_eq!(run.waiting_on("general-2"), away);
    assert!(run.node("general-1", true, true).is_empty());
    assert_eq!(run.node("general-1", true, false), ["drain general-2"]);
}

#[test]
fn a_stopped_rollout_goes_on_where_it_stands() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    assert_eq!(
        run.fail("drain general-1", false),
        ["stop: node general-1 failed in drain: it broke"]
    );
    // What runs may end; nothing begins.
    assert!(run.ok("drain general-2").is_empty());
    assert_eq!(run.waiting_on("general-2"), WaitingOn::Stopped);
    assert!(matches!(
        run.rollout.stopped(),
        Some(StopReason::Failed { .. })
    ));
    assert!(run.rollout.wake_at().is_none());
    assert_eq!(
        run.tell(Input::Started),
        ["drain general-1", "upgrade general-2"]
    );
    assert_eq!(run.tell(Input::Cancelled), ["stop: cancelled"]);
    assert!(run.tell(Input::Cancelled).is_empty(), "once");
    assert!(run.ok("drain general-1").is_empty());
    assert_eq!(run.tell(Input::Started), ["upgrade general-1"]);
}

#[test]
fn a_member_that_fails_stops_whatever_policy_says() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", true, OnDeadline::Skip));
    assert_eq!(
        run.fail("upgrade m1", false),
        ["stop: control plane m1 failed in upgrade: it broke"]
    );
    assert_eq!(run.tell(Input::Started), ["upgrade m1"]);
}

#[test]
fn a_canary_that_fails_after_its_drain_stops_and_before_it_hands_on() {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("2", true, OnDeadline::Skip));
    assert_eq!(run.members_done(), ["drain general-1"]);
    // Width 2: the one left behind takes a slot, the next canary the other.
    assert_eq!(run.fail("drain general-1", false), ["drain general-2"]);
    assert!(matches!(
        run.waiting_on("general-3"),
        WaitingOn::Canary { .. }
    ));
    run.ok("drain general-2");
    let stop = run.fail("upgrade general-2", false);
    assert_eq!(
        stop,
        ["stop: node general-2, the canary of its pool, failed in upgrade: it broke"]
    );
}

#[test]
fn a_standstill_ends_as_policy_says() {
    let blocked = || {
        cluster()
            .deployment("db", &["general-1", "general-2"])
            .budget("db", 0)
            .build()
    };
    let patience = Policy::default().deadlines.drain;
    // Stop: said once, with how many wait.
    let model = blocked();
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    assert_eq!(run.members_done(), ["drain general-3", "drain general-4"]);
    assert_eq!(run.rollout.wake_at(), None, "something is running");
    run.through(&["drain", "upgrade", "verify"], "general-3");
    run.through(&["drain", "upgrade", "verify"], "general-4");
    assert_eq!(run.rollout.wake_at(), Some(run.now + patience));
    assert_eq!(run.wait(), ["stop: nothing can begin and 2 targets wait"]);
    // Skip: they are given up and the rollout ends.
    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Skip));
    run.members_done();
    run.through(&["drain", "upgrade", "verify"], "general-3");
    run.through(&["drain", "upgrade", "verify"], "general-4");
    // A pause is not a standstill.
    run.tell(Input::Paused { paused: true });
    assert_eq!(run.rollout.wake_at(), None);
    run.tell(Input::Paused { paused: false });
    assert_eq!(run.wait(), ["finished"]);
    assert_eq!(run.rollout.progress().skipped, 2);
}
