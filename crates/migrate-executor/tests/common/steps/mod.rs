//! The five steps, and the executor's own access, over the cluster in memory.

mod access;
mod drainer;
mod driver;
mod verifier;

use std::sync::Arc;

use async_trait::async_trait;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport};
use migrate_core::{
    BackUpData, Clock, Fence, Finding, Migration, ObjectName, PrepareEnvironment, Severity,
    StepContext, StepError, StepErrorKind, StepInput, StepReport,
};
use tokio::time::sleep;

pub(crate) use self::access::Access;
use self::drainer::Drainer;
use self::driver::Driver;
use self::verifier::Verifier;
use super::world::World;
use super::{clock, secs};

/// The steps over `world`: nothing found, a proven backup.
pub(crate) fn migration(world: &World) -> Migration {
    migration_with(world, Vec::new(), BackupProof::Proven)
}

/// The steps over `world`: these codes found as blockers, a backup so proven.
pub(crate) fn migration_with(
    world: &World,
    codes: Vec<&'static str>,
    proof: BackupProof,
) -> Migration {
    Migration::new(
        Arc::new(Check(codes, world.clone())),
        Arc::new(Backup(proof)),
        Arc::new(Driver(world.clone())),
        Arc::new(Drainer(world.clone())),
        Arc::new(Verifier(world.clone())),
    )
    .with_addons(Arc::new(Driver(world.clone())))
}

/// A check that finds what it is told to.
struct Check(Vec<&'static str>, World);

#[async_trait]
impl PrepareEnvironment for Check {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<StepReport, StepError> {
        sleep(secs(1)).await;
        let away = &mut self.1.lock().faults.preflight_away;
        if *away > 0 {
            *away -= 1;
            return Err(trouble(StepErrorKind::Unavailable, "the API is away"));
        }
        let object = ObjectName::cluster("Node", "red-1");
        let finding = |code: &&str| {
            Finding::new(
                *code,
                Severity::Blocker,
                object.clone(),
                "it is so",
                "change it",
            )
        };
        Ok(StepReport::new(self.0.iter().map(finding).collect()))
    }
}

struct Backup(BackupProof);

#[async_trait]
impl BackUpData for Backup {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<BackupReport, StepError> {
        sleep(secs(2)).await;
        let artifact = BackupArtifact::new("/backup/etcd.db", 1024, "00ff");
        Ok(BackupReport::new(self.0, vec![artifact]))
    }
}

pub(crate) fn context(run: &str) -> StepContext {
    let clock: Arc<dyn Clock> = Arc::new(clock());
    StepContext::new(clock, Fence::without_lease(run))
}

fn trouble(kind: StepErrorKind, what: &str) -> StepError {
    StepError::new(kind, ObjectName::cluster("Cluster", "test"), what)
}
