//! Restores a backup on trial: only what was restored once is a backup.

mod api;
mod content;
mod server;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::Cancellation;

use crate::blocking::off_the_runtime;
use crate::bolt::{Database, Told};
use crate::cancelled::unless_cancelled;
use crate::restore::{EtcdVersion, Membership, Restore, Restored, private_folder};
use crate::{Error, ReadError};
pub use api::ApiServer;
use content::Content;
use server::{Seen, Server};

/// Its only member, whose peer address nobody listens at.
const MEMBER: &str = "trial";

/// How far a test-restore went, weakest first.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RestoreLevel {
    /// The restored database was read again and has as many keys as the snapshot, and the
    /// hash of all keys, values and revisions. No etcd has seen it.
    ReRead,
    /// A server started on it too, and has the snapshot's revision, as many keys, and the
    /// hash that the snapshot has at the compaction of that server.
    BootedWithHash {
        /// The server's version.
        version: String,
    },
    /// An API server started on that one, and serves as many objects of each resource as the
    /// snapshot has: read, decrypted and converted, each of them.
    Served {
        /// The version of etcd.
        version: String,
        /// That of the API server.
        api_server: String,
    },
}

/// As a [manifest](crate::Manifest::trial) has it: `reRead`, `bootedWithHash 3.6.16`,
/// `served 3.6.16 v1.37.2`.
impl fmt::Display for RestoreLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReRead => f.write_str("reRead"),
            Self::BootedWithHash { version } => write!(f, "bootedWithHash {version}"),
            Self::Served {
                version,
                api_server,
            } => write!(f, "served {version} {api_server}"),
        }
    }
}

/// What a test-restore has found.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[must_use = "how far it went matters"]
pub struct TestRestored {
    /// How far it went.
    pub level: RestoreLevel,
    /// SHA-256 of the snapshot's file in hex, trailer included.
    pub sha256: String,
    /// The snapshot's last revision.
    pub revision: i64,
    /// Keys that are alive.
    pub keys: u64,
    /// The server's HashKV at that revision, if one was started: the snapshot's.
    pub hash: Option<u32>,
    /// Objects that an API server serves, if one was started; its own are among them.
    pub served: Option<u64>,
}

/// A test-restore.
///
/// # Guarantees
/// * The snapshot is restored by [`Restore`] into a folder of its own, which is
///   removed at the end; what a killed one has left, the next one removes.
/// * The server has no network: it listens on sockets in that folder, which only
///   its owner can enter, has no peers, and sees no `ETCD_` variables. No
///   client but this one can reach the Secrets in it.
/// * A server that does not get ready, or that disagrees, is an error: it never
///   lowers the level. The level is lower only if no etcd was given.
/// * Cancelled, it reads no further than to the next page, and returns when servers and
///   folder are gone. Dropped, the servers are killed; the folder of a restore that is
///   under way goes when that has ended.
///
/// The hash leaves nothing out but leases, users and members, which are in no hash of
/// etcd (see [`Database::hash_kv`]). The revision is left as it is, so that hashes can be
/// compared: that it is raised is no part of the trial. Nor are users: where the snapshot's
/// members ask for them (authentication on), a server on trial asks for none, for nobody here
/// has their passwords.
#[derive(Clone, Debug)]
pub struct TestRestore {
    snapshot: PathBuf,
    folder: PathBuf,
    etcd: Option<PathBuf>,
    api_server: Option<ApiServer>,
    sha256: Option<String>,
    patience: Duration,
    told: Option<Told>,
}

impl TestRestore {
    /// Tries `snapshot` in `folder`, which has to be there and have room for the
    /// database. Sockets lie below it, so its path has at most about 70 bytes.
    pub fn new(snapshot: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            snapshot: snapshot.into(),
            folder: folder.into(),
            etcd: None,
            api_server: None,
            sha256: None,
            patience: Duration::from_secs(120),
            told: None,
        }
    }

    /// Starts this etcd, which should be of the version that a restore would
    /// run.
    #[must_use]
    pub fn with_etcd(mut self, program: impl Into<PathBuf>) -> Self {
        self.etcd = Some(program.into());
        self
    }

    /// Starts this API server on that etcd, for reading alone, and lists every object of
    /// every resource. It has no network but its own, which leads nowhere, admits by no
    /// webhook, and no controller manager or scheduler is ever started: a live copy of a
    /// cluster would delete disks and load balancers of the real one.
    ///
    /// A snapshot has fewer of no resource than are served, but for what API servers add and
    /// remove themselves (leases, events, APIServices, addresses of Services). What they do
    /// not serve, as custom resources that only a webhook converts, or APIs that are
    /// off ([`ApiServer::with_flag`]), is an error. Without an etcd nothing is started.
    #[must_use]
    pub fn with_api_server(mut self, server: ApiServer) -> Self {
        self.api_server = Some(server);
        self
    }

    /// Refuses any other file, see [`Restore::with_sha256`].
    #[must_use]
    pub fn with_sha256(mut self, sha256: impl Into<String>) -> Self {
        self.sha256 = Some(sha256.into());
        self
    }

    /// How long the server may take until it answers; two minutes if not said.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Tells how much of the snapshot is restored; what comes after that, nobody knows how
    /// long it takes.
    pub(crate) fn telling(mut self, told: Told) -> Self {
        self.told = Some(told);
        self
    }

    /// Tries.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(&self, cancel: &Cancellation) -> Result<TestRestored, Error> {
        match self.work(cancel).await {
            // What it kept from being read is no damage.
            Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
            result => result,
        }
    }

    async fn work(&self, cancel: &Cancellation) -> Result<TestRestored, Error> {
        let version = match &self.etcd {
            Some(etcd) => {
                let version = server::version(etcd, self.patience);
                Some(unless_cancelled(cancel, version).await?)
            }
            None => None,
        };
        let target = match &version {
            Some(version) => version
                .parse()
                .map_err(|_| self.of_server("says no version"))?,
            // Nobody starts on it.
            None => EtcdVersion::new(u16::MAX, 0),
        };
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let scratch = Scratch::begin(&self.folder)?;
        let (scratch, restored, keys) = self.restore(scratch, target, cancel).await?;
        let mut found = TestRestored {
            level: RestoreLevel::ReRead,
            sha256: restored.sha256,
            revision: restored.snapshot_revision,
            keys,
            hash: None,
            served: None,
        };
        let (Some(etcd), Some(version)) = (&self.etcd, version) else {
            return Ok(found);
        };
        let mut server = Server::start(etcd, &scratch.path, self.patience)?;
        let looked = self.look(&mut server, &scratch, version, &mut found, cancel);
        let looked = looked.await;
        // Before its folder goes.
        server.stop().await;
        looked.map(|()| found)
    }

    /// What the servers have, into `found`.
    async fn look(
        &self,
        server: &mut Server,
        scratch: &Scratch,
        version: String,
        found: &mut TestRestored,
        cancel: &Cancellation,
    ) -> Result<(), Error> {
        let seen = unless_cancelled(cancel, server.look(found.revision)).await?;
        self.refuse_other(&seen, found, cancel).await?;
        found.hash = Some(seen.hash);
        let Some(api) = &self.api_server else {
            found.level = RestoreLevel::BootedWithHash { version };
            return Ok(());
        };
        let api_server = unless_cancelled(cancel, api.version(self.patience)).await?;
        let inspection = self.of_snapshot(cancel, |database| database.inspect());
        let held = inspection.await?.kubernetes;
        api.refuse_without_keys(&held.encrypted)?;
        let served = api.look(
            &self.snapshot,
            &scratch.path,
            &held.resources,
            self.patience,
            cancel,
        );
        found.served = Some(served.await?);
        found.level = RestoreLevel::Served {
            version,
            api_server,
        };
        Ok(())
    }

    /// Refuses a server that does not have what the snapshot has.
    async fn refuse_other(
        &self,
        seen: &Seen,
        found: &TestRestored,
        cancel: &Cancellation,
    ) -> Result<(), Error> {
        let (revision, compacted) = (found.revision, seen.compact_revision);
        // What was proven equal to live members is the snapshot, at another compaction.
        let hash = self.of_snapshot(cancel, move |database| {
            database.hash_kv(revision, compacted)
        });
        let hash = hash.await?;
        for (what, before, after) in [
            // No server counts back: revisions are never negative.
            (
                "revision",
                revision.cast_unsigned(),
                seen.revision.cast_unsigned(),
            ),
            ("number of keys", found.keys, seen.keys),
            ("hash", hash.into(), seen.hash.into()),
        ] {
            content::refuse_other(&self.snapshot, what, before, after)?;
        }
        Ok(())
    }

    /// What the snapshot says, read where it does not hold up the runtime.
    async fn of_snapshot<T: Send + 'static>(
        &self,
        cancel: &Cancellation,
        work: impl FnOnce(&Database) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Error> {
        let (path, cancel) = (self.snapshot.clone(), cancel.clone());
        let work = move || Ok(work(&Database::open(&path)?.until(&cancel))?);
        off_the_runtime(work).await
    }

    /// Not given up before the thread that restores has: until then it writes into the
    /// folder, and nobody else would remove that where the process ends right after.
    async fn restore(
        &self,
        scratch: Scratch,
        target: EtcdVersion,
        cancel: &Cancellation,
    ) -> Result<(Scratch, Restored, u64), Error> {
        let members = Membership::parse(&format!("{MEMBER}=http://127.0.0.1:1"), MEMBER)?;
        let data = scratch.path.join(server::DATA);
        let restore = Restore::new(&self.snapshot, &data, members, MEMBER, target);
        let restore = restore.keeping_revision().without_users();
        let mut restore = restore.with_cancel(cancel).telling(self.told.clone());
        if let Some(sha256) = &self.sha256 {
            restore = restore.with_sha256(sha256);
        }
        let snapshot = self.snapshot.clone();
        let cancel = cancel.clone();
        // The scratch folder goes along: it may not be removed while this runs.
        let work = move || {
            let restored = restore.run()?;
            let again = data.join("member/snap/db");
            let revision = restored.snapshot_revision;
            let content = Content::of_both(&snapshot, &again, revision, &cancel)?;
            Ok((scratch, restored, content.keys))
        };
        off_the_runtime(work).await
    }

    fn of_server(&self, reason: &str) -> Error {
        Error::TrialServer {
            path: self.etcd.clone().unwrap_or_default(),
            reason: reason.to_owned(),
        }
    }
}

/// A folder for one trial at a time, removed at the end.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    fn begin(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("trial.kube-migrate");
        let failed = |error| Error::file(&path, error);
        match private_folder(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        // Beside it, so that the lock outlives what it guards.
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("trial.kube-migrate.lock"))
            .map_err(failed)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::Busy { path });
        }
        fs::remove_dir_all(&path).map_err(failed)?;
        private_folder(&path).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;
    use crate::bolt::build::{Free, snapshot};
    use crate::inspect::kv::samples::put;

    /// A program that was told to stop ends right after, and what threads would still do
    /// is not done.
    #[test]
    fn the_folder_is_gone_before_it_is_said_that_it_was_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.db");
        let keys = vec![put(2, 0, "a", "1", 2, 1)];
        fs::write(&path, snapshot(4096, Free::Unlisted, &[("key", keys)])).unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        // The only thread: who restores waits for it.
        let (free, busy) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || busy.recv());
        let cancel = Cancellation::new();
        let trial = TestRestore::new(&path, folder.path());
        let scratch = folder.path().join("trial.kube-migrate");
        runtime.block_on(async {
            let mut running = std::pin::pin!(trial.run(&cancel));
            assert!(running.as_mut().now_or_never().is_none());
            assert!(scratch.exists());
            cancel.cancel();
            if let Some(ended) = running.as_mut().now_or_never() {
                panic!("{ended:?}, and its folder is there: {}", scratch.exists());
            }
            free.send(()).unwrap();
            let ended = running.await;
            assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
            assert!(!scratch.exists());
            // Nor is it made by one that was cancelled before.
            let ended = trial.run(&cancel).await;
            assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
            assert!(!scratch.exists());
        });
    }
}
