//! Addons, and the backup after the control plane.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::case::Case;
use common::law::assert_replay_law;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport, back_up_fn};
use migrate_core::{Cancellation, ObjectName, StepError, StepErrorKind};
use migrate_executor::{Error, Executor, Position, Report, RunOutcome};

fn with_addons() -> Case {
    let mut case = Case::new();
    case.policy = case.world.policy_with_addons();
    case
}

/// What was begun, in order, without the plan.
fn begun(case: &Case) -> Vec<String> {
    let effects = case.effects().into_iter();
    let begun = effects.filter(|effect| effect.starts_with("begin "));
    let names = begun.filter_map(|effect| effect.split_once('.').map(|(_, id)| id.to_owned()));
    names.collect()
}

fn touches_a_worker(begun: &[String]) -> bool {
    begun
        .iter()
        .any(|id| id.contains("red-") || id.contains("blue-"))
}

fn text(report: &Report, outcome: &str) -> String {
    let text = report.to_string();
    assert!(text.contains(outcome), "{text}");
    text
}

#[tokio::test(start_paused = true)]
async fn they_come_after_the_control_plane_and_before_the_workers() {
    let case = with_addons();
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let begun = begun(&case);
    let at = |id: &str| begun.iter().position(|begun| begun.contains(id)).unwrap();
    assert!(at("node.cp-2") < at("addon.cni") && at("addon.cni") < at("addon.csi"));
    assert!(!touches_a_worker(&begun[..at("addon.csi")]), "{begun:?}");
    assert!(report.second_backup.is_some());
    let text = text(&report, "again      Proven");
    assert!(
        text.contains("addons, verify") && text.contains("data, backup"),
        "{text}"
    );
    // All is well, and nobody wants it back.
    assert!(!text.contains("undo"), "{text}");
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

/// A negative control of the gate: the addon that does not work is what stops it.
#[tokio::test(start_paused = true)]
async fn one_that_does_not_work_stops_before_anything_else_begins() {
    let case = with_addons();
    case.world
        .lock()
        .faults
        .broken_addons
        .insert("cni".to_owned());
    let report = case.run().await;
    let text = text(
        &report,
        "addon cni failed in verify: Cluster test: no pod starts",
    );
    assert!(text.contains("undo: /undo/cni"), "{text}");
    let first = begun(&case);
    assert!(first.last().unwrap().contains("addon.cni"), "{first:?}");
    assert!(!touches_a_worker(&first));
    // Cured by a person: verified again, not upgraded again.
    case.world.lock().faults.broken_addons.clear();
    let mut executor = Executor::open(case.resume()).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    case.assert_unbroken();
}

#[tokio::test(start_paused = true)]
async fn an_abort_runs_no_undo_and_names_them() {
    let case = with_addons();
    case.world
        .lock()
        .faults
        .broken_addons
        .insert("csi".to_owned());
    let _ = case.run().await;
    let mut executor = Executor::open(case.resume().with_abort(true))
        .await
        .unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Aborted, "{report}");
    let undo = |name: &str| {
        let mut targets = report.targets.iter();
        let addon = targets.find(|at| at.target.name() == name).unwrap();
        (addon.position.clone(), addon.undo.clone().unwrap())
    };
    assert_eq!(undo("cni"), (Position::Done, "undo: /undo/cni".to_owned()));
    assert!(undo("csi").1.contains("POINT OF NO RETURN"));
    assert!(report.to_string().contains("undo: /undo/cni"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_addons_and_nobody_to_upgrade_them_is_not_opened() {
    let mut case = with_addons();
    case.migration.addons = None;
    let error = Executor::open(case.setup()).await.err().unwrap();
    assert!(
        matches!(&error, Error::NoAddonDriver { addon } if addon == "cni"),
        "{error}"
    );
    assert!(case.journal.entries().is_empty() && case.effects().is_empty());
}

/// A run whose backups after the first fail, out of reach for `away` times or
/// for good.
async fn backups_fail(case: &mut Case, kind: StepErrorKind, away: u32) -> (Report, u32) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    case.migration.back_up = Arc::new(back_up_fn(move |_, _| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if (1..=away).contains(&call) {
                let member = ObjectName::cluster("Endpoint", "etcd-1");
                return Err(StepError::new(kind, member, "the disk is full"));
            }
            let artifact = BackupArtifact::new(format!("/backup/{call}.db"), 1024, "00ff");
            Ok(BackupReport::new(BackupProof::Proven, vec![artifact]))
        })
    }));
    let report = case.run().await;
    (report, calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_second_backup_that_fails_stops_before_addons_and_workers() {
    for (kind, calls) in [
        (StepErrorKind::Permanent, 2),
        (StepErrorKind::Unavailable, 4),
    ] {
        let mut case = with_addons();
        let (report, called) = backups_fail(&mut case, kind, 99).await;
        let text = text(&report, "the second backup failed: KM-BACKUP-002");
        assert!(text.contains("the disk is full"), "{text}");
        assert_eq!(called, calls, "{kind:?}");
        let begun = begun(&case);
        assert!(begun.last().unwrap().contains("node.cp-2"), "{begun:?}");
    }
    // One that is away for a moment is asked again.
    let mut case = with_addons();
    let (report, called) = backups_fail(&mut case, StepErrorKind::Unavailable, 1).await;
    assert_eq!(
        (report.outcome.clone(), called),
        (RunOutcome::Done, 3),
        "{report}"
    );
    let path = &report.second_backup.unwrap().artifacts[0].path;
    assert_eq!(path.display().to_string(), "/backup/2.db");
}

#[tokio::test(start_paused = true)]
async fn a_second_backup_is_waived_by_its_code_or_left_out() {
    let mut case = with_addons();
    case.policy.waive.insert("KM-BACKUP-002".to_owned());
    let (report, _) = backups_fail(&mut case, StepErrorKind::Permanent, 99).await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let mut findings = report.findings.iter();
    assert!(findings.any(|found| found.code == "KM-BACKUP-002" && found.waived));
    let mut case = with_addons();
    case.policy.backup.after_control_plane = false;
    let (report, called) = backups_fail(&mut case, StepErrorKind::Permanent, 99).await;
    assert_eq!(
        (report.outcome.clone(), called),
        (RunOutcome::Done, 1),
        "{report}"
    );
    assert!(report.second_backup.is_none());
}
