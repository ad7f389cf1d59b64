//! Nodes that are deleted, or made anew under their names, while a run has them
//! in hand: the table of docs/executor.md, row by row. What happens during a drain
//! is in the tests of the embedded cluster, which has a real drainer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, position, step_until};
use common::law::assert_replay_law;
use common::secs;
use migrate_core::{Cancellation, Phase};
use migrate_executor::{Executor, Position, Record, Report, RunOutcome, StopCause};
use migrate_plan::{ActionResult, Input, NODE_GONE};

/// The second worker of its pool: no canary.
const NODE: &str = "blue-2";

/// What becomes of the node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Deleted,
    MadeAnew,
}

/// Whether `phase` of the node has got an intent.
fn is_announced(case: &Case, phase: Phase) -> bool {
    case.journal.entries().iter().any(|entry| {
        matches!(&entry.record, Record::Intent { action }
            if action.phase == phase && action.target.name() == NODE)
    })
}

fn is_drained(case: &Case) -> bool {
    let entries = case.journal.entries();
    let is_end =
        |record: &Record| matches!(record, Record::DrainEnded { node, .. } if node == NODE);
    entries.iter().any(|entry| is_end(&entry.record))
}

fn ends(case: &Case, is: fn(&ActionResult) -> bool) -> usize {
    let entries = case.journal.entries();
    let is_it = |record: &Record| {
        matches!(record, Record::Input { input: Input::ActionEnded { id, result } }
            if id.as_str().contains(NODE) && is(result))
    };
    entries.iter().filter(|entry| is_it(&entry.record)).count()
}

fn has_failed(case: &Case) -> bool {
    ends(case, |result| matches!(result, ActionResult::Failed { .. })) > 0
}

/// Runs `case` until `when`, loses the node, and goes on to the end.
async fn lose(case: &Case, loss: Loss, when: impl Fn(&Case) -> bool) -> Report {
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || when(case)).await;
    match loss {
        Loss::Deleted => case.world.delete(NODE),
        Loss::MadeAnew => case.world.make_anew(NODE),
    }
    let report = executor.run(&Cancellation::new()).await.unwrap();
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
    report
}

fn assert_upgraded(case: &Case, report: &Report) {
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(*position(report, NODE), Position::Done, "{report}");
    let cordons = case.effects().into_iter();
    let cordons = cordons.filter(|effect| *effect == format!("cordon {NODE}"));
    assert_eq!(cordons.count(), 2, "each machine was drained");
}

fn assert_left_out(report: &Report) {
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let reason = NODE_GONE.to_owned();
    assert_eq!(*position(report, NODE), Position::Skipped { reason });
}

/// Nobody says that it was deleted by somebody else.
fn assert_missed(report: &Report) {
    let is_missed = matches!(
        &report.outcome,
        RunOutcome::Stopped {
            cause: StopCause::Verification { .. }
        }
    );
    assert!(is_missed, "{report}");
    let others = report.targets.iter();
    let mut others = others.filter(|target| target.target.name() != NODE);
    assert!(
        others.all(|target| target.position == Position::Done),
        "the others went on: {report}"
    );
}

#[tokio::test(start_paused = true)]
async fn before_its_drain() {
    let case = Case::new();
    let report = lose(&case, Loss::Deleted, |case| !case.effects().is_empty()).await;
    assert_left_out(&report);
    let case = Case::new();
    let report = lose(&case, Loss::MadeAnew, |case| !case.effects().is_empty()).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(*position(&report, NODE), Position::Done, "{report}");
}

/// The watch has told nothing of it: only the look right before the upgrade can.
#[tokio::test(start_paused = true)]
async fn drained_and_its_upgrade_not_begun() {
    let blind = |case: &Case| {
        let is_drained = is_drained(case);
        case.world.lock().faults.blind |= is_drained;
        is_drained
    };
    let case = Case::new();
    let report = lose(&case, Loss::MadeAnew, blind).await;
    assert_upgraded(&case, &report);
    let undrained = ends(&case, |result| *result == ActionResult::NotDrained);
    assert_eq!(undrained, 1, "the look has seen it");
    let case = Case::new();
    let report = lose(&case, Loss::Deleted, blind).await;
    assert_left_out(&report);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_upgraded() {
    let begun = |case: &Case| {
        let effects = case.effects().into_iter();
        let mut begun = effects.filter(|effect| effect.starts_with("begin "));
        begun.any(|effect| effect.contains(NODE))
    };
    let case = Case::new();
    let report = lose(&case, Loss::MadeAnew, begun).await;
    assert_upgraded(&case, &report);
    let case = Case::new();
    let report = lose(&case, Loss::Deleted, begun).await;
    assert_missed(&report);
}

#[tokio::test(start_paused = true)]
async fn while_its_upgrade_waits_for_a_retry() {
    let failing = || {
        let case = Case::new();
        let fails = [(NODE.to_owned(), (1, true))];
        case.world.lock().faults.fails = fails.into();
        case
    };
    let case = failing();
    let report = lose(&case, Loss::MadeAnew, has_failed).await;
    assert_upgraded(&case, &report);
    let case = failing();
    let report = lose(&case, Loss::Deleted, has_failed).await;
    assert_left_out(&report);
    // Also if no watch has told of it when it is tried again.
    for loss in [Loss::MadeAnew, Loss::Deleted] {
        let case = failing();
        let report = lose(&case, loss, |case| {
            let has_failed = has_failed(case);
            case.world.lock().faults.blind |= has_failed;
            has_failed
        })
        .await;
        match loss {
            Loss::MadeAnew => assert_upgraded(&case, &report),
            Loss::Deleted => assert_left_out(&report),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_is_verified() {
    let verifying = |case: &Case| is_announced(case, Phase::Verify);
    for (loss, is_upgraded) in [(Loss::MadeAnew, true), (Loss::Deleted, false)] {
        let mut case = Case::new();
        case.policy.deadlines.verify = secs(60);
        let report = lose(&case, loss, verifying).await;
        match is_upgraded {
            true => assert_upgraded(&case, &report),
            false => assert_missed(&report),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_it_is_done() {
    let done = |case: &Case| ends(case, |result| matches!(result, ActionResult::Succeeded(_))) == 3;
    let case = Case::new();
    let report = lose(&case, Loss::Deleted, done).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let mut case = Case::new();
    case.policy.deadlines.verify = secs(60);
    let report = lose(&case, Loss::MadeAnew, done).await;
    let stopped = matches!(report.outcome, RunOutcome::Stopped { .. });
    assert!(stopped, "what came is old: {report}");
}
