//! The snapshot backup.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Client, SnapshotResponse, SnapshotStreaming};
use futures::future::{Either, join_all, select};
use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;
use tokio::time::Instant;

use crate::blocking::off_the_runtime;
use crate::cancelled::unless_cancelled;
use crate::defragmentation::Metrics;
use crate::limits::Limits;
use crate::part_file::PartFile;
use crate::room::{self, FurtherCopy};
use crate::save_lock::SaveLock;
use crate::standing::{Newest, Standing};
use crate::trailer::{Checked, TRAILER, TrailerCheck};
use crate::{Error, Member};

/// How often a member that is behind is asked again.
pub(crate) const BEHIND: Duration = Duration::from_millis(100);

/// How often a snapshot is begun, if each time a defragmentation comes between.
const ATTEMPTS: u32 = 3;

/// Saves a snapshot of one etcd member into a folder.
#[derive(Clone, Debug)]
pub struct SnapshotBackup {
    member: Member,
    folder: PathBuf,
    limits: Limits,
    copies: Vec<FurtherCopy>,
    is_forced: bool,
}

impl SnapshotBackup {
    /// Backs `member` up into `folder`, which is created if it is missing.
    pub fn new(member: Member, folder: impl Into<PathBuf>) -> Self {
        Self {
            member,
            folder: folder.into(),
            limits: Limits::default(),
            copies: Vec::new(),
            is_forced: false,
        }
    }

    /// Gives up when no byte comes for `stall` (default 30 s), and when the disk takes
    /// none for as long.
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Self {
        self.limits.stall = stall;
        self
    }

    /// Gives up when fewer than so many bytes a second come, on average since the
    /// beginning and the stall limit apart (default 1 MiB). The member has a copy of all
    /// that changes meanwhile: a database that is written by 1 MiB a second grows by its
    /// own size, at most, while it is saved.
    #[must_use]
    pub fn with_least_rate(mut self, bytes_per_second: u64) -> Self {
        self.limits.least_rate = bytes_per_second;
        self
    }

    /// Waits as long as this (default 5 min) for the end of a defragmentation of the
    /// member, before each attempt ([`Error::Defragmenting`]).
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Takes the snapshot even if the member knows no leader: quorum is lost, and what it
    /// has may be old, but it is there. Of several take the one with the highest revision.
    /// A learner, and a member whose data are corrupt, are refused all the same.
    ///
    /// What is forced is never proven, whoever agrees with it:
    /// [`save_proven`](Self::save_proven) refuses, and `ProvenBackup` reports it as
    /// unproven with the blocker `KM-BACKUP-010`, and says so in the manifest.
    #[must_use]
    pub fn forced(mut self) -> Self {
        self.is_forced = true;
        self
    }

    pub(crate) fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// Asks for room for these as well.
    pub(crate) fn with_copies(mut self, copies: Vec<FurtherCopy>) -> Self {
        self.copies = copies;
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn stall(&self) -> Duration {
        self.limits.stall
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.member.endpoint
    }

    /// Saves a snapshot as `name`; `progress` hears bytes received and bytes
    /// in all.
    ///
    /// Of the programs on this machine one at a time saves a member, wherever to
    /// ([`Error::AlreadySaving`]).
    ///
    /// The member says how large its database is: where the folder has not got room for
    /// that and a margin, it is not asked for a snapshot ([`Error::NoRoom`]).
    ///
    /// A defragmentation is waited for, and where one begins meanwhile, which holds up all
    /// writes until the snapshot ends, the snapshot is given up for it and begun anew, three
    /// times at most; `progress` begins anew as well. Members say so from etcd 3.5 on, among
    /// the metrics at the address of their clients; one that has them elsewhere is saved
    /// without.
    ///
    /// A cancellation is heeded until the snapshot is whole and on disk: what
    /// then is left is to give it its name.
    ///
    /// # Errors
    /// Every one leaves the folder as it was, but the folder itself is made.
    pub async fn save(
        &self,
        name: &str,
        cancel: &Cancellation,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<BackupArtifact, Error> {
        let received = self.receive(&[], name, cancel, progress).await?;
        received.commit().await
    }

    /// What [`save`](Self::save) gives a name to, taken once the member has all that those
    /// of `others` that are of its cluster, and answer, have by now.
    pub(crate) async fn receive(
        &self,
        others: &[Member],
        name: &str,
        cancel: &Cancellation,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Received, Error> {
        let work = self.between_defragmentations(others, name, progress);
        unless_cancelled(cancel, work).await
    }

    async fn between_defragmentations(
        &self,
        others: &[Member],
        name: &str,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Received, Error> {
        for _ in 0..ATTEMPTS {
            if let Some(received) = self.attempt(others, name, &mut progress).await? {
                return Ok(received);
            }
        }
        Err(self.defragmenting())
    }

    /// None: a defragmentation has begun meanwhile.
    async fn attempt(
        &self,
        others: &[Member],
        name: &str,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<Option<Received>, Error> {
        // Before anything is asked of the member: a name that is taken or a
        // folder that cannot be written costs it nothing.
        let mut file = PartFile::create(&self.folder, name).await?;
        let others = self.standings(others).await;
        let mut client = self.member.connect(self.limits.stall).await?;
        let metrics = Metrics::of(&self.member);
        let is_known = self.wait_for_defragmentation(&metrics).await?;
        let (newest, standing) = self.refuse_unfit(&mut client, &others).await?;
        let _locked = self.begin(&standing).await?;

        let check = {
            let stream = std::pin::pin!(self.stream(&mut client, &mut file, progress));
            let begins = async {
                match is_known {
                    true => metrics.begins().await,
                    false => std::future::pending().await,
                }
            };
            match select(stream, std::pin::pin!(begins)).await {
                Either::Left((check, _)) => check?,
                Either::Right(((), _)) => return Ok(None),
            }
        };
        let bytes = check.bytes();
        match check.finish() {
            Checked::Intact(sha256) => {
                file.settle().await?;
                Ok(Some(Received {
                    file,
                    bytes,
                    sha256,
                    newest,
                    member: standing,
                }))
            }
            Checked::Mismatch(_) => Err(Error::ChecksumMismatch {
                endpoint: self.member.endpoint.clone(),
            }),
            Checked::TooShort => self.broken(format!("{bytes} bytes are no database")),
        }
    }

    /// Receives all that it announces.
    async fn stream(
        &self,
        client: &mut Client,
        file: &mut PartFile,
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<TrailerCheck, Error> {
        let mut stream = self.within(0, client.snapshot()).await?;
        let begun = Instant::now();
        let mut check = TrailerCheck::default();
        let mut wanted = None;
        while let Some(blob) = self.next(&mut stream, check.bytes()).await? {
            // The first message tells the size; the trailer comes on top.
            let wanted = *wanted.get_or_insert_with(|| {
                let first = (blob.blob().len() + TRAILER) as u64;
                blob.remaining_bytes().saturating_add(first)
            });
            check.update(blob.blob());
            if check.bytes() > wanted {
                return self.broken(format!("more came than the {wanted} bytes it announced"));
            }
            file.write_within(blob.blob(), self.limits.stall).await?;
            self.refuse_slow(check.bytes(), begun.elapsed())?;
            progress(check.bytes(), wanted);
        }

        let bytes = check.bytes();
        match wanted {
            None => self.broken("it was empty".to_owned()),
            Some(wanted) if bytes != wanted => {
                self.broken(format!("{bytes} bytes came instead of {wanted}"))
            }
            Some(_) => Ok(check),
        }
    }

    fn broken<T>(&self, reason: String) -> Result<T, Error> {
        Err(Error::Truncated {
            endpoint: self.member.endpoint.clone(),
            reason,
        })
    }

    fn defragmenting(&self) -> Error {
        Error::Defragmenting {
            endpoint: self.member.endpoint.clone(),
        }
    }

    /// Whether the member says when it is being defragmented; if it is, until it is not.
    async fn wait_for_defragmentation(&self, metrics: &Metrics) -> Result<bool, Error> {
        let Some(is_active) = metrics.say().await else {
            return Ok(false);
        };
        if is_active {
            let end = tokio::time::timeout(self.limits.patience, metrics.ends()).await;
            end.map_err(|_| self.defragmenting())?;
        }
        Ok(true)
    }

    /// A member that sends a little now and then, or a disk that takes as little, stalls
    /// nobody and is never done.
    fn refuse_slow(&self, bytes: u64, took: Duration) -> Result<(), Error> {
        match took > self.limits.of(bytes) {
            false => Ok(()),
            true => Err(Error::TooSlow {
                endpoint: self.member.endpoint.clone(),
                bytes,
                took,
                least_rate: self.limits.least_rate,
            }),
        }
    }

    /// How `members` are, those that answer.
    async fn standings(&self, members: &[Member]) -> Vec<(String, Standing)> {
        let asked = members
            .iter()
            .map(|member| member.standing(self.limits.stall));
        let asked = join_all(asked).await;
        let named = members.iter().zip(asked);
        named
            .filter_map(|(member, standing)| Some((member.endpoint.clone(), standing.ok()?)))
            .collect()
    }

    /// What has to be before the member has any work of it: nobody else saves it, and
    /// there is room.
    async fn begin(&self, member: &Standing) -> Result<SaveLock, Error> {
        let (cluster, id, size) = (member.cluster, member.id, member.size);
        let (folder, copies) = (self.folder.clone(), self.copies.clone());
        let endpoint = self.member.endpoint.clone();
        let asking = move || {
            let lock = SaveLock::take(cluster, id, &folder);
            let lock = lock.map_err(|holder| Error::AlreadySaving { endpoint, holder })?;
            if size > 0 {
                room::refuse_too_little(size, &folder, &copies)?;
            }
            Ok(lock)
        };
        off_the_runtime(asking).await
    }

    /// Waits until the member has what `others` of its cluster have: a follower that
    /// hears nothing new serves snapshots too, of what was. Gives that, and how the member
    /// is then.
    async fn refuse_unfit(
        &self,
        client: &mut Client,
        others: &[(String, Standing)],
    ) -> Result<(Newest, Standing), Error> {
        let endpoint = &self.member.endpoint;
        let begun = Instant::now();
        loop {
            let standing = Standing::of(&self.within(0, client.status()).await?);
            let unfit = match self.is_forced {
                true => standing.unfit_by_force(),
                false => standing.unfit(),
            };
            if let Some(reason) = unfit {
                return Err(Error::MemberUnfit {
                    endpoint: endpoint.clone(),
                    reason,
                });
            }
            let newest = Newest::of(others, standing.cluster);
            if standing.revision >= newest.revision {
                return Ok((newest, standing));
            }
            if begun.elapsed() >= self.limits.stall {
                return Err(newest.than(endpoint, standing.revision));
            }
            tokio::time::sleep(BEHIND).await;
        }
    }

    /// The next piece that carries bytes.
    async fn next(
        &self,
        stream: &mut SnapshotStreaming,
        bytes: u64,
    ) -> Result<Option<SnapshotResponse>, Error> {
        // Empty messages are no progress: the limit is over all of them. A
        // member that cannot read its database sends them without end and as
        // fast as it can, so between two of them the limit needs a look.
        let next = async {
            loop {
                match stream.message().await? {
                    Some(message) if message.blob().is_empty() => tokio::task::yield_now().await,
                    last => return Ok(last),
                }
            }
        };
        self.within(bytes, next).await
    }

    async fn within<T>(
        &self,
        bytes: u64,
        work: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.limits.stall, work).await {
            Ok(result) => result.map_err(|error| Error::etcd(&self.member.endpoint, bytes, error)),
            Err(_) => Err(Error::Stalled {
                endpoint: self.member.endpoint.clone(),
                bytes,
                stall: self.limits.stall,
            }),
        }
    }
}

/// A snapshot that is whole and on disk, but without its name: nobody takes it for a
/// backup. It goes when this is dropped, and with the next file in its folder where the
/// process is killed.
#[derive(Debug)]
pub(crate) struct Received {
    file: PartFile,
    bytes: u64,
    sha256: String,
    /// What it has to reach.
    pub(crate) newest: Newest,
    /// What the member that it is of said right before.
    pub(crate) member: Standing,
}

impl Received {
    /// As it is now.
    pub(crate) fn unnamed(&self) -> BackupArtifact {
        BackupArtifact::new(self.file.part(), self.bytes, self.sha256.clone())
    }

    /// Where it is to be.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives it its name.
    pub(crate) async fn commit(self) -> Result<BackupArtifact, Error> {
        let path = self.file.commit().await?;
        Ok(BackupArtifact::new(path, self.bytes, self.sha256))
    }

    /// Takes it away: another file is the backup.
    #[cfg(feature = "seal")]
    pub(crate) fn discard(self) -> Result<(), Error> {
        self.file.discard()
    }
}
