//! What fails under a run: checks, upgrades, drains, the verification, the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use common::case::{Case, position, step_until};
use common::journal::Full;
use common::law::{assert_replay_law, intents};
use common::secs;
use migrate_core::{Cancellation, Finding, ObjectName, OnDeadline, Phase, Severity};
use migrate_executor::{
    Executor, Position, RecordedRun, Report, ReportPage, RunOutcome, StepOutcome, StopCause,
};

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
async fn a_scheduler_that_cannot_be_told_holds_nobody_up() {
    let run = async |prefers, untold| {
        let mut case = Case::new();
        case.policy.rollout.prefer_upgraded_nodes = prefers;
        case.world.lock().faults.untold = (untold, 0);
        let report = case.run().await;
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        let mut found = report.findings.iter();
        let is_told = found.any(|finding| finding.code == "KM-RUN-010");
        (case.world.lock().faults.untold.1, is_told)
    };
    assert_eq!(run(false, u32::MAX).await, (0, false));
    assert_eq!(run(true, 0).await, (1, false));
    assert_eq!(run(true, 4).await, (5, false));
    assert_eq!(run(true, u32::MAX).await, (5, true));
}

#[tokio::test(start_paused = true)]
async fn what_gets_on_may_take_longer_than_the_deadline_of_a_verification() {
    let run = async |shows: bool| {
        let mut case = Case::new();
        case.policy.deadlines.verify = secs(30);
        case.world.lock().faults.rolling = (100, shows);
        case.run().await
    };
    let report = run(true).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert!(report.duration.actual > secs(200), "{report}");
    let report = run(false).await;
    let stopped = matches!(report.outcome, RunOutcome::Stopped { .. });
    assert!(stopped, "{report}");
}

#[tokio::test(start_paused = true)]
async fn what_verifications_note_is_in_the_report_once_and_as_it_was_last() {
    let case = Case::new();
    let note = |evidence: &str| {
        let object = ObjectName::namespaced("Deployment", "shop", "web");
        Finding::new("KM-VERIFY-017", Severity::Warning, object, evidence, "")
    };
    case.world.lock().faults.noted = vec![note("it wants 2")];
    let mut executor = Executor::open(case.setup()).await.unwrap();
    while !executor.report().findings.contains(&note("it wants 2")) {
        let step = executor.step().await.unwrap();
        assert!(!matches!(step, StepOutcome::Done(_)), "{step:?}");
    }
    drop(executor);
    case.world.lock().faults.noted = vec![note("it wants 0")];
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let noted = report.findings.into_iter();
    let noted: Vec<_> = noted.filter(|it| it.code == "KM-VERIFY-017").collect();
    assert_eq!(noted, [note("it wants 0")]);
}

#[tokio::test(start_paused = true)]
async fn what_a_driver_finds_is_in_the_report_once() {
    let case = Case::new();
    let object = ObjectName::cluster("Node", "red-2");
    let evidence = "kubeadm renewed apiserver";
    let note = Finding::new(
        "KM-KUBEADM-034",
        Severity::Info,
        object,
        evidence,
        "nothing",
    );
    case.world.lock().faults.finds = vec![note.clone()];
    let mut executor = Executor::open(case.setup()).await.unwrap();
    while !executor.report().findings.contains(&note) {
        let step = executor.step().await.unwrap();
        assert!(!matches!(step, StepOutcome::Done(_)), "{step:?}");
    }
    // The successor asks the driver again.
    drop(executor);
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let found = report.findings.iter().filter(|it| **it == note);
    assert_eq!(found.count(), 1, "{report}");
    assert!(report.to_string().contains(evidence), "{report}");
    let page = ReportPage::new(&report).to_string();
    assert!(page.contains(evidence), "{page}");
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
    page_tells(&report, &case);

    // Somebody repairs the node by hand; the run is taken up again.
    {
        let mut world = case.world.lock();
        let to = world.to.clone();
        world.nodes.get_mut("red-2").unwrap().version = to;
    }
    case.assert_arrives().await;
}

/// The page of `report`, with the course that the journal tells.
fn page_tells(report: &Report, case: &Case) {
    let runs = RecordedRun::all(case.journal.entries());
    let timeline = runs[0].timeline().unwrap();
    let page = ReportPage::new(report).with_course(&runs[0].opened, &timeline);
    let page = page.to_string();
    // What somebody has to look at comes before the chart, with the way on.
    let (before, chart) = page.split_once("<svg").unwrap();
    for said in [
        "Outcome:</b> stopped, cure this and open it again: node red-2 failed in verify",
        "node red-2:",
        "KM-VERIFY-001",
        "It is cordoned by this run.",
        "keep it cordoned until it is either",
    ] {
        assert!(before.contains(said), "{said}: {before}");
    }
    // What really happened.
    let begun = |node: &str| chart.contains(&format!("<title>{node}: drain"));
    assert!(begun("red-2"), "{chart}");
    let plain = ReportPage::new(report).to_string();
    assert!(!plain.contains("<svg") && plain.contains("red-2"));
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

/// As where etcd is not well right after a failure: attempts are counted that began,
/// and the reason is the one for which the next does not.
#[tokio::test(start_paused = true)]
async fn a_further_attempt_that_may_not_begin_yet_is_asked_for_until_the_deadline() {
    let run = async |times: u32| {
        let mut case = Case::new();
        case.policy.deadlines.upgrade = secs(300);
        {
            let faults = &mut case.world.lock().faults;
            faults.fails.insert("red-1".to_owned(), (1, true));
            faults.put_off.insert("red-1".to_owned(), times);
        }
        let report = case.run().await;
        let begun = |effect: &&String| effect.starts_with("begin") && effect.contains("red-1");
        (report, case.effects().iter().filter(begun).count())
    };
    let (report, begun) = run(10).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(begun, 2);

    let (report, begun) = run(u32::MAX).await;
    let Position::Failed { reason, .. } = position(&report, "red-1") else {
        panic!("{report}");
    };
    assert!(reason.contains("etcd is not well yet"), "{reason}");
    assert_eq!(begun, 1);
}

/// The limit of a step on its node counts from its beginning there: one that was put off
/// shall not go on after it was given up.
#[tokio::test(start_paused = true)]
async fn an_upgrade_that_was_put_off_has_its_whole_time_once_it_has_begun() {
    let mut case = Case::new();
    // It begins shortly before that, and takes 20 s.
    case.policy.deadlines.upgrade = secs(150);
    {
        let faults = &mut case.world.lock().faults;
        faults.fails.insert("red-1".to_owned(), (1, true));
        faults.put_off.insert("red-1".to_owned(), 10);
    }
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
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
    case.assert_arrives().await;
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
