//! What a run does when people and things get in its way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use common::case::{Case, position, step_until};
use common::journal::Full;
use common::law::{assert_replay_law, intents};
use common::secs;
use migrate_core::{Cancellation, OnDeadline, Phase};
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
async fn checks_that_cannot_be_made_for_a_moment_are_made_again() {
    let case = Case::new();
    case.world.lock().faults.preflight_away = 3;
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");

    let case = Case::new();
    case.world.lock().faults.preflight_away = u32::MAX;
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert!(
        matches!(report.outcome, RunOutcome::Refused { .. }),
        "{report}"
    );
    assert_eq!(case.effects(), Vec::<String>::new());
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

    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
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
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
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

#[tokio::test(start_paused = true)]
async fn a_hook_that_lies_is_caught_by_the_verification() {
    let mut case = Case::new();
    case.policy.deadlines.verify = secs(30);
    case.policy.pools.canary = false;
    case.world.lock().faults.lies.insert("red-2".to_owned());
    let report = case.run().await;
    assert!(
        matches!(report.outcome, RunOutcome::Stopped { .. }),
        "{report}"
    );
    let failed = position(&report, "red-2");
    let Position::Failed {
        phase: Phase::Verify,
        reason,
    } = failed
    else {
        panic!("{report}");
    };
    assert!(reason.contains("KM-VERIFY-001"), "{reason}");
    assert!(
        report.cordons.contains(&"red-2".to_owned()),
        "it stays out of use"
    );

    // Somebody repairs the node by hand; the run is taken up again.
    {
        let mut world = case.world.lock();
        let to = world.to.clone();
        world.nodes.get_mut("red-2").unwrap().version = to;
    }
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_tried_again_and_a_begin_that_hangs_is_looked_at() {
    let case = Case::new();
    case.world
        .lock()
        .faults
        .fails
        .insert("red-1".to_owned(), (2, true));
    case.world.lock().faults.hangs.insert("blue-2".to_owned());
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let of = |name: &'static str| {
        let begun = |effect: &&String| effect.starts_with("begin") && effect.contains(name);
        case.effects().iter().filter(begun).count()
    };
    assert_eq!((of("red-1"), of("blue-2")), (3, 1));
    let broken = case.world.lock().broken.clone();
    assert!(
        broken.iter().all(|what| what.contains("begin again")),
        "{broken:?}"
    );
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_never_ends_is_given_up_and_looked_at_before_it_is_begun_again() {
    let mut case = Case::new();
    case.policy.deadlines.upgrade = secs(120);
    case.world.lock().faults.stuck.insert("blue-2".to_owned());
    let report = case.run().await;
    let Position::Failed { reason, .. } = position(&report, "blue-2") else {
        panic!("{report}");
    };
    assert!(reason.contains("deadline"), "{reason}");
    assert!(report.cordons.contains(&"blue-2".to_owned()));

    // It ends after all while nobody looks.
    case.world
        .lock()
        .nodes
        .get_mut("blue-2")
        .unwrap()
        .upgrade
        .as_mut()
        .unwrap()
        .done_at = tokio::time::Instant::now();
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_given_up_gives_the_node_back() {
    let mut case = Case::new();
    case.policy.deadlines.then = OnDeadline::Skip;
    case.policy.deadlines.verify = secs(60);
    case.world
        .lock()
        .faults
        .undrainable
        .insert("red-3".to_owned());
    let report = case.run().await;
    // The end is not at the target, which the verification at the end says.
    assert!(
        matches!(
            &report.outcome,
            RunOutcome::Stopped {
                cause: StopCause::Verification { .. }
            }
        ),
        "{report}"
    );
    assert!(
        matches!(position(&report, "red-3"), Position::Skipped { .. }),
        "{report}"
    );
    assert_eq!(
        *position(&report, "red-2"),
        Position::Done,
        "the others went on"
    );
    assert_eq!(report.cordons, [""; 0]);
    assert!(!case.world.lock().nodes["red-3"].unschedulable);
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_left_as_it_was_does_not_keep_its_pool_waiting() {
    let mut case = Case::new();
    case.policy.deadlines.then = OnDeadline::Skip;
    case.policy.deadlines.verify = secs(60);
    case.world.lock().faults.refused.insert("blue-1".to_owned());
    let report = case.run().await;
    assert!(
        matches!(position(&report, "blue-1"), Position::Skipped { .. }),
        "{report}"
    );
    assert_eq!(*position(&report, "blue-2"), Position::Done, "{report}");
    assert!(report.duration.actual < secs(600), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_drainer_that_ends_early_is_asked_again() {
    let case = Case::new();
    case.world.lock().faults.drainer_ends_after = Some(3);
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_it_before_the_effect_and_not_for_good() {
    let case = Case::new();
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let mut setup = case.setup();
    setup.journal = Box::new(Full {
        inner: case.journal.clone(),
        from: 20,
        left: left.clone(),
    });
    let mut executor = Executor::open(setup).await.unwrap();
    let error = loop {
        if let Err(error) = executor.step().await {
            break error;
        }
    };
    assert!(error.to_string().contains("no space left"), "{error}");
    let (records, effects) = (case.journal.entries().len(), case.effects());
    for _ in 0..100 {
        assert!(executor.step().await.is_err());
    }
    assert_eq!(case.journal.entries().len(), records);
    assert_eq!(case.effects(), effects);
    left.store(0, std::sync::atomic::Ordering::SeqCst);
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_observed_is_not_verified() {
    let mut case = Case::new();
    case.policy.deadlines.verify = secs(40);
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        !intents(&case.journal.entries()).is_empty()
    })
    .await;
    case.world.lock().faults.unobservable = true;
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert!(
        matches!(report.outcome, RunOutcome::Stopped { .. }),
        "{report}"
    );
    assert!(
        report.to_string().contains("could not be observed"),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_drainer_that_may_not_work_or_never_answers_ends_the_run() {
    let forbidden = Case::new();
    forbidden.world.lock().faults.drainer_forbidden = true;
    let mut silent = Case::new();
    silent.world.lock().faults.drainer_silent = true;
    silent.policy.deadlines.drain = secs(300);
    for (case, why) in [(forbidden, "add the rule"), (silent, "did not answer")] {
        let report = case.run().await;
        assert!(
            matches!(report.outcome, RunOutcome::Stopped { .. }),
            "{report}"
        );
        assert!(report.to_string().contains(why), "{report}");
        assert_replay_law(&case.journal.entries());
    }
}
