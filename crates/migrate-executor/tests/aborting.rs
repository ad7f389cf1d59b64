//! A run is ended for good, at every point of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, position, step_until};
use common::journal::{Crashing, Moment};
use common::law::{assert_replay_law, intents};
use common::steps::Access;
use migrate_core::{Cancellation, OnDeadline, Phase};
use migrate_executor::{
    Entry, Error, Executor, Pace, Position, Record, Report, RunEnd, RunOutcome, StopCause,
    adoptable_model,
};

/// Whether `phase` of `node` was announced.
fn announced(case: &Case, phase: Phase, node: &str) -> bool {
    let is_it = |entry: &Entry| match &entry.record {
        Record::Intent { action } => action.phase == phase && action.target.name() == node,
        _ => false,
    };
    case.journal.entries().iter().any(is_it)
}

/// A run that has come to `phase` of `node`.
async fn at(case: &Case, phase: Phase, node: &str) -> Executor {
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || announced(case, phase, node)).await;
    executor
}

async fn end(mut executor: Executor) -> Report {
    executor.run(&Cancellation::new()).await.unwrap()
}

/// Opens the journal to end its run.
async fn abort(case: &Case) -> Report {
    let setup = case.resume().with_abort(true);
    end(Executor::open(setup).await.unwrap()).await
}

/// It ended for good with `left` cordoned, and only those.
fn assert_aborted(case: &Case, report: &Report, left: &[&str]) {
    assert_eq!(report.outcome, RunOutcome::Aborted, "{report}");
    assert_eq!(report.cordons, left, "{report}");
    let world = case.world.lock();
    let away = world.nodes.iter().filter(|(_, node)| node.unschedulable);
    let away: Vec<_> = away.map(|(name, _)| name.as_str()).collect();
    assert_eq!(away, left);
    assert_eq!(world.anchor.run, None);
    assert_eq!(world.broken, [""; 0]);
    drop(world);
    assert_replay_law(&case.journal.entries());
}

/// Nothing is left of it that keeps the next run, with the same journal.
async fn assert_a_new_run_arrives(case: &Case) {
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(report.cordons, [""; 0]);
}

fn version_of(case: &Case, node: &str) -> String {
    case.world.lock().nodes[node].version.to_string()
}

#[tokio::test(start_paused = true)]
async fn before_the_first_change_it_ends_at_once() {
    for steps in [0, 1, 2] {
        let case = Case::new();
        let mut executor = Executor::open(case.setup()).await.unwrap();
        for _ in 0..steps {
            let _ = executor.step().await.unwrap();
        }
        executor.abort();
        let report = end(executor).await;
        assert_aborted(&case, &report, &[]);
        assert_eq!(case.effects(), [""; 0]);
        let entries = case.journal.entries();
        let end = RunEnd::Aborted;
        assert_eq!(entries.last().unwrap().record, Record::RunEnded { end });
        assert_eq!(*position(&report, "red-1"), Position::Untouched);
        assert_a_new_run_arrives(&case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_being_drained_is_given_back() {
    let case = Case::new();
    let mut executor = at(&case, Phase::Drain, "red-1").await;
    step_until(&mut executor, || {
        case.effects().contains(&"cordon red-1".to_owned())
    })
    .await;
    executor.abort();
    let report = end(executor).await;
    assert_aborted(&case, &report, &[]);
    assert_eq!(version_of(&case, "red-1"), "v1.36.4");
    assert!(!announced(&case, Phase::Upgrade, "red-1"));
    let effects = case.effects();
    let last = &effects[effects.len() - 2..];
    assert!(last[0].starts_with("uncordon"), "{last:?}");
    assert_eq!(last[1], "clear");
    assert!(matches!(
        position(&report, "red-1"),
        Position::Skipped { .. }
    ));
    assert_eq!(*position(&report, "red-2"), Position::Untouched);
    assert_eq!(*position(&report, "cp-1"), Position::Done);
    assert_a_new_run_arrives(&case).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_was_decided_and_not_begun_never_begins() {
    let case = Case::new();
    // The last of the members.
    let mut executor = at(&case, Phase::Verify, "cp-2").await;
    // The next drain is decided, and waits for the kill switch to be read.
    case.world.lock().faults.anchor_unreadable = u32::MAX;
    step_until(&mut executor, || all_has_ended(&case)).await;
    executor.abort();
    let report = end(executor).await;
    case.world.lock().faults.anchor_unreadable = 0;
    assert_aborted(&case, &report, &[]);
    let entries = serde_json::to_string(&case.journal.entries()).unwrap();
    assert!(entries.contains("\"result\":\"skipped\""), "it was decided");
    assert!(!announced(&case, Phase::Drain, "cp-1"));
    assert!(!case.effects().contains(&"cordon cp-1".to_owned()));
    assert_a_new_run_arrives(&case).await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_whose_upgrade_was_decided_and_not_begun_is_given_back() {
    let case = Case::new();
    let mut executor = at(&case, Phase::Drain, "blue-1").await;
    case.world.lock().faults.anchor_unreadable = u32::MAX;
    step_until(&mut executor, || all_has_ended(&case)).await;
    assert!(case.world.lock().nodes["blue-1"].unschedulable);
    executor.abort();
    let report = end(executor).await;
    case.world.lock().faults.anchor_unreadable = 0;
    assert_aborted(&case, &report, &[]);
    assert!(!announced(&case, Phase::Upgrade, "blue-1"));
    assert_a_new_run_arrives(&case).await;
}

/// Every action that was announced has ended.
fn all_has_ended(case: &Case) -> bool {
    let entries = case.journal.entries();
    let ended = |entry: &&Entry| {
        let json = serde_json::to_string(&entry.record).unwrap();
        json.contains("actionEnded")
    };
    entries.iter().filter(ended).count() == intents(&entries).len()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_upgraded_or_verified_is_brought_to_its_end() {
    for phase in [Phase::Upgrade, Phase::Verify] {
        let case = Case::new();
        let mut executor = at(&case, phase, "red-1").await;
        executor.abort();
        let report = end(executor).await;
        assert_aborted(&case, &report, &[]);
        assert_eq!(*position(&report, "red-1"), Position::Done);
        assert_eq!(version_of(&case, "red-1"), "v1.37.1");
        assert_eq!(version_of(&case, "red-2"), "v1.36.4");
        assert_a_new_run_arrives(&case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_is_tried_again_as_ever() {
    let case = Case::new();
    let fails = ("red-1".to_owned(), (2, true));
    case.world.lock().faults.fails.extend([fails]);
    let mut executor = at(&case, Phase::Upgrade, "red-1").await;
    executor.abort();
    let report = end(executor).await;
    assert_eq!(*position(&report, "red-1"), Position::Done, "{report}");
    assert_eq!(report.outcome, RunOutcome::Aborted);
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_what_is_given_back() {
    let case = Case::new();
    let mut executor = at(&case, Phase::Drain, "red-1").await;
    case.world.pause(true);
    for _ in 0..60 {
        let _ = executor.step().await.unwrap();
    }
    assert!(!announced(&case, Phase::Upgrade, "red-1"));
    executor.abort();
    for _ in 0..60 {
        let _ = executor.step().await.unwrap();
    }
    assert!(case.world.lock().nodes["red-1"].unschedulable);
    // Kept by a crash, whoever opens the journal.
    drop(executor);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    for _ in 0..60 {
        let _ = executor.step().await.unwrap();
    }
    assert!(case.world.lock().nodes["red-1"].unschedulable);
    case.world.pause(false);
    let report = end(executor).await;
    assert_aborted(&case, &report, &[]);
    assert_eq!(version_of(&case, "red-1"), "v1.36.4");
    assert_a_new_run_arrives(&case).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_is_ended_and_what_failed_in_its_upgrade_stays_cordoned() {
    let case = Case::new();
    let fails = ("red-1".to_owned(), (1, false));
    case.world.lock().faults.fails.extend([fails]);
    let report = case.run().await;
    assert!(
        matches!(report.outcome, RunOutcome::Stopped { .. }),
        "{report}"
    );
    let before = intents(&case.journal.entries());
    let report = abort(&case).await;
    assert_aborted(&case, &report, &["red-1"]);
    assert!(
        matches!(position(&report, "red-1"), Position::Failed { phase: Phase::Upgrade, reason } if reason.contains("the disk broke"))
    );
    let text = report.to_string();
    for said in ["aborted", "ours on red-1", "put the components back"] {
        assert!(text.contains(said), "{text}");
    }
    assert!(!text.contains("KM-RUN-002"), "said once: {text}");
    let again = |id| before.iter().filter(|known| *known == id).count();
    let after = intents(&case.journal.entries());
    assert!(after.iter().all(|id| again(id) <= 1), "nothing tried again");
    // A second time there is nothing to be ended.
    let setup = case.resume().with_abort(true);
    let error = Executor::open(setup).await.unwrap_err();
    assert!(matches!(error, Error::NothingToAbort { .. }), "{error}");
    assert_a_new_run_arrives(&case).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_drain_had_failed_is_given_back() {
    let mut case = Case::new();
    case.policy.deadlines.then = OnDeadline::Stop;
    case.world
        .lock()
        .faults
        .undrainable
        .insert("red-1".to_owned());
    let report = case.run().await;
    // The other canary was drained, and did not come to its upgrade.
    assert_eq!(report.cordons, ["blue-1", "red-1"], "{report}");
    let report = abort(&case).await;
    assert_aborted(&case, &report, &[]);
    case.world.lock().faults.undrainable.clear();
    assert_a_new_run_arrives(&case).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_last_verification_failed_is_ended_with_its_findings() {
    let case = Case::new();
    let mut executor = at(&case, Phase::Verify, "red-3").await;
    step_until(&mut executor, || {
        case.journal
            .entries()
            .iter()
            .any(|entry| matches!(&entry.record, Record::StepBegan { step } if step.to_string() == "final verification"))
    })
    .await;
    case.world.lock().nodes.remove("cp-2");
    let report = end(executor).await;
    let RunOutcome::Stopped {
        cause: StopCause::Verification { findings },
    } = &report.outcome
    else {
        panic!("{report}");
    };
    let report = abort(&case).await;
    assert_aborted(&case, &report, &[]);
    assert!(report.findings.contains(&findings[0]), "{report}");

    // Also in the middle of it.
    let case = Case::new();
    let mut executor = at(&case, Phase::Verify, "red-3").await;
    step_until(&mut executor, || {
        case.journal
            .entries()
            .iter()
            .any(|entry| matches!(&entry.record, Record::StepBegan { step } if step.to_string() == "final verification"))
    })
    .await;
    executor.abort();
    let report = end(executor).await;
    assert_aborted(&case, &report, &[]);
    assert_eq!(*position(&report, "red-3"), Position::Done);
}

#[tokio::test(start_paused = true)]
async fn what_was_adopted_is_taken_over_to_its_end() {
    let mut case = Case::new();
    let mut executor = at(&case, Phase::Drain, "red-1").await;
    step_until(&mut executor, || {
        case.effects().contains(&"cordon red-1".to_owned())
    })
    .await;
    drop(executor);
    case = case.again("run-2");
    case.adopt = true;
    case.world.lock().anchor.holder = None;
    let model = adoptable_model(&Access(case.world.clone()), case.world.model()).await;
    let mut pace = Pace::default();
    pace.step = std::time::Duration::from_millis(1);
    let setup = case.setup_from(model.unwrap()).with_pace(pace);
    let mut executor = Executor::open(setup).await.unwrap();
    let claims = || case.effects().iter().filter(|e| *e == "claim").count();
    step_until(&mut executor, || claims() == 2).await;
    executor.abort();
    let report = end(executor).await;
    // The lost run may have been at work on them.
    assert_aborted(&case, &report, &["blue-1", "red-1"]);
    assert!(report.to_string().contains("KM-RUN-002"), "{report}");
}

/// A run that is left in the middle, and how far it came.
async fn left_at(phase: Phase, node: &str) -> Case {
    let case = Case::new();
    drop(at(&case, phase, node).await);
    case
}

/// Opens the journal, ends its run, and dies at one record of that.
async fn crash(case: &Case, at: u64, moment: Moment) {
    let mut setup = case.resume().with_abort(true);
    let inner = case.journal.clone();
    setup.journal = Box::new(Crashing { inner, at, moment });
    if let Ok(mut executor) = Executor::open(setup).await {
        let run = executor.run(&Cancellation::new()).await;
        assert!(run.is_err(), "no crash at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_record_of_the_end() {
    for (phase, node) in [
        (Phase::Upgrade, "cp-1"),
        (Phase::Drain, "red-1"),
        (Phase::Upgrade, "red-2"),
        (Phase::Verify, "blue-1"),
    ] {
        let first = left_at(phase, node).await;
        let before = first.journal.entries().len();
        let report = abort(&first).await;
        assert_aborted(&first, &report, &[]);
        let state = first.world.state();
        for at in before..first.journal.entries().len() {
            for moment in [Moment::Before, Moment::After] {
                let what = format!("{moment:?} record {at}, left at {phase} of {node}");
                let case = left_at(phase, node).await;
                crash(&case, at as u64, moment).await;
                match Executor::open(case.resume().with_abort(true)).await {
                    Ok(executor) => {
                        let report = end(executor).await;
                        assert_aborted(&case, &report, &[]);
                    }
                    // It came after the end.
                    Err(error) => {
                        assert!(matches!(error, Error::NothingToAbort { .. }), "{error}");
                    }
                }
                assert_eq!(case.world.state(), state, "{what}");
                assert_replay_law(&case.journal.entries());
            }
        }
    }
}
