//! What a run does when people and things get in its way.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use common::journal::Full;
use common::law::{assert_replay_law, intents};
use common::secs;
use common::steps::{Access, context, migration, migration_with};
use common::world::{Anchor, Cordon, World};
use migrate_core::steps::BackupProof;
use migrate_core::{
    Cancellation, ClusterId, ClusterModel, Migration, OnDeadline, Phase, Policy, Severity,
    StepContext,
};
use migrate_executor::{
    Error, Executor, MemoryJournal, Position, Record, Report, RunOutcome, Setup, StepOutcome,
    StopCause, adoptable_model,
};
use migrate_plan::{Planner, StopReason};

/// A world, the journal of its run, and what the run is told.
struct Case {
    world: World,
    journal: MemoryJournal,
    policy: Policy,
    migration: Migration,
    context: StepContext,
    adopt: bool,
}

impl Case {
    fn new() -> Self {
        let world = World::new();
        Self {
            policy: world.policy(),
            migration: migration(&world),
            journal: MemoryJournal::new(),
            context: context("run-1"),
            adopt: false,
            world,
        }
    }

    /// The same world, and a new journal for a new run.
    fn again(&self, run: &str) -> Self {
        Self {
            world: self.world.clone(),
            policy: self.policy.clone(),
            migration: self.migration.clone(),
            journal: MemoryJournal::new(),
            context: context(run),
            adopt: false,
        }
    }

    /// A setup with a plan of the world as it is now.
    fn setup(&self) -> Setup {
        self.setup_from(self.world.model())
    }

    fn setup_from(&self, model: ClusterModel) -> Setup {
        let to = self.world.lock().to.clone();
        let plan = Planner::new(&model, &self.policy, to).plan().unwrap();
        self.resume()
            .with_plan(plan, model, self.policy.clone())
            .with_adopt(self.adopt)
    }

    /// A setup without a plan.
    fn resume(&self) -> Setup {
        Setup::with_access(
            Arc::new(Access(self.world.clone())),
            self.migration.clone(),
            Box::new(self.journal.clone()),
            self.context.clone(),
        )
    }

    async fn run(&self) -> Report {
        let mut executor = Executor::open(self.setup()).await.unwrap();
        executor.run(&Cancellation::new()).await.unwrap()
    }

    fn effects(&self) -> Vec<String> {
        self.world.lock().effects.clone()
    }

    fn assert_unbroken(&self) {
        assert_eq!(self.world.lock().broken, [""; 0]);
    }
}

fn position<'a>(report: &'a Report, name: &str) -> &'a Position {
    let standing = report.targets.iter().find(|standing| {
        standing.target.name() == name && format!("{:?}", standing.target).starts_with("Node")
    });
    &standing.unwrap().position
}

/// Steps until `done` says so.
async fn step_until(executor: &mut Executor, mut done: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        let _ = executor.step().await.unwrap();
    }
    panic!("it never came to that");
}

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
    assert!(
        report.findings.iter().any(|f| f.code == "KM-RUN-001"),
        "one machine only"
    );
    assert!(report.to_string().contains("blocker (waived)"));
}

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
        assert_eq!(case.world.lock().anchor, Anchor::default());
        case.assert_unbroken();
        assert_replay_law(&case.journal.entries());
    }
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
    let mut setup = case.setup();
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
    let case = Case::new();
    case.world
        .lock()
        .nodes
        .get_mut("blue-1")
        .unwrap()
        .unschedulable = true;
    let report = case.run().await;
    // The verifier of this test wants every node in use: that is its affair.
    assert!(!matches!(report.outcome, RunOutcome::Running));
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
        paused: false,
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
async fn the_report_is_data_and_text() {
    let case = Case::new();
    let report = case.run().await;
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let text = report.to_string();
    for part in [
        "outcome    done",
        "v1.36.4 -> v1.37.1",
        "predicted",
        "T = N·D/S",
        "9 done",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(report.duration.actual > secs(100));
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
