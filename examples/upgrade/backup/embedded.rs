//! The backup of the demo: the embedded cluster as a snapshot of the etcd that it would
//! have, made, tried and signed as that of a real one is.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use migrate_core::steps::{BACKUP_UNPROVEN, BackupArtifact, BackupProof, BackupReport};
use migrate_core::{
    BackUpData, Finding, ObjectName, Severity, StepContext, StepError, StepErrorKind, StepInput,
};
use migrate_etcd::{Error, Inspection, Manifest, PartFile, SigningKey, TestRestore, inspect};
use migrate_sim::SimCluster;

/// Step 2 on the embedded cluster.
pub(crate) struct EmbeddedSnapshot {
    pub(crate) cluster: Arc<SimCluster>,
    /// Where backups are made, and stay.
    pub(crate) folder: PathBuf,
    pub(crate) signing: Option<Arc<SigningKey>>,
}

#[async_trait]
impl BackUpData for EmbeddedSnapshot {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        let taken = cx.clock.now();
        let cluster = &input.model.cluster;
        // The backup after the control plane must not replace the first.
        let name = format!("etcd-{cluster}-{}-{}.db", cx.fence.run, taken.as_millis());
        // The demo is run again and again: the last one's snapshot is what counts.
        let file = PartFile::replace(&self.folder, &name).await?;
        let snapshot = self.cluster.snapshot().map_err(|error| {
            let object = ObjectName::cluster("Cluster", cluster.as_str());
            StepError::new(StepErrorKind::Permanent, object, error.to_string()).with_source(error)
        })?;
        let artifact = snapshot.write(file).await?;
        let inspection = inspected(&artifact).await?;
        let trial = TestRestore::new(&artifact.path, &self.folder).with_sha256(&artifact.sha256);
        let tried = trial.run(&cx.cancel).await?;
        let shown = artifact.path.display().to_string();
        if let Some(key) = &self.signing {
            let path = artifact.path.clone();
            let manifest = move || Manifest::of(&path, taken.into(), BackupProof::Unproven);
            let mut manifest = blocking(manifest).await?.describing(input, &inspection);
            manifest.trial = Some(tried.level.to_string());
            manifest.write(&self.folder, key).await?;
        }
        let finding = Finding::new(
            BACKUP_UNPROVEN,
            Severity::Blocker,
            ObjectName::cluster("File", shown),
            format!(
                "the snapshot is sound, and restored on trial it has its {} keys at revision {}; \
                 there is no live etcd to compare it with, and none was started on it",
                tried.keys, tried.revision
            ),
            "waive KM-BACKUP-001, as the demo does",
        );
        let report = BackupReport::new(BackupProof::Unproven, vec![artifact]);
        Ok(report.of(cluster.clone(), taken).with_finding(finding))
    }
}

async fn inspected(artifact: &BackupArtifact) -> Result<Inspection, Error> {
    let path = artifact.path.clone();
    blocking(move || Ok(inspect(&path)?)).await
}

/// Does `work` where it does not hold up the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // The runtime is shutting down.
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(Error::Cancelled))
}
