//! Nodes that are deleted, or made anew, after their upgrade was decided.

use migrate_core::{OnDeadline, Phase};
use migrate_plan::{ActionResult, Input, NODE_GONE, Standing, TargetState};

use crate::run::{Run, cluster, policy};
use crate::support::{NEW, OLD, version};

/// Another machine under the name of `general-1`.
fn anew(machine: &str, at: &str) -> Input {
    Input::NodeSeen {
        node: "general-1".into(),
        ready: true,
        unschedulable: false,
        kubelet_version: version(at),
        uid: Some(machine.into()),
    }
}

fn gone() -> Input {
    Input::NodeGone {
        node: "general-1".into(),
    }
}

/// A run whose `general-1` is drained and being upgraded.
fn upgrading() -> Run {
    let model = cluster().build();
    let mut run = Run::started(&model, &policy("1", true, OnDeadline::Stop));
    run.members_done();
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    run
}

fn standing(run: &Run) -> TargetState {
    let standings = run.rollout.standings().into_iter();
    let mut of = standings.filter(|standing: &Standing| standing.target.name() == "general-1");
    of.next().unwrap().state
}

fn whole_way(run: &mut Run) {
    assert_eq!(run.ok("drain general-1"), ["upgrade general-1"]);
    assert_eq!(run.ok("upgrade general-1"), ["verify general-1"]);
    assert_eq!(run.ok("verify general-1"), ["drain general-2"]);
}

#[test]
fn a_node_made_anew_before_its_upgrade_begins_goes_the_whole_way() {
    let mut run = upgrading();
    let id = run.id("upgrade general-1");
    assert!(!run.rollout.is_undrained(&id));
    assert_eq!(run.rollout.uid("general-1"), Some("uid-general-1"));
    // Decided, and not begun: the last look shows it.
    assert!(run.tell(anew("second", OLD)).is_empty());
    assert!(run.rollout.is_undrained(&id));
    assert_eq!(run.rollout.uid("general-1"), Some("second"));
    let answer = run.end("upgrade general-1", ActionResult::NotDrained);
    assert_eq!(answer, ["drain general-1"]);
    whole_way(&mut run);
}

#[test]
fn a_node_deleted_before_its_upgrade_begins_is_left_out_until_it_comes_back() {
    let mut run = upgrading();
    run.tell(gone());
    let answer = run.end("upgrade general-1", ActionResult::NotDrained);
    assert_eq!(answer, ["drain general-2"]);
    let reason = NODE_GONE.to_owned();
    assert_eq!(standing(&run), TargetState::Skipped { reason });
    assert!(run.tell(anew("second", OLD)).is_empty());
    let answer = run.through(&["drain", "upgrade", "verify"], "general-2");
    assert_eq!(answer, ["drain general-1"]);
}

#[test]
fn a_node_lost_while_its_upgrade_waits_for_a_retry_is_known_at_once() {
    let mut run = upgrading();
    assert!(run.fail("upgrade general-1", true).is_empty());
    assert_eq!(run.tell(anew("second", OLD)), ["drain general-1"]);
    whole_way(&mut run);
    // What came is there already.
    let mut run = upgrading();
    run.fail("upgrade general-1", true);
    assert_eq!(run.tell(anew("second", NEW)), ["drain general-2"]);
    assert_eq!(standing(&run), TargetState::Done);
    // Deleted: the others go on, and it is no failure.
    let mut run = upgrading();
    run.fail("upgrade general-1", true);
    assert_eq!(run.tell(gone()), ["drain general-2"]);
    let reason = NODE_GONE.to_owned();
    assert_eq!(standing(&run), TargetState::Skipped { reason });
    // Nor does the retry that was due stir anything.
    run.now = run.now + std::time::Duration::from_secs(60);
    assert!(run.poll().is_empty());
    // The control: the same machine is tried again.
    let mut run = upgrading();
    run.fail("upgrade general-1", true);
    assert!(run.tell(anew("uid-general-1", OLD)).is_empty());
    assert_eq!(run.wait(), ["upgrade general-1"]);
}

#[test]
fn what_fails_since_another_machine_is_there_is_no_failure() {
    for retryable in [true, false] {
        let mut run = upgrading();
        run.tell(anew("second", OLD));
        let answer = run.fail("upgrade general-1", retryable);
        assert_eq!(answer, ["drain general-1"]);
        whole_way(&mut run);
    }
    let mut run = upgrading();
    run.ok("upgrade general-1");
    run.tell(anew("second", OLD));
    assert_eq!(run.fail("verify general-1", false), ["drain general-1"]);
    whole_way(&mut run);
}

#[test]
fn a_canary_that_is_lost_while_it_soaks_is_none_any_more() {
    let model = cluster().build();
    let mut policy = policy("1", true, OnDeadline::Stop);
    policy.rollout.canary_soak = std::time::Duration::from_secs(600);
    let soaking = || {
        let mut run = Run::started(&model, &policy);
        run.members_done();
        let phases = ["drain", "upgrade", "verify"];
        assert!(run.through(&phases, "general-1").is_empty());
        run
    };
    let mut run = soaking();
    assert_eq!(run.tell(anew("second", OLD)), ["drain general-1"]);
    let mut run = soaking();
    assert_eq!(run.tell(gone()), ["drain general-2"], "which soaks too");
    let phases = ["drain", "upgrade", "verify"];
    assert!(run.through(&phases, "general-2").is_empty());
}

#[test]
fn what_had_stopped_a_run_and_is_another_machine_has_no_place_any_more() {
    let mut run = upgrading();
    let stop = run.fail("upgrade general-1", false);
    assert!(stop[0].starts_with("stop"), "{stop:?}");
    // Whoever looks at the stop still sees what had failed.
    assert!(run.tell(anew("second", OLD)).is_empty());
    let phase = Phase::Upgrade;
    assert_eq!(standing(&run), TargetState::Failed { phase });
    // From the start on it waits like others, in a pause too.
    assert!(run.tell(Input::Paused { paused: true }).is_empty());
    assert!(run.tell(Input::Started).is_empty());
    assert_eq!(standing(&run), TargetState::Waiting);
    let answer = run.tell(Input::Paused { paused: false });
    assert_eq!(answer, ["drain general-1"]);
    whole_way(&mut run);
}

#[test]
fn an_upgrade_that_makes_its_node_anew_and_fails_does_not_go_on_for_ever() {
    let mut run = upgrading();
    for machine in 0..5 {
        run.tell(anew(&format!("machine {machine}"), OLD));
        assert_eq!(run.fail("upgrade general-1", false), ["drain general-1"]);
        run.ok("drain general-1");
    }
    run.tell(anew("the last", OLD));
    let stop = run.fail("upgrade general-1", false);
    assert!(stop[0].contains("made anew 5 times"), "{stop:?}");
}

#[test]
fn an_aborted_run_leaves_a_machine_that_nobody_has_touched_as_it_is() {
    let mut run = upgrading();
    run.fail("upgrade general-1", true);
    assert!(run.tell(Input::Aborted).is_empty(), "it was changed");
    let answer = run.tell(anew("second", OLD));
    assert_eq!(answer, ["stop: the run was aborted"]);
}
