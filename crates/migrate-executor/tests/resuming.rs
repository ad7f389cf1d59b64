//! A runner that takes a run up looks at all that was begun before it begins
//! anything itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::case::{Case, position, step_until};
use common::journal::{Crashing, Moment};
use common::law::{assert_replay_law, intents};
use common::secs;
use migrate_core::steps::DrainOutcome;
use migrate_core::{Cancellation, OnDeadline, Phase, WorkloadId};
use migrate_executor::{
    Executor, Position, Record, RunOutcome, StepOutcome, StopCause, WaitReason,
};
use migrate_plan::StopReason;
use tokio::time::Instant;

/// A run whose runner is gone while two nodes are upgraded, of one of which
/// nobody can tell from then on what becomes of it.
async fn left_with_one_out_of_reach(case: &Case) {
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        let effects = case.effects();
        let begun = |name: &str| {
            let is_it = |it: &String| it.starts_with("begin") && it.contains(name);
            effects.iter().any(is_it)
        };
        begun("red-2") && begun("red-3")
    })
    .await;
    drop(executor);
    case.world.lock().faults.unprobed.insert("red-2".to_owned());
}

async fn steps(executor: &mut Executor, count: usize) -> Vec<WaitReason> {
    let mut last = Vec::new();
    for _ in 0..count {
        if let StepOutcome::Wait { reasons, .. } = executor.step().await.unwrap() {
            last = reasons;
        }
    }
    last
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_before_all_that_was_begun_has_been_looked_at() {
    let case = Case::new();
    left_with_one_out_of_reach(&case).await;
    let begun = || intents(&case.journal.entries()).len();
    let before = begun();
    let mut executor = Executor::open(case.resume()).await.unwrap();
    // Meanwhile the other one is done, and its verification is due.
    let reasons = steps(&mut executor, 120).await;
    assert_eq!(begun(), before);
    let shown = |of: &str, what: &str| {
        let is_it = |it: &WaitReason| it.target == of && it.on.contains(what);
        assert!(reasons.iter().any(is_it), "{of} {what}: {reasons:?}");
    };
    shown("run", "has been looked at");
    shown("run", "red-2");
    shown("red-2", "no way to the node");

    case.world.lock().faults.unprobed.clear();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let waited = report
        .waits
        .iter()
        .find(|wait| wait.on.contains("looked at"));
    assert!(waited.unwrap().total >= secs(60), "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn what_stays_out_of_reach_holds_the_rest_until_its_deadline() {
    let mut case = Case::new();
    case.policy.deadlines.upgrade = secs(300);
    case.policy.deadlines.verify = secs(60);
    case.policy.deadlines.then = OnDeadline::Skip;
    left_with_one_out_of_reach(&case).await;
    let began = Instant::now();
    let begun = || intents(&case.journal.entries()).len();
    let before = begun();
    let mut executor = Executor::open(case.resume()).await.unwrap();
    step_until(&mut executor, || begun() > before).await;
    let held = began.elapsed();
    assert!((secs(300)..secs(330)).contains(&held), "{held:?}");
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let Position::Skipped { reason } = position(&report, "red-2") else {
        panic!("{report}");
    };
    assert!(reason.contains("no way to the node"), "{reason}");
    assert_eq!(*position(&report, "red-3"), Position::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

/// Its intent is in the journal, and it never began.
#[tokio::test(start_paused = true)]
async fn what_is_found_not_begun_waits_for_the_looks_and_then_for_the_kill_switch() {
    let with_a_slow_drain = || {
        let case = Case::new();
        case.world.lock().nodes.get_mut("red-3").unwrap().pods = 3;
        case
    };
    let undisturbed = with_a_slow_drain();
    let report = undisturbed.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let entries = undisturbed.journal.entries();
    let last = entries.iter().rev().find(|entry| {
        let is_it = |name: &str| name == "red-2" || name == "red-3";
        matches!(&entry.record, Record::Intent { action }
            if action.phase == Phase::Upgrade && is_it(action.target.name()))
    });
    let at = last.unwrap().seq;

    let case = with_a_slow_drain();
    let mut setup = case.setup();
    setup.journal = Box::new(Crashing {
        inner: case.journal.clone(),
        at,
        moment: Moment::After,
    });
    let mut executor = Executor::open(setup).await.unwrap();
    while executor.step().await.is_ok() {}
    drop(executor);
    let effects = case.effects().len();
    let out_of_reach = ["red-2", "red-3"].map(str::to_owned).into_iter();
    let begun = |name: &String| {
        let is_it = |it: &String| it.starts_with("begin") && it.contains(name.as_str());
        case.effects().iter().any(is_it)
    };
    case.world.lock().faults.unprobed = out_of_reach.filter(|name| begun(name)).collect();
    assert_eq!(case.world.lock().faults.unprobed.len(), 1);

    let mut executor = Executor::open(case.resume()).await.unwrap();
    steps(&mut executor, 60).await;
    let only_claimed = ["claim".to_owned()];
    assert_eq!(case.effects()[effects..], only_claimed);
    // Held while it waits: it begins only when it is let go.
    case.world.pause(true);
    case.world.lock().faults.unprobed.clear();
    steps(&mut executor, 60).await;
    assert_eq!(case.effects()[effects..], only_claimed);
    case.world.pause(false);
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn a_run_cancelled_as_it_is_taken_up_brings_to_its_end_what_was_begun() {
    let case = Case::new();
    left_with_one_out_of_reach(&case).await;
    case.world.lock().faults.unprobed.clear();
    let mut executor = Executor::open(case.resume()).await.unwrap();
    executor.cancel();
    let never = Cancellation::new();
    let run = tokio::time::timeout(secs(36_000), executor.run(&never));
    let report = run.await.expect("it ends").unwrap();
    let stopped = RunOutcome::Stopped {
        cause: StopCause::Rollout {
            reason: StopReason::Cancelled,
        },
    };
    assert_eq!(report.outcome, stopped, "{report}");
    case.assert_arrives().await;
}

#[tokio::test(start_paused = true)]
async fn verification_asks_about_what_a_drain_displaced_after_a_restart_too() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let begun = |it: &String| it.starts_with("begin") && it.contains("red-2");
    step_until(&mut executor, || case.effects().iter().any(begun)).await;
    drop(executor);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let asked = case.world.lock().asked_about.clone();
    assert!(asked.contains_key("red-2") && asked.len() > 2, "{asked:?}");
    for (node, displaced) in asked {
        let moved = WorkloadId::new("Deployment", "shop", format!("moved-{node}"));
        assert_eq!(Vec::from_iter(displaced), [moved], "{node}");
    }
}

#[test]
fn the_record_of_an_older_release_says_nothing_of_displaced_workloads() {
    let record = Record::DrainEnded {
        node: "red-1".to_owned(),
        outcome: DrainOutcome::Empty { evictions: 3 },
        displaced: Vec::new(),
    };
    let json = serde_json::to_string(&record).unwrap();
    assert!(!json.contains("displaced"), "{json}");
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
}

/// A clock that was set back, or that of another machine.
#[tokio::test(start_paused = true)]
async fn a_run_goes_on_by_a_clock_that_is_behind_its_journal() {
    let mut case = Case::new();
    let mut first = Executor::open(case.setup()).await.unwrap();
    let cordoned = |effect: &String| effect.starts_with("cordon red");
    step_until(&mut first, || case.effects().iter().any(cordoned)).await;
    drop(first);
    let clock = Arc::clone(&case.context.clock);
    let hours = secs(5 * 60 * 60);
    let behind = move || {
        migrate_core::Moment::from_millis(clock.now().as_millis() - hours.as_millis() as u64)
    };
    case.context.clock = Arc::new(behind);
    let last = case.journal.entries().last().unwrap().at;
    assert!(case.context.clock.now() < last);
    let began = Instant::now();
    let mut second = Executor::open(case.resume()).await.unwrap();
    let mut renewals = BTreeSet::new();
    let report = loop {
        if let Some(holder) = &case.world.lock().anchor.holder {
            renewals.insert(holder.renewed.clone());
        }
        match second.step().await.unwrap() {
            StepOutcome::Done(report) => break report,
            StepOutcome::Stopped(stop) => panic!("{}", stop.report),
            _ => {}
        }
    };
    assert!(began.elapsed() < secs(60 * 60), "{:?}", began.elapsed());
    // Who watches the Lease has to see that somebody holds it.
    let thirds = began.elapsed().as_secs() / 10;
    assert!(renewals.len() as u64 > thirds / 2, "{renewals:?}");
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}
