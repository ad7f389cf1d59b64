//! A whole run in this process, from the crates, as an in-house tool makes it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kube::Client;
use migrate_core::steps::{
    BackupProof, BackupReport, DrainCommand, DrainCommands, DrainEvent, DrainEvents, DrainOutcome,
};
use migrate_core::{
    BackUpData, Cancellation, Clock, Fence, MigratePods, Migration, Policy, StepContext, StepError,
    StepInput, UpgradeComponents,
};
use migrate_executor::{Executor, Journal, Pace, Report, Setup};
use migrate_kube::{TokioClock, observe};
use migrate_plan::Planner;
use migrate_preflight::Preflight;
use migrate_testbed::ControlPlane;
use migrate_upgrade::{AddonHook, CommandHook};
use migrate_verify::ClusterHealth;

use super::cluster::TARGET;

/// What a run is made of.
pub(crate) struct Parts {
    /// Whose requests they are.
    pub(crate) client: Client,
    pub(crate) run: String,
    pub(crate) policy: Policy,
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) back_up: Arc<dyn BackUpData>,
    pub(crate) migrate: Arc<dyn MigratePods>,
}

/// Plans and runs an upgrade to [`TARGET`] with the testbed's hooks.
pub(crate) async fn upgrade(plane: &ControlPlane, parts: Parts) -> Report {
    upgrade_to(plane, TARGET, parts).await
}

/// Plans and runs an upgrade with the testbed's hooks.
pub(crate) async fn upgrade_to(plane: &ControlPlane, target: &str, parts: Parts) -> Report {
    let client = parts.client;
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    let model = observe(&client, clock.now()).await.unwrap();
    let target = target.parse().unwrap();
    let plan = Planner::new(&model, &parts.policy, target).plan().unwrap();
    let hook = plane.hook_program();
    let hook = Arc::new(CommandHook::new(hook, hook).unwrap());
    let mut migration = Migration::new(
        Arc::new(Preflight::new(client.clone())),
        parts.back_up,
        Arc::clone(&hook) as Arc<dyn UpgradeComponents>,
        parts.migrate,
        Arc::new(ClusterHealth::new(client.clone())),
    )
    .with_addons(Arc::new(AddonHook::new(&parts.policy.addons).unwrap()));
    migration.prepare.push(hook);
    let context = StepContext::new(clock, Fence::without_lease(parts.run));
    let mut pace = Pace::default();
    // Nothing here takes as long as on machines.
    pace.probe = Duration::from_millis(500);
    pace.verify = Duration::from_millis(500);
    pace.retry = Duration::from_secs(1);
    let setup = Setup::new(client, migration, parts.journal, context)
        .with_pace(pace)
        .with_plan(plan, model, parts.policy);
    let mut executor = Executor::open(setup).await.unwrap();
    let never = Cancellation::new();
    let run = executor.run(&never);
    tokio::time::timeout(Duration::from_secs(300), run)
        .await
        .expect("the run to end")
        .unwrap()
}

/// The policy of a file's text.
pub(crate) fn policy(text: &str) -> Policy {
    kube_migrate::policy_from_toml(text).unwrap()
}

/// Backs nothing up, which policies here accept.
pub(crate) struct NoBackup;

#[async_trait]
impl BackUpData for NoBackup {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<BackupReport, StepError> {
        Ok(BackupReport::new(BackupProof::None, Vec::new()))
    }
}

/// Says that every node is empty, and does nothing.
pub(crate) struct NoDrain;

#[async_trait]
impl MigratePods for NoDrain {
    async fn migrate(
        &self,
        _: &StepContext,
        _: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        let answer = |command| match command {
            DrainCommand::Drain { node } => {
                DrainEvent::drained(node, DrainOutcome::Empty { evictions: 0 })
            }
            DrainCommand::Release { node } => DrainEvent::Released { node, error: None },
            _ => unreachable!("a command this test does not know"),
        };
        Ok(commands.map(answer).boxed())
    }
}
