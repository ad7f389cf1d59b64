//! A crash at every instant that can be told apart, and what is left of it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

mod common;

use std::sync::Arc;

use common::journal::{Crashing, Moment, Watched};
use common::law::{assert_replay_law, intents};
use common::steps::{Access, context, migration};
use common::subject::{Run, Subject, run};
use common::world::World;
use migrate_core::OnDeadline;
use migrate_executor::{Journal, MemoryJournal, Record, Report, RunOutcome, Setup};
use migrate_plan::Planner;

/// A cluster in memory and what goes wrong in it besides crashes.
struct Case {
    world: World,
    then: OnDeadline,
}

impl Case {
    /// Nothing goes wrong.
    fn calm() -> Self {
        Self {
            world: World::new(),
            then: OnDeadline::Stop,
        }
    }

    /// Upgrades fail and are tried again; a node cannot be drained and is left
    /// out, so that the run ends short of the target.
    fn troubled() -> Self {
        let case = Self {
            world: World::new(),
            then: OnDeadline::Skip,
        };
        let mut world = case.world.lock();
        world.faults.fails.insert("red-1".to_owned(), (2, true));
        world.faults.fails.insert("csi".to_owned(), (1, true));
        world.faults.undrainable.insert("red-3".to_owned());
        drop(world);
        case
    }
}

impl Subject for Case {
    fn setup(&self, journal: Box<dyn Journal>, first: bool) -> Setup {
        let access = Arc::new(Access(self.world.clone()));
        let journal = Box::new(Watched(journal, self.world.clone()));
        let setup = Setup::with_access(access, migration(&self.world), journal, context("run-1"));
        if !first {
            return setup;
        }
        let (model, mut policy) = (self.world.model(), self.world.policy_with_addons());
        policy.deadlines.then = self.then;
        policy.rollout.canary_soak = std::time::Duration::from_secs(45);
        let to = self.world.lock().to.clone();
        let plan = Planner::new(&model, &policy, to).plan().unwrap();
        setup.with_plan(plan, model, policy)
    }

    fn crash_after(&self, effects: usize) {
        self.world.lock().crash_after = Some(effects);
    }

    async fn crashed(&self) {
        self.world.crashed.notified().await;
    }

    fn state(&self) -> String {
        self.world.state()
    }

    fn broken(&self) -> Vec<String> {
        let broken = self.world.lock().broken.clone();
        // Here upgrades fail on purpose and are begun again.
        broken
            .into_iter()
            .filter(|what| !what.contains("begin again"))
            .collect()
    }
}

/// A run without a crash: what the others are compared with.
async fn undisturbed(case: &Case) -> (MemoryJournal, Box<Report>) {
    let journal = MemoryJournal::new();
    let Run::Ended(report) = run(case, case.setup(Box::new(journal.clone()), true)).await else {
        panic!("it crashed");
    };
    (journal, report)
}

/// What the first part of a journal still needs: a plan, if its run has ended
/// or has not begun.
fn needs_plan(journal: &MemoryJournal) -> bool {
    let entries = journal.entries();
    let ended = |record: &Record| matches!(record, Record::RunEnded { .. });
    entries.last().is_none_or(|entry| ended(&entry.record))
}

/// Goes on after a crash, and judges what came of both.
async fn finish_and_judge(
    case: &Case,
    journal: &MemoryJournal,
    wanted: &(String, RunOutcome),
    what: &str,
) {
    let setup = case.setup(Box::new(journal.clone()), needs_plan(journal));
    let Run::Ended(report) = run(case, setup).await else {
        panic!("{what}: it crashed again");
    };
    let as_wanted = std::mem::discriminant(&report.outcome) == std::mem::discriminant(&wanted.1);
    // The crash came after the end.
    let nothing_to_do = report.outcome == RunOutcome::NothingToDo;
    assert!(as_wanted || nothing_to_do, "{what}: {report}");
    assert_eq!(report.cordons, [""; 0], "{what}");
    assert_eq!(case.state(), wanted.0, "{what}");
    assert_eq!(case.broken(), [""; 0], "{what}");
    assert_replay_law(&journal.entries());
}

/// A crash at every record, before and after it; and each time once more
/// `again` records later, if that is not 0.
async fn crash_at_every_record(case: impl Fn() -> Case, again: u64) {
    let first = case();
    let (journal, report) = undisturbed(&first).await;
    let wanted = (first.state(), report.outcome);
    for at in 0..journal.entries().len() as u64 {
        for moment in [Moment::Before, Moment::After] {
            let what = format!("{moment:?} record {at}");
            let case = case();
            let journal = MemoryJournal::new();
            let crashing = |at| Crashing {
                inner: journal.clone(),
                at,
                moment,
            };
            let crashed = run(&case, case.setup(Box::new(crashing(at)), true)).await;
            assert!(matches!(crashed, Run::Crashed), "no {what}");
            if again > 0 && !needs_plan(&journal) {
                let next = journal.entries().len() as u64 + again;
                let _ = run(&case, case.setup(Box::new(crashing(next)), false)).await;
            }
            finish_and_judge(&case, &journal, &wanted, &what).await;
        }
    }
}

async fn crash_after_every_effect(case: impl Fn() -> Case) {
    let first = case();
    let (_, report) = undisturbed(&first).await;
    let wanted = (first.state(), report.outcome);
    let effects = first.world.lock().effects.clone();
    for (count, effect) in effects.iter().enumerate() {
        let what = format!("after effect {count} ({effect})");
        let case = case();
        let journal = MemoryJournal::new();
        case.crash_after(count + 1);
        let crashed = run(&case, case.setup(Box::new(journal.clone()), true)).await;
        assert!(matches!(crashed, Run::Crashed), "no {what}");
        finish_and_judge(&case, &journal, &wanted, &what).await;
    }
}

#[tokio::test(start_paused = true)]
async fn undisturbed_it_reaches_the_target() {
    let case = Case::calm();
    let (journal, report) = undisturbed(&case).await;
    assert_eq!(report.outcome, RunOutcome::Done);
    assert_eq!(case.broken(), [""; 0]);
    assert_eq!(report.evictions, 7);
    assert_replay_law(&journal.entries());
    // Two phases for each member and addon, three for each node; two canaries are
    // confirmed; the second backup.
    assert_eq!(intents(&journal.entries()).len(), 2 * 4 + 7 * 3 + 2 + 1);
    let seqs: Vec<u64> = journal.entries().iter().map(|entry| entry.seq).collect();
    assert!(seqs.iter().copied().eq(0..seqs.len() as u64));
    // Seven cordons and uncordons, seven evictions, nine upgrades and two addons,
    // the anchor.
    assert_eq!(case.world.lock().effects.len(), 7 * 3 + 9 + 2 + 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_run_twice_gives_the_same_journal() {
    let (first, _) = undisturbed(&Case::troubled()).await;
    let (second, _) = undisturbed(&Case::troubled()).await;
    assert_eq!(first.entries(), second.entries());
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_record_before_or_after_it() {
    crash_at_every_record(Case::calm, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_record_of_a_troubled_run() {
    crash_at_every_record(Case::troubled, 0).await;
}

#[tokio::test(start_paused = true)]
async fn two_crashes_close_together() {
    crash_at_every_record(Case::troubled, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_right_after_any_effect() {
    crash_after_every_effect(Case::calm).await;
    crash_after_every_effect(Case::troubled).await;
}
