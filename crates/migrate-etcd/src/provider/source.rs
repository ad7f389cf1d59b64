//! Where a snapshot comes from, and that it is compared.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use migrate_core::StepContext;

use super::plain::{SAVED, progress, tell};
use crate::hash::{Compared, Phase};
use crate::limits::Limits;
use crate::room::FurtherCopy;
use crate::{Error, FindMembers, Member, SnapshotBackup};

/// Unit of what is told of the comparison.
const PROVEN: &str = "bytes proven";

/// Where the snapshot comes from.
pub(super) enum Source {
    Named(Box<SnapshotBackup>, Vec<Member>),
    Found(Arc<dyn FindMembers>, PathBuf, Limits),
}

impl Source {
    pub(super) fn limits(&mut self) -> &mut Limits {
        match self {
            Self::Named(backup, _) => backup.limits(),
            Self::Found(_, _, limits) => limits,
        }
    }

    /// Where the snapshot goes.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Named(backup, _) => backup.folder(),
            Self::Found(_, folder, _) => folder,
        }
    }

    pub(super) async fn save_compared(
        &self,
        file: &str,
        copies: Vec<FurtherCopy>,
        cx: &StepContext,
    ) -> Result<Compared, Error> {
        let mut saves = progress(cx, SAVED);
        let told = |phase: Phase, done: u64, of: u64| match phase {
            Phase::Saves => saves(done, of),
            Phase::Proves => tell(cx, PROVEN, done, of),
        };
        match self {
            Self::Named(backup, members) => {
                let backup = backup.as_ref().clone().with_copies(copies);
                backup.save_compared(file, members, &cx.cancel, told).await
            }
            Self::Found(finder, folder, limits) => {
                // The ways to them are open while `found` lives.
                let found = finder.find().await?;
                let mut backup = SnapshotBackup::new(found.source.clone(), folder);
                *backup.limits() = *limits;
                let backup = backup.with_copies(copies);
                let backup = match found.is_forced {
                    true => backup.forced(),
                    false => backup,
                };
                backup
                    .save_compared(file, &found.members, &cx.cancel, told)
                    .await
            }
        }
    }
}
