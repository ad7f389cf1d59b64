//! A run over the cluster in memory.

use std::sync::Arc;

use migrate_core::{Cancellation, ClusterModel, Migration, Policy, StepContext};
use migrate_executor::{Executor, MemoryJournal, Position, Report, RunOutcome, Setup};
use migrate_plan::Planner;

use super::journal::Watched;
use super::law::assert_replay_law;
use super::steps::{Access, context, migration};
use super::world::World;

/// A world, the journal of its run, and what the run is told.
pub(crate) struct Case {
    pub(crate) world: World,
    pub(crate) journal: MemoryJournal,
    pub(crate) policy: Policy,
    pub(crate) migration: Migration,
    pub(crate) context: StepContext,
    pub(crate) adopt: bool,
}

impl Case {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn again(&self, run: &str) -> Self {
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
    pub(crate) fn setup(&self) -> Setup {
        self.setup_from(self.world.model())
    }

    pub(crate) fn setup_from(&self, model: ClusterModel) -> Setup {
        let to = self.world.lock().to.clone();
        let plan = Planner::new(&model, &self.policy, to).plan().unwrap();
        self.resume()
            .with_plan(plan, model, self.policy.clone())
            .with_adopt(self.adopt)
    }

    /// A setup without a plan.
    pub(crate) fn resume(&self) -> Setup {
        Setup::with_access(
            Arc::new(Access(self.world.clone())),
            self.migration.clone(),
            Box::new(Watched(Box::new(self.journal.clone()), self.world.clone())),
            self.context.clone(),
        )
    }

    pub(crate) async fn run(&self) -> Report {
        let mut executor = Executor::open(self.setup()).await.unwrap();
        executor.run(&Cancellation::new()).await.unwrap()
    }

    /// Opens the journal, and is done in the end without anything broken.
    pub(crate) async fn assert_arrives(&self) {
        let report = self.run().await;
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        self.assert_unbroken();
        assert_replay_law(&self.journal.entries());
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        self.world.lock().effects.clone()
    }

    pub(crate) fn assert_unbroken(&self) {
        assert_eq!(self.world.lock().broken, [""; 0]);
    }
}

pub(crate) fn position<'a>(report: &'a Report, name: &str) -> &'a Position {
    let standing = report.targets.iter().find(|standing| {
        standing.target.name() == name && format!("{:?}", standing.target).starts_with("Node")
    });
    &standing.unwrap().position
}

/// Steps until `done` says so.
pub(crate) async fn step_until(executor: &mut Executor, mut done: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if done() {
            return;
        }
        let _ = executor.step().await.unwrap();
    }
    panic!("it never came to that");
}
