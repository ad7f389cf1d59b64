//! Ending for good, from wherever the rollout stands.

use std::time::Duration;

use migrate_core::{OnDeadline, Phase};
use migrate_plan::{ActionResult, Input, StopReason, TargetState};

use crate::run::{Run, cluster, policy};

const STOP: &str = "stop: the run was aborted";
const PHASES: [&str; 3] = ["drain", "upgrade", "verify"];

impl Run {
    fn abort(&mut self) -> Vec<String> {
        self.tell(Input::Aborted)
    }

    fn pause(&mut self, paused: bool) -> Vec<String> {
        self.tell(Input::Paused { paused })
    }

    fn state(&self, name: &str) -> TargetState {
        let standings = self.rollout.standings().into_iter();
        let mut of_name = standings.filter(|standing| standing.target.name() == name);
        of_name.next().unwrap().state
    }
}

/// Two workers begun at once, their members done.
fn with_two_drains(then: OnDeadline) -> Run {
    let mut run = Run::started(&cluster().build(), &policy("2", false, then));
    assert_eq!(run.members_done(), ["drain general-1", "drain general-2"]);
    run
}

fn left_out() -> TargetState {
    let reason = StopReason::Aborted.to_string();
    TargetState::Skipped { reason }
}

#[test]
fn one_that_has_not_begun_or_has_finished_stops_at_once_and_for_good() {
    let model = cluster().build();
    let mut run = Run::new(&model, &policy("2", true, OnDeadline::Stop));
    assert_eq!(run.abort(), [STOP]);
    assert_eq!(run.rollout.progress().skipped, 6);
    assert_eq!(run.rollout.stopped(), Some(StopReason::Aborted));
    assert!(run.tell(Input::Started).is_empty());
    assert!(run.abort().is_empty(), "once");
    assert_eq!(run.rollout.stopped(), Some(StopReason::Aborted));

    let mut run = Run::started(&model, &policy("4", false, OnDeadline::Stop));
    run.members_done();
    for node in ["general-1", "general-2", "general-3", "general-4"] {
        run.through(&PHASES, node);
    }
    assert!(run.rollout.is_finished());
    assert_eq!(run.abort(), [STOP]);
    assert_eq!(run.rollout.progress().done, 6);
}

#[test]
fn the_member_under_way_is_brought_to_its_end_and_no_other_begins() {
    let mut run = Run::started(&cluster().build(), &policy("2", true, OnDeadline::Stop));
    assert!(run.abort().is_empty());
    assert_eq!(run.ok("upgrade m1"), ["verify m1"]);
    assert_eq!(run.ok("verify m1"), [STOP]);
    assert_eq!(run.state("m1"), TargetState::Done);
    assert_eq!(run.state("m2"), left_out());
    assert_eq!(run.state("general-1"), left_out());
}

#[test]
fn an_upgrade_goes_on_with_its_retries_and_a_drain_ends_and_is_left() {
    let mut run = with_two_drains(OnDeadline::Skip);
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert!(run.abort().is_empty());
    assert_eq!(run.state("general-3"), left_out());
    assert!(run.ok("drain general-2").is_empty());
    assert_eq!(run.state("general-2"), left_out());
    assert!(run.fail("upgrade general-1", true).is_empty());
    assert_eq!(run.wait(), ["upgrade general-1"]);
    assert_eq!(run.ok("upgrade general-1"), ["verify general-1"]);
    assert_eq!(run.ok("verify general-1"), [STOP]);
    assert_eq!(run.state("general-1"), TargetState::Done);
}

#[test]
fn a_drain_that_fails_or_is_put_off_is_not_tried_again() {
    let away = vec!["general-3".to_owned()];
    for result in [
        ActionResult::Deferred { away },
        ActionResult::Failed {
            retryable: true,
            reason: "it broke".into(),
        },
        ActionResult::Skipped {
            reason: StopReason::Aborted.to_string(),
        },
    ] {
        let mut run = with_two_drains(OnDeadline::Stop);
        run.abort();
        assert!(run.ok("drain general-1").is_empty());
        assert_eq!(run.end("drain general-2", result), [STOP]);
        assert_eq!(run.state("general-2"), left_out());
    }
    // Nor is one that waited for its next attempt.
    let mut run = with_two_drains(OnDeadline::Stop);
    run.fail("drain general-1", true);
    run.abort();
    assert_eq!(run.state("general-1"), left_out());
    assert_eq!(run.ok("drain general-2"), [STOP]);
}

#[test]
fn a_pause_holds_what_is_left_and_not_what_is_left_out() {
    let mut run = with_two_drains(OnDeadline::Stop);
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert!(run.pause(true).is_empty());
    assert!(run.ok("drain general-2").is_empty());
    run.fail("upgrade general-1", true);
    assert!(run.wait().is_empty());
    assert!(run.abort().is_empty());
    assert_eq!(run.state("general-2"), left_out());
    assert_eq!(run.pause(false), ["upgrade general-1"]);
    // Where nothing is left, nothing is waited for.
    let mut run = with_two_drains(OnDeadline::Stop);
    run.pause(true);
    run.ok("drain general-1");
    run.fail("drain general-2", true);
    run.wait();
    assert_eq!(run.abort(), [STOP]);
}

#[test]
fn what_had_failed_stays_so_and_one_more_failure_stops_nothing() {
    let mut run = with_two_drains(OnDeadline::Stop);
    run.ok("drain general-1");
    assert_eq!(run.ok("drain general-2"), ["upgrade general-2"]);
    run.fail("upgrade general-1", false);
    assert!(run.rollout.stopped().is_some());
    // It had stopped before this could begin.
    assert!(run.ok("upgrade general-2").is_empty());
    assert_eq!(run.abort(), ["verify general-2"]);
    assert_eq!(run.fail("verify general-2", false), [STOP]);
    let failed = |phase| TargetState::Failed { phase };
    assert_eq!(run.state("general-1"), failed(Phase::Upgrade));
    assert_eq!(run.state("general-2"), failed(Phase::Verify));

    // Policy that skips would not say so either: half a node is not left out.
    let mut run = with_two_drains(OnDeadline::Skip);
    run.ok("drain general-1");
    run.abort();
    assert!(run.fail("upgrade general-1", false).is_empty());
    assert_eq!(run.ok("drain general-2"), [STOP]);
    assert_eq!(run.state("general-1"), failed(Phase::Upgrade));
}

#[test]
fn an_upgrade_that_was_to_be_tried_once_more_is() {
    let mut run = with_two_drains(OnDeadline::Stop);
    run.ok("drain general-1");
    run.fail("upgrade general-1", false);
    run.fail("drain general-2", false);
    run.pause(true);
    assert!(run.tell(Input::Started).is_empty());
    assert!(run.abort().is_empty());
    assert_eq!(run.state("general-2"), left_out());
    assert_eq!(run.pause(false), ["upgrade general-1"]);
}

#[test]
fn no_canary_is_waited_for() {
    let mut policy = policy("2", true, OnDeadline::Stop);
    policy.rollout.canary_soak = Duration::from_secs(600);
    let model = cluster().build();
    for phases in [&PHASES[..], &PHASES[..2]] {
        let mut run = Run::started(&model, &policy);
        run.members_done();
        run.through(phases, "general-1");
        let mut told = run.abort();
        if phases.len() == 2 {
            told.extend(run.ok("verify general-1"));
        }
        assert_eq!(told, [STOP]);
        assert_eq!(run.state("general-1"), TargetState::Done);
        assert_eq!(run.rollout.progress().skipped, 3);
    }
    // One that is being confirmed has that verification before it.
    let mut run = Run::started(&model, &policy);
    run.members_done();
    run.through(&PHASES, "general-1");
    assert_eq!(run.wait(), ["confirm general-1"]);
    assert!(run.abort().is_empty());
    assert_eq!(run.fail("confirm general-1", false), [STOP]);
    let phase = Phase::Confirm;
    assert_eq!(run.state("general-1"), TargetState::Failed { phase });
    // One whose node goes meanwhile is not in flight any more.
    let mut run = Run::started(&model, &policy);
    run.members_done();
    run.through(&PHASES, "general-1");
    run.wait();
    let node = "general-1".to_owned();
    run.tell(Input::NodeGone { node });
    assert!(run.abort().is_empty());
    assert_eq!(run.fail("confirm general-1", false), [STOP]);
}

#[test]
fn a_node_that_comes_back_is_not_begun() {
    let mut run = with_two_drains(OnDeadline::Stop);
    let node = "general-3".to_owned();
    run.tell(Input::NodeGone { node });
    run.abort();
    assert!(run.node("general-3", true, false).is_empty());
    run.ok("drain general-1");
    assert_eq!(run.ok("drain general-2"), [STOP]);
    assert_ne!(run.state("general-3"), TargetState::Waiting);
}
