//! How each action of a run ended, as its journal tells it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::case::{Case, step_until};
use common::secs;
use common::world::UPGRADE;
use migrate_core::{Cancellation, Phase};
use migrate_executor::{Executor, RecordedRun, RunOutcome};
use migrate_plan::{End, EndedAction, History};

fn ended(case: &Case) -> Vec<EndedAction> {
    let run = RecordedRun::all(case.journal.entries()).pop().unwrap();
    run.ended().unwrap()
}

/// The ends of `phase` of the node of that name.
fn of(ended: &[EndedAction], name: &str, phase: Phase) -> Vec<(End, Duration)> {
    let is_it = |it: &&EndedAction| {
        let is_node = format!("{:?}", it.target).starts_with("Node");
        is_node && it.target.name() == name && it.phase == phase
    };
    let found = ended.iter().filter(is_it);
    found.map(|it| (it.end, it.took)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_or_took_a_retry_is_told_and_goes_on_being_told() {
    let mut case = Case::new();
    case.policy.deadlines.upgrade = secs(120);
    {
        let faults = &mut case.world.lock().faults;
        faults.stuck.insert("blue-2".to_owned());
        faults.fails.insert("blue-1".to_owned(), (1, true));
    }
    let report = case.run().await;
    let stopped = matches!(report.outcome, RunOutcome::Stopped { .. });
    assert!(stopped, "{report}");
    let before = ended(&case);
    let [(End::CutOff, took)] = of(&before, "blue-2", Phase::Upgrade)[..] else {
        panic!("{before:?}");
    };
    assert!(took >= secs(120) && took < secs(150), "{took:?}");
    let [(End::Took, took)] = of(&before, "blue-1", Phase::Upgrade)[..] else {
        panic!("{before:?}");
    };
    assert!(took > 2 * UPGRADE, "with what failed: {took:?}");

    // A day later.
    tokio::time::advance(secs(24 * 60 * 60)).await;
    case.world.lock().faults.stuck.clear();
    {
        let mut world = case.world.lock();
        let upgrade = world.nodes.get_mut("blue-2").unwrap().upgrade.as_mut();
        upgrade.unwrap().done_at = tokio::time::Instant::now();
    }
    case.assert_arrives().await;
    let after = ended(&case);
    assert!(after.len() > before.len());
    assert_eq!(after[..before.len()], before);
    let [_, (End::Took, took)] = of(&after, "blue-2", Phase::Upgrade)[..] else {
        panic!("{after:?}");
    };
    assert!(took < secs(120), "not since the day before: {took:?}");

    // Only that is new in a history of both.
    let run = RecordedRun::all(case.journal.entries()).pop().unwrap();
    let expected = &run.opened.plan;
    let known = History::of_actions(expected, before);
    let all = History::of_actions(expected, after.clone());
    let new = all.clone().beyond(&known);
    assert_eq!(new.lines.len(), after.len() - known.lines.len());
    assert_eq!(new.lines, all.lines[known.lines.len()..]);
    assert_eq!(all.clone().beyond(&all).lines, []);
}

#[tokio::test(start_paused = true)]
async fn what_failed_for_good_is_stuck_and_what_its_node_did_not_outlive_is_left_out() {
    let case = Case::new();
    let fails = ("red-1".to_owned(), (u32::MAX, false));
    case.world.lock().faults.fails.extend([fails]);
    let report = case.run().await;
    assert_ne!(report.outcome, RunOutcome::Done, "{report}");
    let told = ended(&case);
    let [(End::Stuck, _)] = of(&told, "red-1", Phase::Upgrade)[..] else {
        panic!("{told:?}");
    };
    assert!(matches!(
        of(&told, "red-1", Phase::Drain)[..],
        [(End::Took, _)]
    ));

    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let drains = || {
        case.effects()
            .iter()
            .any(|it| it.starts_with("cordon red-2"))
    };
    step_until(&mut executor, drains).await;
    case.world.delete("red-2");
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let told = ended(&case);
    assert_eq!(of(&told, "red-2", Phase::Drain), [], "{told:?}");
    assert_eq!(of(&told, "red-3", Phase::Drain).len(), 1, "{told:?}");
}
