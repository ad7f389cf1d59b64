//! The backup of the demo: every object of the embedded cluster in one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use migrate_core::steps::{BackupArtifact, BackupProof, BackupReport};
use migrate_core::{
    BackUpData, Finding, ObjectName, Severity, StepContext, StepError, StepErrorKind, StepInput,
};
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
        let name = format!("objects-{}-{}.json", input.model.cluster, cx.fence.run);
        let path = self.folder.join(name);
        let bytes = (self.dump)();
        write_durably(&path, &bytes).map_err(|error| {
            let object = ObjectName::cluster("File", path.display().to_string());
            StepError::new(StepErrorKind::Permanent, object, error.to_string()).with_source(error)
        })?;
        let sha256: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let finding = Finding::new(
            "KM-BACKUP-001",
            Severity::Blocker,
            ObjectName::cluster("File", path.display().to_string()),
            "the objects are written down, but nobody has restored them",
            "waive KM-BACKUP-001, as the demo does",
        );
        let artifact = BackupArtifact::new(path, bytes.len() as u64, sha256);
        Ok(BackupReport::new(BackupProof::Unproven, vec![artifact]).with_finding(finding))
    }
}

/// Temporary file, fsync, rename, fsync of the folder.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}
