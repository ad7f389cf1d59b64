//! A run begins only with a backup of this cluster that is young enough: also where it
//! has waited since the backup was made.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use common::case::{Case, step_until};
use common::law::assert_replay_law;
use common::secs;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport, back_up_fn};
use migrate_core::{Cancellation, ClusterId, Finding, KubeVersion, Moment, StepInput};
use migrate_executor::{Executor, Record, Report, RunOutcome, StopCause};

/// Backups of `whose`, proven so far and so many seconds old, negative for those of
/// the future; counted.
fn backups(
    case: &mut Case,
    whose: &ClusterId,
    proof: impl Fn(u32) -> BackupProof + Send + Sync + 'static,
    age: i64,
) -> Arc<AtomicU32> {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let whose = whose.clone();
    case.migration.back_up = Arc::new(back_up_fn(move |cx, _| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        let now = cx.clock.now().as_millis();
        let taken = Moment::from_millis(now.saturating_add_signed(-age * 1000));
        let artifact = BackupArtifact::new(format!("/backup/{call}.db"), 1024, "00ff");
        let report = BackupReport::new(proof(call), vec![artifact]).of(whose.clone(), taken);
        Box::pin(async move { Ok(report) })
    }));
    calls
}

fn own(case: &Case) -> ClusterId {
    case.world.lock().id.clone()
}

fn blockers(report: &Report) -> Vec<String> {
    let (RunOutcome::Refused { cause } | RunOutcome::Stopped { cause }) = &report.outcome else {
        panic!("{report}");
    };
    let StopCause::Blocked { findings } = cause else {
        panic!("{report}");
    };
    findings.iter().map(|it| it.code.clone()).collect()
}

/// A backup that is `made` so keeps a run from beginning by `code` alone, and one whose policy
/// waives that is done.
async fn blocks_unless_waived(code: &str, made: impl Fn(&mut Case)) {
    let mut case = Case::new();
    made(&mut case);
    let report = case.run().await;
    assert_eq!(blockers(&report), [code]);
    let finding = report.findings.iter().find(|it| it.code == code).unwrap();
    assert!(finding.object.name.starts_with("/backup/"), "{finding}");
    assert_eq!(case.effects(), [""; 0], "nothing was changed");

    let mut case = Case::new();
    made(&mut case);
    case.policy.waive.insert(code.to_owned());
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let is_waived = |it: &Finding| it.code == code && it.waived;
    assert!(report.findings.iter().any(is_waived));
}

#[tokio::test(start_paused = true)]
async fn one_of_another_cluster_or_too_old_keeps_a_run_from_beginning_unless_waived() {
    let other = ClusterId::new("another");
    for (is_other, age, code) in [
        (true, 0, "KM-BACKUP-008"),
        (false, 3_700, "KM-BACKUP-007"),
        (false, -3_600, "KM-BACKUP-007"),
    ] {
        let made = |case: &mut Case| {
            let whose = if is_other { other.clone() } else { own(case) };
            backups(case, &whose, |_| BackupProof::Proven, age);
        };
        blocks_unless_waived(code, made).await;
    }
    // The control: one that is just young enough, or whose clock is a bit ahead.
    for age in [3_500, -30] {
        let mut case = Case::new();
        let whose = own(&case);
        backups(&mut case, &whose, |_| BackupProof::Proven, age);
        assert_eq!(case.run().await.outcome, RunOutcome::Done);
    }
}

/// The steps that had begun before the first action, by the journal.
fn backed_up_before_the_first_action(case: &Case) -> usize {
    let entries = case.journal.entries();
    let records = entries.iter().map(|entry| &entry.record);
    let before = records.take_while(|it| !matches!(it, Record::Intent { .. }));
    before
        .filter(|it| format!("{it:?}").starts_with("StepEnded { result: BackedUp"))
        .count()
}

/// A run that somebody pauses before its first action, for so many seconds.
async fn paused(case: &Case, seconds: u64) -> Report {
    case.world.pause(true);
    let mut executor = Executor::open(case.setup()).await.unwrap();
    let journal = case.journal.clone();
    let began = tokio::time::Instant::now();
    step_until(&mut executor, || began.elapsed() > secs(seconds)).await;
    let intents = journal.entries();
    let intents = intents.iter();
    let intents = intents.filter(|it| matches!(it.record, Record::Intent { .. }));
    assert_eq!(intents.count(), 0);
    case.world.pause(false);
    executor.run(&Cancellation::new()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_waited_backs_up_once_more_and_no_more_often() {
    for (waits, made) in [(60, 1), (900, 2), (3_000, 2)] {
        let mut case = Case::new();
        case.policy.backup.max_age = secs(600);
        let whose = own(&case);
        let calls = backups(&mut case, &whose, |_| BackupProof::Proven, 0);
        let report = paused(&case, waits).await;
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert_eq!(backed_up_before_the_first_action(&case), made, "{waits} s");
        // And the one after the control plane.
        let second = usize::from(report.second_backup.is_some());
        assert_eq!(calls.load(Ordering::SeqCst) as usize, made + second);
        case.assert_unbroken();
        assert_replay_law(&case.journal.entries());
    }
}

#[tokio::test(start_paused = true)]
async fn one_more_that_does_not_do_stops_the_run_and_is_taken_again_later() {
    let mut case = Case::new();
    let whose = own(&case);
    let proof = |call| match call {
        1 => BackupProof::Unproven,
        _ => BackupProof::Proven,
    };
    case.policy.backup.max_age = secs(600);
    backups(&mut case, &whose, proof, 0);
    let report = paused(&case, 900).await;
    assert!(matches!(report.outcome, RunOutcome::Stopped { .. }));
    assert_eq!(blockers(&report), ["KM-BACKUP-001"]);
    assert!(!case.effects().iter().any(|it| it.contains("cordon")));
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(backed_up_before_the_first_action(&case), 3);
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

/// Somebody else's backups: what was good enough when the run was opened is asked for
/// once more, and is too old by then.
#[tokio::test(start_paused = true)]
async fn one_that_had_some_age_when_it_came_grows_old_sooner() {
    for (waits, is_waived, made) in [(60, false, 1), (200, false, 2), (200, true, 2)] {
        let mut case = Case::new();
        case.policy.backup.max_age = secs(600);
        if is_waived {
            case.policy.waive.insert("KM-BACKUP-007".to_owned());
        }
        let whose = own(&case);
        let taken = case.context.clock.now();
        tokio::time::advance(secs(500)).await;
        case.migration.back_up = Arc::new(back_up_fn(move |_, _| {
            let artifact = BackupArtifact::new("/store/a.db", 1024, "00ff");
            let report = BackupReport::new(BackupProof::Proven, vec![artifact]);
            let report = report.of(whose.clone(), taken);
            Box::pin(async move { Ok(report) })
        }));
        case.policy.backup.after_control_plane = false;
        let report = paused(&case, waits).await;
        assert_eq!(backed_up_before_the_first_action(&case), made, "{waits} s");
        match made == 1 || is_waived {
            true => assert_eq!(report.outcome, RunOutcome::Done, "{report}"),
            false => assert_eq!(blockers(&report), ["KM-BACKUP-007"]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_aborted_waits_for_no_backup_and_takes_none() {
    for hangs in [true, false] {
        let mut case = Case::new();
        case.policy.backup.max_age = secs(600);
        case.policy.backup.after_control_plane = false;
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        case.migration.back_up = Arc::new(back_up_fn(move |_, _| {
            let call = counted.fetch_add(1, Ordering::SeqCst);
            let proof = match call {
                0 => BackupProof::Proven,
                _ => BackupProof::Unproven,
            };
            Box::pin(async move {
                if hangs && call == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(BackupReport::new(proof, Vec::new()))
            })
        }));
        case.world.pause(true);
        let mut executor = Executor::open(case.setup()).await.unwrap();
        let began = tokio::time::Instant::now();
        step_until(&mut executor, || began.elapsed() > secs(900)).await;
        case.world.pause(false);
        let report = match hangs {
            true => {
                let calls = Arc::clone(&calls);
                step_until(&mut executor, || calls.load(Ordering::SeqCst) == 2).await;
                executor.abort();
                executor.run(&Cancellation::new()).await.unwrap()
            }
            // It was taken, and does not do.
            false => {
                let report = executor.run(&Cancellation::new()).await.unwrap();
                assert_eq!(blockers(&report), ["KM-BACKUP-001"]);
                drop(executor);
                let setup = case.resume().with_abort(true);
                let mut executor = Executor::open(setup).await.unwrap();
                executor.run(&Cancellation::new()).await.unwrap()
            }
        };
        assert_eq!(report.outcome, RunOutcome::Aborted, "{report}");
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert_eq!(case.world.lock().anchor.run, None);
        case.assert_unbroken();
        assert_replay_law(&case.journal.entries());
    }
}

/// Manifests name the version whose API servers know all that is in a backup.
#[tokio::test(start_paused = true)]
async fn the_backup_after_the_control_plane_is_of_the_new_version() {
    let mut case = Case::new();
    let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let seeing = Arc::clone(&seen);
    case.migration.back_up = Arc::new(back_up_fn(move |_, input| {
        let members = input.model.control_plane.iter();
        let versions = members.map(|member| member.version.to_string());
        seeing.lock().unwrap().push(versions.collect());
        let artifact = BackupArtifact::new("/backup/a.db", 1024, "00ff");
        let report = BackupReport::new(BackupProof::Proven, vec![artifact]);
        Box::pin(async move { Ok(report) })
    }));
    let to = case.world.lock().to.to_string();
    assert_eq!(case.run().await.outcome, RunOutcome::Done);
    let seen = seen.lock().unwrap();
    let is_new = |versions: &Vec<String>| versions.iter().all(|version| *version == to);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(!is_new(&seen[0]) && is_new(&seen[1]), "{seen:?}");
}

/// What the provider of `case` says that each of its backups is of.
fn of_kubernetes(
    case: &mut Case,
    says: impl Fn(&StepInput) -> Option<KubeVersion> + Send + Sync + 'static,
) {
    case.migration.back_up = Arc::new(back_up_fn(move |_, input| {
        let artifact = BackupArtifact::new("/backup/a.db", 1024, "00ff");
        let report = BackupReport::new(BackupProof::Proven, vec![artifact]);
        let report = report.with_kubernetes(says(input));
        Box::pin(async move { Ok(report) })
    }));
}

#[tokio::test(start_paused = true)]
async fn one_of_another_version_keeps_a_run_from_beginning_unless_waived() {
    let old = || Some(KubeVersion::new(1, 1, 0));
    blocks_unless_waived("KM-BACKUP-013", |case| of_kubernetes(case, move |_| old())).await;

    // The control: of what it was told.
    let mut case = Case::new();
    of_kubernetes(&mut case, |input| input.model.oldest_api_server().cloned());
    assert_eq!(case.run().await.outcome, RunOutcome::Done);
}

/// One that somebody made before is asked for once more.
#[tokio::test(start_paused = true)]
async fn one_of_the_version_before_is_none_after_the_control_plane() {
    let mut case = Case::new();
    let first = case.world.model().oldest_api_server().cloned();
    assert_ne!(first.as_ref(), Some(&case.world.lock().to));
    of_kubernetes(&mut case, move |_| first.clone());
    let report = case.run().await;
    assert!(
        matches!(report.outcome, RunOutcome::Stopped { .. }),
        "{report}"
    );
    assert!(report.to_string().contains("KM-BACKUP-013"), "{report}");
}
