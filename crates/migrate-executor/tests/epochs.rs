//! One holder per epoch: who takes one, who is refused, and who leaves off.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, step_until};
use common::journal::Elsewhere;
use common::law::assert_replay_law;
use common::secs;
use common::steps::Access;
use common::world::Anchor;
use migrate_core::{Cancellation, Phase};
use migrate_executor::{
    Error, Executor, MemoryJournal, Record, Report, RunOutcome, Setup, StopCause, adoptable_model,
};

/// The epochs in a journal, in order.
fn epochs(journal: &MemoryJournal) -> Vec<u64> {
    let entries = journal.entries();
    let epochs = entries.iter().filter_map(|entry| match entry.record {
        Record::EpochTaken { epoch } => Some(epoch),
        _ => None,
    });
    epochs.collect()
}

/// A run in the middle of the rollout.
async fn under_way(case: &Case) -> Executor {
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let cordoned = |effect: &String| effect.starts_with("cordon red");
    step_until(&mut executor, || case.effects().iter().any(cordoned)).await;
    executor
}

/// The run of `case`, to be adopted with a journal in another place.
async fn adopting(case: &Case) -> (Case, Setup) {
    let mut other = case.again("run-2");
    other.adopt = true;
    let model = adoptable_model(&Access(other.world.clone()), other.world.model()).await;
    let mut setup = other.setup_from(model.unwrap());
    setup.journal = Box::new(Elsewhere(other.journal.clone()));
    (other, setup)
}

async fn finish(executor: &mut Executor) -> Report {
    executor.run(&Cancellation::new()).await.unwrap()
}

fn cause_of(report: &Report) -> &StopCause {
    match &report.outcome {
        RunOutcome::Interrupted { cause } => cause,
        _ => panic!("{report}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_opening_takes_the_next_epoch_and_the_end_keeps_it() {
    let case = Case::new();
    for epoch in 1..=3 {
        let mut executor = match epoch {
            1 => under_way(&case).await,
            _ => Executor::open(case.resume()).await.unwrap(),
        };
        assert_eq!(case.world.lock().anchor.epoch, epoch);
        let _ = executor.step().await.unwrap();
    }
    let report = finish(&mut Executor::open(case.resume()).await.unwrap()).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(epochs(&case.journal), [1, 2, 3, 4]);
    assert_replay_law(&case.journal.entries());
    let ended = case.world.lock().anchor.clone();
    assert_eq!((ended.epoch, ended.run, ended.holder), (4, None, None));
    // The next run goes on from there, also if only the journal remembers.
    for (node, deleted) in [("red-1", false), ("red-2", true)] {
        {
            let mut world = case.world.lock();
            let machine = world.nodes.get_mut(node).unwrap();
            (machine.version, machine.upgrade) = (common::world::version("v1.36.4"), None);
            if deleted {
                world.anchor = Anchor::default();
            }
        }
        assert_eq!(case.run().await.outcome, RunOutcome::Done);
    }
    assert_eq!(epochs(&case.journal), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_carries_the_epoch_that_was_taken_last() {
    let case = Case::new();
    drop(under_way(&case).await);
    let _ = finish(&mut Executor::open(case.resume()).await.unwrap()).await;
    let world = case.world.lock();
    let machines = world.nodes.values().chain(world.members.values());
    let fences: Vec<u64> = machines.map(|machine| machine.fence).collect();
    assert!(fences.contains(&2) && !fences.contains(&0), "{fences:?}");
}

#[tokio::test(start_paused = true)]
async fn an_older_api_is_refused_by_its_code_and_adopted() {
    let older = |anchor: &Anchor| Anchor {
        epoch: 1,
        ..anchor.clone()
    };
    let before_the_run = |_: &Anchor| Anchor::default();
    for restored in [older as fn(&Anchor) -> Anchor, before_the_run] {
        let mut case = Case::new();
        drop(under_way(&case).await);
        let mut executor = Executor::open(case.resume()).await.unwrap();
        let _ = executor.step().await.unwrap();
        let effects = case.effects().len();
        {
            let mut world = case.world.lock();
            world.anchor = restored(&world.anchor);
        }
        let report = finish(&mut executor).await;
        let cause = cause_of(&report);
        assert!(
            matches!(cause, StopCause::ApiOlder { taken: 2, .. }),
            "{report}"
        );
        assert!(report.to_string().contains("KM-RUN-007"), "{report}");
        let begun = |effect: &String| effect.starts_with("begin") || effect.starts_with("cordon");
        let since = case.effects().split_off(effects);
        assert!(!since.iter().any(begun), "{since:?}");

        for setup in [case.setup(), case.resume()] {
            let error = Executor::open(setup).await.unwrap_err();
            assert!(matches!(error, Error::ApiOlder { taken: 2, .. }), "{error}");
            assert!(error.to_string().contains("KM-RUN-007"), "{error}");
        }
        case.adopt = true;
        let model = adoptable_model(&Access(case.world.clone()), case.world.model()).await;
        let setup = case.setup_from(model.unwrap());
        let report = finish(&mut Executor::open(setup).await.unwrap()).await;
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert_eq!(epochs(&case.journal), [1, 2, 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_journal_opened_elsewhere_supersedes() {
    let case = Case::new();
    let mut first = under_way(&case).await;
    let mut copy = Case::new();
    copy.world = case.world.clone();
    copy.migration = case.migration.clone();
    copy.journal = MemoryJournal::with_entries(case.journal.entries());
    let mut second = Executor::open(copy.resume()).await.unwrap();
    let effects = case.effects().len();
    let report = finish(&mut first).await;
    let superseded = StopCause::Superseded { taken: 1, found: 2 };
    assert_eq!(cause_of(&report), &superseded);
    let since = case.effects().split_off(effects);
    assert!(
        since.iter().all(|effect| effect.starts_with("evict")),
        "{since:?}"
    );
    let report = finish(&mut second).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_living_holder_is_not_displaced_and_one_that_was_stopped_is() {
    let case = Case::new();
    let mut first = under_way(&case).await;
    let (other, setup) = adopting(&case).await;
    let never = Cancellation::new();
    let error = tokio::select! {
        biased;
        opened = Executor::open(setup) => opened.unwrap_err(),
        _ = first.run(&never) => panic!("it ended before the other one had an answer"),
    };
    assert!(
        matches!(&error, Error::Held { holder } if holder == "memory"),
        "{error}"
    );
    assert_eq!(other.journal.entries(), [], "nothing was written");

    // Nobody polls it any more: a process that was stopped.
    let (other, setup) = adopting(&case).await;
    let began = tokio::time::Instant::now();
    let mut second = Executor::open(setup).await.unwrap();
    assert!(
        began.elapsed() >= secs(30),
        "it watched for as long as the Lease lasts"
    );
    step_until(&mut second, || !epochs(&other.journal).is_empty()).await;
    let report = finish(&mut first).await;
    assert!(
        matches!(cause_of(&report), StopCause::AnchorLost { .. }),
        "{report}"
    );
    let report = finish(&mut second).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_while_a_holder_is_watched_are_made_up_for() {
    for from in [5, 29] {
        let case = Case::new();
        let first = under_way(&case).await;
        let (_, setup) = adopting(&case).await;
        let began = tokio::time::Instant::now();
        let blink = async {
            tokio::time::sleep(secs(from)).await;
            case.world.lock().faults.anchor_unreadable = 3;
        };
        let (second, ()) = tokio::join!(Executor::open(setup), blink);
        let took = began.elapsed();
        assert!(second.is_ok() && took >= secs(30), "{took:?}");
        assert_eq!(case.world.lock().faults.anchor_unreadable, 0);
        drop(first);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_renewed_after_it_was_given_up_is_not_displaced() {
    let case = Case::new();
    let mut first = under_way(&case).await;
    let (_, setup) = adopting(&case).await;
    let mut second = Executor::open(setup).await.unwrap();
    // It was only slow, and the other one has not claimed the run yet.
    let renewed = || case.world.lock().anchor.holder.clone().unwrap().renewed;
    let before = renewed();
    step_until(&mut first, || renewed() != before).await;
    let report = finish(&mut second).await;
    assert!(
        matches!(report.outcome, RunOutcome::Refused { .. }),
        "{report}"
    );
    assert!(
        report.to_string().contains("another holder is at work"),
        "{report}"
    );
    let report = finish(&mut first).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_mark_removed_by_hand_lets_nobody_else_in() {
    let case = Case::new();
    drop(under_way(&case).await);
    {
        let mut world = case.world.lock();
        (world.anchor.run, world.anchor.journal) = (None, None);
    }
    let other = case.again("run-2");
    let mut setup = other.setup();
    setup.journal = Box::new(Elsewhere(other.journal.clone()));
    let error = Executor::open(setup).await.unwrap_err();
    assert!(matches!(error, Error::Held { .. }), "{error}");
    let report = finish(&mut Executor::open(case.resume()).await.unwrap()).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

#[tokio::test(start_paused = true)]
async fn drains_rest_while_the_lease_cannot_be_renewed_and_go_on_after() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let count = |what| {
        case.effects()
            .iter()
            .filter(|e| e.starts_with(what))
            .count()
    };
    // Both members are through, and no node has its turn yet.
    step_until(&mut executor, || count("begin") == 2).await;
    case.world.pause(true);
    case.world.lock().faults.unrenewable = true;
    let never = Cancellation::new();
    for (paused, seconds) in [(true, 60), (false, 120)] {
        case.world.pause(paused);
        let run = Box::pin(executor.run(&never));
        assert!(tokio::time::timeout(secs(seconds), run).await.is_err());
        assert_eq!((count("begin"), count("cordon")), (2, 0));
    }
    let drains = |entry: &migrate_executor::Entry| match &entry.record {
        Record::Intent { action } => action.phase == Phase::Drain,
        _ => false,
    };
    assert!(case.journal.entries().iter().any(drains));
    case.world.lock().faults.unrenewable = false;
    let report = finish(&mut executor).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let rested = |wait: &migrate_executor::WaitSummary| wait.on.contains("drains rest");
    assert!(report.waits.iter().any(rested), "{report}");
}

/// The runner clears its mark itself at the end, and may be told of that by a
/// renewal that it had asked for before.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_answered_after_the_end_changes_nothing() {
    let case = Case::new();
    case.world.lock().faults.slow_renewals = true;
    let report = finish(&mut Executor::open(case.setup()).await.unwrap()).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_who_was_superseded_is_not_recorded() {
    let case = Case::new();
    case.world.lock().faults.refused.insert("red-1".to_owned());
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || case.world.lock().anchor.run.is_some()).await;
    let announced = || {
        let entries = case.journal.entries();
        let of_red = |entry: &migrate_executor::Entry| match &entry.record {
            Record::Intent { action } => action.target.name() == "red-1",
            _ => false,
        };
        entries.iter().any(of_red)
    };
    step_until(&mut executor, announced).await;
    case.world.lock().anchor.epoch += 1;
    let report = finish(&mut executor).await;
    let superseded = StopCause::Superseded { taken: 1, found: 2 };
    assert_eq!(cause_of(&report), &superseded);
    let failed = |entry: &migrate_executor::Entry| match &entry.record {
        Record::Input { input } => format!("{input:?}").contains("Failed"),
        _ => false,
    };
    assert!(!case.journal.entries().iter().any(failed));
}
