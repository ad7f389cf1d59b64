//! A backup that is there already.

use std::time::Duration;

use async_trait::async_trait;
use migrate_core::steps::{BackupArtifact, BackupReport};
use migrate_core::{BackUpData, StepContext, StepError, StepInput};

use super::findings::needs_key;
use crate::{Gate, PublicKey, Store};

/// Step 2 where something else makes the backups: a signed one of this cluster, at
/// this version, young enough and proven has to be in the store.
///
/// No backup is made, and none is read but its manifest: that its bytes are in the
/// store was checked when it was put there.
///
/// # Errors
/// `Permanent` if there is none, which says why those that are there do not do;
/// `Unavailable` if the store does not answer.
#[derive(Clone, Debug)]
pub struct StoredBackup {
    store: Store,
    trusted: Vec<PublicKey>,
    within: Duration,
    needs_keys: bool,
}

impl StoredBackup {
    /// One that a `trusted` key has signed, taken `within` this time.
    pub fn new(store: Store, trusted: impl Into<Vec<PublicKey>>, within: Duration) -> Self {
        Self {
            store,
            trusted: trusted.into(),
            within,
            needs_keys: true,
        }
    }

    /// See [`Gate::without_keys`].
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.needs_keys = false;
        self
    }
}

#[async_trait]
impl BackUpData for StoredBackup {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        let mut gate = Gate::new(input.model.cluster.as_str(), self.within);
        if !self.needs_keys {
            gate = gate.without_keys();
        }
        // The oldest: objects of a newer one are unknown to it.
        if let Some(version) = input.model.oldest_api_server() {
            gate = gate.with_kubernetes(version.to_string());
        }
        let catalogue = self.store.list(&self.trusted).await?;
        let backup = gate.check(&catalogue.backups, cx.clock.now().into())?;
        let path = self.store.path(&backup.file);
        let artifact = BackupArtifact::new(path, backup.bytes, backup.sha256.clone());
        let report = BackupReport::new(backup.proof, vec![artifact])
            .of(input.model.cluster.clone(), backup.taken.into())
            .with_kubernetes(backup.kubernetes.as_deref().and_then(|it| it.parse().ok()));
        let keys = backup.encryption_keys.iter();
        Ok(keys.fold(report, |report, key| {
            report.with_finding(needs_key(&backup.file, key))
        }))
    }
}
