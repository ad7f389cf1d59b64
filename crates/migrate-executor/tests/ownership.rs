//! Whether a run may begin at all, and whose the cluster is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;

use common::case::{Case, step_until};
use common::law::assert_replay_law;
use common::secs;
use common::steps::{Access, migration_with};
use common::world::{Anchor, Cordon};
use migrate_core::steps::BackupProof;
use migrate_core::{Cancellation, ClusterId, Phase, Severity};
use migrate_executor::{
    Error, Executor, Record, Report, ReportPage, RunOutcome, RunStep, StepOutcome, StopCause,
    adoptable_model,
};

#[tokio::test(start_paused = true)]
async fn a_second_run_finds_nothing_to_do_and_writes_nothing() {
    let first = Case::new();
    assert_eq!(first.run().await.outcome, RunOutcome::Done);
    let (records, effects) = (first.journal.entries().len(), first.effects().len());
    let report = first.run().await;
    assert_eq!(report.outcome, RunOutcome::NothingToDo);
    assert_eq!(
        (first.journal.entries().len(), first.effects().len()),
        (records, effects)
    );
    let second = first.again("run-2");
    assert_eq!(second.run().await.outcome, RunOutcome::NothingToDo);
    assert_eq!(
        (second.journal.entries().len(), first.effects().len()),
        (0, effects)
    );
}

#[tokio::test(start_paused = true)]
async fn blockers_stop_it_before_anything_is_changed_unless_they_are_waived() {
    let mut case = Case::new();
    case.migration = migration_with(
        &case.world,
        vec!["KM-PDB-001", "KM-NODE-001"],
        BackupProof::Unproven,
    );
    case.policy.waive = BTreeSet::from(["KM-PDB-001".to_owned()]);
    let report = case.run().await;
    let RunOutcome::Refused {
        cause: StopCause::Blocked { findings },
    } = &report.outcome
    else {
        panic!("{report}");
    };
    assert_eq!(
        findings.iter().map(|f| &*f.code).collect::<Vec<_>>(),
        ["KM-NODE-001"]
    );
    assert_eq!(
        report.findings.len(),
        2,
        "all are reported, the waived one too"
    );
    assert_eq!(case.effects(), [""; 0]);

    // The backup is asked only now, and its proof is not enough.
    case.policy.waive.insert("KM-NODE-001".to_owned());
    let report = case.run().await;
    assert!(
        matches!(report.outcome, RunOutcome::Refused { .. }),
        "{report}"
    );
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.code == "KM-BACKUP-001" && f.blocks())
    );
    assert_eq!(case.effects(), [""; 0]);

    case.policy.waive.insert("KM-BACKUP-001".to_owned());
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let waived: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.waived)
        .map(|f| &*f.code)
        .collect();
    assert_eq!(waived, ["KM-PDB-001", "KM-NODE-001", "KM-BACKUP-001"]);
    assert!(report.to_string().contains("blocker (waived)"));
}

#[tokio::test(start_paused = true)]
async fn a_waiver_of_one_object_lets_only_that_one_pass_and_an_idle_one_is_told() {
    let mut case = Case::new();
    let codes = vec!["KM-PDB-001", "KM-NODE-001"];
    case.migration = migration_with(&case.world, codes, BackupProof::Proven);
    case.policy.waive = BTreeSet::from([
        "KM-PDB-001 nobody/else".to_owned(),
        "KM-NODE-001".to_owned(),
    ]);
    let report = case.run().await;
    let RunOutcome::Refused {
        cause: StopCause::Blocked { findings },
    } = &report.outcome
    else {
        panic!("{report}");
    };
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!(findings[0].code, "KM-PDB-001");
    let object = findings[0].object.to_string();
    let idle: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.code == "KM-POLICY-001")
        .collect();
    assert_eq!(idle.len(), 1, "{report}");
    assert!(idle[0].evidence.contains(&object), "{}", idle[0]);

    case.policy.waive.remove("KM-PDB-001 nobody/else");
    case.policy.waive.insert(format!("KM-PDB-001 {object}"));
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let waived = report.findings.iter().filter(|finding| finding.waived);
    assert_eq!(waived.count(), 2, "{report}");
    assert_eq!(report.findings.len(), 2, "{report}");
}

#[tokio::test(start_paused = true)]
async fn another_cluster_is_refused_by_name() {
    let case = Case::new();
    let setup = case.setup();
    let mut executor = Executor::open(setup).await.unwrap();
    let _ = executor.step().await.unwrap();
    drop(executor);
    let setup = case.setup();
    let other = ClusterId::new("6f9e0d35-0000-4000-8000-00000000000b");
    case.world.lock().id = other.clone();
    let error = Executor::open(setup.with_adopt(true)).await.unwrap_err();
    assert!(matches!(&error, Error::OtherCluster { cluster, .. } if *cluster == other));
    assert!(error.to_string().contains("run-1"), "{error}");

    // An empty journal, and a plan for the cluster as it was called before.
    let fresh = case.again("run-2");
    case.world.lock().id = ClusterId::new("6f9e0d35-0000-4000-8000-000000000001");
    let setup = fresh.setup();
    case.world.lock().id = other;
    let error = Executor::open(setup).await.unwrap_err();
    assert!(
        matches!(error, Error::PlanForOtherCluster { .. }),
        "{error}"
    );
    assert_eq!(case.effects(), [""; 0]);
    assert_eq!(fresh.journal.entries(), []);
}

#[tokio::test(start_paused = true)]
async fn another_journal_policy_or_target_is_refused_by_name() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || case.world.lock().anchor.run.is_some()).await;
    drop(executor);
    let other = case.again("run-2");
    let error = Executor::open(other.setup()).await.unwrap_err();
    assert!(
        matches!(&error, Error::OtherRun { run, .. } if run == "run-1"),
        "{error}"
    );
    assert_eq!(other.journal.entries(), []);

    let mut changed = Case::new();
    changed.world = case.world.clone();
    changed.journal = case.journal.clone();
    changed.policy.deadlines.verify = secs(77);
    let error = Executor::open(changed.setup()).await.unwrap_err();
    assert!(matches!(error, Error::OtherPolicy { .. }), "{error}");
    changed.policy = case.policy.clone();
    case.world.lock().to = common::world::version("v1.37.2");
    let error = Executor::open(changed.setup()).await.unwrap_err();
    assert!(matches!(error, Error::OtherTarget { .. }), "{error}");

    let empty = Case::new();
    let error = Executor::open(empty.resume()).await.unwrap_err();
    assert!(matches!(error, Error::NothingPlanned { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_journal_is_adopted_from_what_the_nodes_say() {
    // In the middle of a run, at every tenth second of it.
    for seconds in (15..400).step_by(10) {
        let lost = Case::new();
        let mut executor = Executor::open(lost.setup()).await.unwrap();
        let cancel = Cancellation::new();
        let run = Box::pin(executor.run(&cancel));
        if tokio::time::timeout(secs(seconds), run).await.is_ok() {
            break;
        }
        drop(executor);
        let mut case = lost.again("run-2");
        let anchor = lost.world.lock().anchor.clone();
        if anchor.run.is_some() {
            let error = Executor::open(case.setup()).await.unwrap_err();
            assert!(matches!(error, Error::OtherRun { .. }), "{error}");
        }
        // What drivers began ends by itself before anybody adopts the run.
        tokio::time::sleep(secs(60)).await;
        lost.world.lock().effects.clear();
        case.adopt = true;
        let model = adoptable_model(&Access(case.world.clone()), case.world.model()).await;
        let mut executor = Executor::open(case.setup_from(model.unwrap()))
            .await
            .unwrap();
        let report = executor.run(&Cancellation::new()).await.unwrap();
        assert_eq!(
            report.outcome,
            RunOutcome::Done,
            "after {seconds} s: {report}"
        );
        let claimed = anchor.run.is_some();
        assert_eq!(report.run, if claimed { "run-1" } else { "run-2" });
        assert_eq!(report.cordons, [""; 0], "after {seconds} s");
        let anchor = case.world.lock().anchor.clone();
        assert!(anchor.run.is_none() && anchor.holder.is_none());
        case.assert_unbroken();
        assert_replay_law(&case.journal.entries());
    }
}

/// A run of a lost journal, ended in the middle, its adopter, and what of the
/// world taking nodes over would change.
async fn paused_before_its_adoption() -> (Case, Executor, String) {
    let lost = Case::new();
    let mut executor = Executor::open(lost.setup()).await.unwrap();
    step_until(&mut executor, || {
        let effects = lost.effects();
        effects
            .iter()
            .any(|e| e.starts_with("begin") && e.contains("red"))
    })
    .await;
    drop(executor);
    // The node is at the target by now: taking over gives it back.
    tokio::time::sleep(secs(60)).await;
    lost.world.pause(true);
    lost.world.lock().effects.clear();
    let mut case = lost.again("run-2");
    case.adopt = true;
    let model = adoptable_model(&Access(case.world.clone()), case.world.model()).await;
    let setup = case.setup_from(model.unwrap());
    let mut executor = Executor::open(setup).await.unwrap();
    let held = |entry: &migrate_executor::Entry| {
        let step = RunStep::TakeOver;
        entry.record == Record::StepBegan { step }
    };
    step_until(&mut executor, || case.journal.entries().iter().any(held)).await;
    let nodes = nodes_of(&case);
    (case, executor, nodes)
}

/// Cordons and stamps of all nodes.
fn nodes_of(case: &Case) -> String {
    let world = case.world.lock();
    let nodes = world.nodes.iter();
    nodes
        .map(|(name, it)| format!("{name} {} {:?} {}\n", it.unschedulable, it.cordon, it.stamp))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_adopted_run_that_is_paused_touches_no_node_until_it_is_let_go() {
    let (case, mut executor, before) = paused_before_its_adoption().await;
    let mut outcome = StepOutcome::Progressed;
    for _ in 0..120 {
        outcome = executor.step().await.unwrap();
    }
    assert_eq!(nodes_of(&case), before);
    assert_eq!(case.effects(), ["claim"]);
    let StepOutcome::Wait { reasons, until } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reasons.iter().any(|reason| reason.on == "paused"));
    assert!(until.is_some());

    case.world.pause(false);
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let waited = report.waits.iter().find(|wait| wait.on == "paused");
    assert!(waited.unwrap().total >= secs(60), "{:?}", report.waits);
    assert_eq!(report.cordons, [""; 0]);
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn an_adopted_run_that_is_paused_can_be_cancelled() {
    let (case, mut executor, before) = paused_before_its_adoption().await;
    executor.cancel();
    let report = tokio::time::timeout(secs(3600), executor.run(&Cancellation::new())).await;
    let outcome = report.unwrap().unwrap().outcome;
    assert!(matches!(outcome, RunOutcome::Stopped { .. }), "{outcome:?}");
    assert_eq!(nodes_of(&case), before);

    case.world.pause(false);
    let mut executor = Executor::open(case.resume()).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_replay_law(&case.journal.entries());
}

#[tokio::test(start_paused = true)]
async fn the_old_runner_of_an_adopted_run_leaves_off() {
    let old = Case::new();
    let mut first = Executor::open(old.setup()).await.unwrap();
    step_until(&mut first, || {
        old.effects().iter().any(|e| e.starts_with("cordon red"))
    })
    .await;
    let mut case = old.again("run-2");
    case.adopt = true;
    let model = adoptable_model(&Access(case.world.clone()), case.world.model()).await;
    let mut setup = case.setup_from(model.unwrap());
    setup.journal = Box::new(common::journal::Elsewhere(case.journal.clone()));
    let mut second = Executor::open(setup).await.unwrap();
    let begun = |entry: &migrate_executor::Entry| matches!(entry.record, Record::Input { .. });
    step_until(&mut second, || case.journal.entries().iter().any(begun)).await;
    let report = first.run(&Cancellation::new()).await.unwrap();
    let lost = |cause: &StopCause| matches!(cause, StopCause::AnchorLost { .. });
    assert!(
        matches!(&report.outcome, RunOutcome::Interrupted { cause } if lost(cause)),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cordon_that_somebody_else_set_stays() {
    let mut case = Case::new();
    case.policy.waive.insert("KM-NODE-003".to_owned());
    case.world
        .lock()
        .nodes
        .get_mut("blue-1")
        .unwrap()
        .unschedulable = true;
    let report = case.run().await;
    // The verifier of this test wants every node in use: that is its affair.
    assert!(!matches!(
        report.outcome,
        RunOutcome::Running | RunOutcome::Refused { .. }
    ));
    let world = case.world.lock();
    let blue = &world.nodes["blue-1"];
    assert!(blue.unschedulable && blue.cordon.is_none(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lost_its_anchor_leaves_off() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        case.effects().iter().any(|e| e.starts_with("cordon"))
    })
    .await;
    case.world.lock().anchor = Anchor {
        run: Some("run-9".to_owned()),
        journal: Some("elsewhere".to_owned()),
        epoch: 2,
        ..Anchor::default()
    };
    let report = executor.run(&Cancellation::new()).await.unwrap();
    let lost = StopCause::AnchorLost {
        run: Some("run-9".to_owned()),
        journal: Some("elsewhere".to_owned()),
    };
    assert_eq!(report.outcome, RunOutcome::Interrupted { cause: lost });
    let ended = |entry: &migrate_executor::Entry| matches!(entry.record, Record::RunEnded { .. });
    assert!(!case.journal.entries().iter().any(ended));
}

#[tokio::test(start_paused = true)]
async fn the_report_is_data_and_text() {
    let case = Case::new();
    let report = case.run().await;
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);
    let newer = json.replacen("\"schema\":1", "\"schema\":2", 1);
    let error = Report::from_json(&newer).unwrap_err();
    assert!(
        error.to_string().starts_with("the report has schema 2"),
        "{error}"
    );
    let text = report.to_string();
    for part in [
        "outcome    done",
        "v1.36.4 -> v1.37.1",
        "predicted",
        "T = N·D/S",
        // Two members, seven nodes and the second backup.
        "10 done",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(report.duration.actual > secs(100));
    let (bound, gap) = (report.duration.lower_bound, report.duration.gap_permille);
    let (bound, gap) = (bound.unwrap(), gap.unwrap());
    let above = (report.duration.predicted - bound).as_millis() * 1000;
    assert_eq!(u128::from(gap), above.div_ceil(bound.as_millis()));
    let said = format!("predicted is {}.{} % above", gap / 10, gap % 10);
    assert!(text.contains(&said), "no {said:?} in\n{text}");
    let page = ReportPage::new(&report).to_string();
    let said = format!("{}.{} %", gap / 10, gap % 10);
    assert!(page.contains("predicted above that") && page.contains(&said));
    // A plan of an older release has no bounds, and its report none.
    let mut older: serde_json::Value = serde_json::from_str(&json).unwrap();
    let durations = older["duration"].as_object_mut().unwrap();
    durations.remove("lowerBound").unwrap();
    durations.remove("gapPermille").unwrap();
    let older = Report::from_json(&older.to_string()).unwrap();
    assert_eq!(older.duration.lower_bound, None);
    assert!(!older.to_string().contains("no order is faster"));
    let alone = report.phases.iter().filter(|row| row.pool.is_none());
    let alone: Vec<Phase> = alone.map(|row| row.phase).collect();
    assert_eq!(alone, [Phase::Upgrade, Phase::Verify, Phase::BackUp]);
    let nodes = report.phases.iter().filter(|row| row.phase == Phase::Drain);
    let nodes: u32 = nodes.map(|row| row.targets).sum();
    assert_eq!(
        usize::try_from(nodes).unwrap(),
        case.world.lock().nodes.len()
    );
    for row in &report.phases {
        assert!(!row.predicted.is_zero() && !row.actual.is_zero(), "{row:?}");
        assert!(
            row.actual <= report.duration.actual * row.targets,
            "{row:?}"
        );
    }
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.severity != Severity::Blocker)
    );
    assert!(case.world.lock().nodes.values().all(|node| node.cordon
        != Some(Cordon {
            run: "run-1".to_owned(),
            before: false,
        })));
}
