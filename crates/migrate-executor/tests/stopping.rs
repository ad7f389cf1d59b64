//! Who holds a run, cancels it or lets go of it: the kill switch, the program,
//! whoever drops it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::case::{Case, position, step_until};
use common::law::{assert_replay_law, intents};
use common::secs;
use migrate_core::{Cancellation, Phase};
use migrate_executor::{
    Entry, Executor, Position, Record, RunOutcome, RunStep, StepOutcome, StopCause,
};
use migrate_plan::StopReason;

#[tokio::test(start_paused = true)]
async fn the_kill_switch_holds_every_further_action_and_only_those() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        case.effects().iter().any(|e| e.starts_with("cordon"))
    })
    .await;
    case.world.pause(true);
    let begun = || intents(&case.journal.entries()).len();
    // The drain under way goes on to its end; an action whose look at the
    // anchor was under way may still begin.
    for _ in 0..10 {
        let _ = executor.step().await.unwrap();
    }
    let held = begun();
    let mut outcome = StepOutcome::Progressed;
    for _ in 0..600 {
        outcome = executor.step().await.unwrap();
    }
    assert_eq!(begun(), held);
    assert!(executor.progress().running > 0);
    let StepOutcome::Wait { reasons, until } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        reasons.iter().any(|reason| reason.on == "paused"),
        "{reasons:?}"
    );
    assert!(until.is_some());

    // A runner that opens the journal meanwhile does not begin anything either.
    drop(executor);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    for _ in 0..60 {
        let _ = executor.step().await.unwrap();
    }
    assert_eq!(begun(), held);

    case.world.pause(false);
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let paused = report
        .waits
        .iter()
        .find(|wait| wait.on == "paused")
        .unwrap();
    assert!(paused.total >= secs(60), "{paused:?}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_while_the_kill_switch_cannot_be_read() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    case.world.lock().faults.anchor_unreadable = 50;
    for _ in 0..200 {
        let _ = executor.step().await.unwrap();
    }
    assert!((1..50).contains(&case.world.lock().faults.anchor_unreadable));
    assert_eq!(intents(&case.journal.entries()), []);
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert!(
        report
            .waits
            .iter()
            .any(|wait| wait.on.contains("the API is away"))
    );
}

/// As after the start of an API server, whose authorizer has to catch up.
#[tokio::test(start_paused = true)]
async fn a_kill_switch_that_may_not_be_read_for_a_moment_only_costs_time() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    case.world.lock().faults.anchor_forbidden = 5;
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");

    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    case.world.lock().faults.anchor_forbidden = u32::MAX;
    let began = tokio::time::Instant::now();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let RunOutcome::Interrupted {
        cause: StopCause::AnchorUnreadable { .. },
    } = report.outcome
    else {
        panic!("{report}");
    };
    assert!(began.elapsed() < secs(180), "{:?}", began.elapsed());
    assert_eq!(intents(&case.journal.entries()), []);
}

#[tokio::test(start_paused = true)]
async fn the_program_pauses_and_goes_on() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        !intents(&case.journal.entries()).is_empty()
    })
    .await;
    executor.pause();
    for _ in 0..100 {
        let _ = executor.step().await.unwrap();
    }
    let held = intents(&case.journal.entries()).len();
    assert!(held <= 2, "{held}");
    executor.unpause();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn a_run_cancelled_before_its_rollout_changes_nothing_and_can_be_taken_up_again() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    executor.cancel();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let stopped = RunOutcome::Stopped {
        cause: StopCause::Rollout {
            reason: StopReason::Cancelled,
        },
    };
    assert_eq!(report.outcome, stopped);
    assert!(intents(&case.journal.entries()).is_empty());
    drop(executor);
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_ends_what_is_under_way_and_can_be_taken_up_again() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        case.effects().iter().any(|e| e.starts_with("cordon red"))
    })
    .await;
    executor.cancel();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let stopped = RunOutcome::Stopped {
        cause: StopCause::Rollout {
            reason: StopReason::Cancelled,
        },
    };
    assert_eq!(report.outcome, stopped);
    let drained = Position::After {
        phase: Phase::Drain,
    };
    assert_eq!(*position(&report, "red-1"), drained);
    let red = report
        .targets
        .iter()
        .find(|t| t.target.name() == "red-1")
        .unwrap();
    assert!(
        red.cordoned
            && red
                .undo
                .as_ref()
                .unwrap()
                .contains("kubectl uncordon red-1")
    );
    assert!(report.cordons.contains(&"red-1".to_owned()));
    assert!(
        case.world.lock().anchor.run.is_some(),
        "the cluster still names the run"
    );
    drop(executor);

    case.assert_arrives().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_held_after_its_last_action_ends_once_it_is_let_go() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let verifies = |entry: &Entry| {
        let step = RunStep::FinalVerify;
        entry.record == Record::StepBegan { step }
    };
    step_until(&mut executor, || {
        case.journal.entries().iter().any(verifies)
    })
    .await;
    drop(executor);
    case.world.pause(true);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    for _ in 0..20 {
        let outcome = executor.step().await.unwrap();
        assert!(!matches!(outcome, StepOutcome::Done(_)), "{outcome:?}");
    }
    case.world.pause(false);
    let report = tokio::time::timeout(secs(3600), executor.run(&Cancellation::new())).await;
    assert_eq!(report.unwrap().unwrap().outcome, RunOutcome::Done);
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_runner_leaves_a_run_that_goes_on() {
    let case = Case::new();
    let cancel = Cancellation::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let stopper = cancel.clone();
    let (report, ()) = tokio::join!(executor.run(&cancel), async {
        tokio::time::sleep(secs(100)).await;
        stopper.cancel();
    });
    let report = report.unwrap();
    assert!(
        matches!(report.outcome, RunOutcome::Interrupted { .. }),
        "{report}"
    );
    drop(executor);
    case.assert_arrives().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_may_be_dropped_at_any_await() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let mut report = None;
    for round in 0..100_000_u64 {
        let patience = Duration::from_millis(1 + round * 37 % 700);
        match tokio::time::timeout(patience, executor.step()).await {
            Ok(Ok(StepOutcome::Done(done))) => {
                report = Some(done);
                break;
            }
            Ok(outcome) => drop(outcome.unwrap()),
            Err(_) => {}
        }
    }
    assert_eq!(report.unwrap().outcome, RunOutcome::Done);
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}
