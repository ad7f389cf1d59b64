//! A backup that is a snapshot, and no more.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use migrate_core::steps::{BackupProof, BackupReport};
use migrate_core::{BackUpData, EventKind, Step, StepContext, StepError, StepInput};

use super::findings::{forced, full, nobody_compared, plain};
use crate::SnapshotBackup;
use crate::bolt::Told;

/// Unit of what has come of a snapshot.
pub(super) const SAVED: &str = "bytes";

#[async_trait]
impl BackUpData for SnapshotBackup {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        // The run is part of the name: a resumed run saves anew rather than
        // trust what it cannot vouch for, and nothing is overwritten.
        let (cluster, taken) = (&input.model.cluster, cx.clock.now());
        let name = format!("etcd-{cluster}-{}-{}.db", cx.fence.run, taken.as_millis());
        let received = self
            .receive(&[], &name, &cx.cancel, progress(cx, SAVED))
            .await?;
        let fullness = received.member.fullness();
        let artifact = received.commit().await?;
        let shown = artifact.path.display().to_string();
        let mut findings = vec![nobody_compared(&shown), plain(&shown)];
        findings.extend(fullness.map(|fullness| full(&shown, fullness)));
        findings.extend(self.is_forced().then(|| forced(&shown)));
        let mut report = BackupReport::new(BackupProof::Unproven, vec![artifact]);
        report.findings = findings;
        let kubernetes = input.model.oldest_api_server().cloned();
        Ok(report
            .of(cluster.clone(), taken)
            .with_kubernetes(kubernetes))
    }
}

/// Tells of each 8 MiB.
pub(super) fn progress(
    cx: &StepContext,
    unit: &'static str,
) -> impl FnMut(u64, u64) + Send + use<> {
    let (cx, mut told) = (cx.clone(), 0);
    move |done, of| {
        if done == of || done.saturating_sub(told) >= 8 << 20 || done < told {
            told = done;
            tell(&cx, unit, done, of);
        }
    }
}

/// As [`progress`], for a thread that works on a snapshot of `of` bytes; the end is left to
/// who waits for it.
pub(super) fn between(cx: &StepContext, unit: &'static str, of: u64) -> Told {
    let progress = Mutex::new(progress(cx, unit));
    Told::new(move |done, _| {
        if done < of {
            progress.lock().unwrap_or_else(PoisonError::into_inner)(done, of);
        }
    })
}

/// Tells how far the backup is with what `unit` says.
pub(super) fn tell(cx: &StepContext, unit: &str, done: u64, of: u64) {
    cx.emit(EventKind::Progress {
        step: Step::BackUp,
        done,
        of: Some(of),
        unit: unit.to_owned(),
    });
}
