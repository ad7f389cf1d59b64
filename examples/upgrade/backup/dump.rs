//! The backup of the demo: every object of the embedded cluster in one file.

use std::path::PathBuf;

use async_trait::async_trait;
use migrate_core::steps::{BACKUP_UNPROVEN, BackupArtifact, BackupProof, BackupReport};
use migrate_core::{
    BackUpData, Finding, ObjectName, Severity, StepContext, StepError, StepInput, hex,
};
use migrate_etcd::PartFile;
use sha2::{Digest, Sha256};

/// Dumps what `dump` gives into a file of a folder.
pub(crate) struct ObjectDump<F> {
    folder: PathBuf,
    dump: F,
}

impl<F: Fn() -> Vec<u8> + Send + Sync> ObjectDump<F> {
    pub(crate) fn new(folder: impl Into<PathBuf>, dump: F) -> Self {
        Self {
            folder: folder.into(),
            dump,
        }
    }
}

#[async_trait]
impl<F: Fn() -> Vec<u8> + Send + Sync> BackUpData for ObjectDump<F> {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        // The backup after the control plane must not replace the first.
        let at = cx.clock.now().as_millis();
        let name = format!("objects-{}-{}-{at}.json", input.model.cluster, cx.fence.run);
        let bytes = (self.dump)();
        // The demo is run again and again: the last one's dump is what counts.
        let mut file = PartFile::replace(&self.folder, &name).await?;
        file.write(&bytes).await?;
        let path = file.commit().await?;
        let sha256 = hex(Sha256::digest(&bytes));
        let finding = Finding::new(
            BACKUP_UNPROVEN,
            Severity::Blocker,
            ObjectName::cluster("File", path.display().to_string()),
            "the objects are written down, but nobody has restored them",
            "waive KM-BACKUP-001, as the demo does",
        );
        let artifact = BackupArtifact::new(path, bytes.len() as u64, sha256);
        Ok(BackupReport::new(BackupProof::Unproven, vec![artifact]).with_finding(finding))
    }
}
