//! Restores a backup on trial: only what was restored once is a backup.

mod api;
mod content;
mod server;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::Cancellation;

use crate::Error;
use crate::bolt::Database;
use crate::inspect::inspect;
use crate::restore::{EtcdVersion, Membership, Restore, Restored, private_folder};
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
/// * Dropped or cancelled, the server is killed.
///
/// The hash leaves nothing out but leases, users and members, which are in no hash of
/// etcd (see [`Database::hash_kv`]). The revision is left as it is, so that hashes can be
/// compared: that it is raised is no part of the trial. Where etcd asks for users
/// (authentication on), its keys cannot be counted, which is an error as well.
#[derive(Clone, Debug)]
pub struct TestRestore {
    snapshot: PathBuf,
    folder: PathBuf,
    etcd: Option<PathBuf>,
    api_server: Option<ApiServer>,
    sha256: Option<String>,
    patience: Duration,
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

    /// Tries.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(&self, cancel: &Cancellation) -> Result<TestRestored, Error> {
        let work = std::pin::pin!(self.work());
        let cancelled = std::pin::pin!(cancel.cancelled());
        match futures::future::select(work, cancelled).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right(_) => Err(Error::Cancelled),
        }
    }

    async fn work(&self) -> Result<TestRestored, Error> {
        let version = match &self.etcd {
            Some(etcd) => Some(server::version(etcd, self.patience).await?),
            None => None,
        };
        let target = match &version {
            Some(version) => version
                .parse()
                .map_err(|_| self.of_server("says no version"))?,
            // Nobody starts on it.
            None => EtcdVersion::new(u16::MAX, 0),
        };
        let scratch = Scratch::begin(&self.folder)?;
        let (scratch, restored, keys) = self.restore(scratch, target).await?;
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
        let looked = self.look(&mut server, &scratch, version, &mut found).await;
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
    ) -> Result<(), Error> {
        let seen = server.look(found.revision).await?;
        self.refuse_other(&seen, found).await?;
        found.hash = Some(seen.hash);
        let Some(api) = &self.api_server else {
            found.level = RestoreLevel::BootedWithHash { version };
            return Ok(());
        };
        let api_server = api.version(self.patience).await?;
        let snapshot = self.snapshot.clone();
        let inspection = off_the_runtime(&self.snapshot, move || Ok(inspect(&snapshot)?));
        let held = inspection.await?.kubernetes;
        api.refuse_without_keys(&held.encrypted)?;
        let served = api.look(
            &self.snapshot,
            &scratch.path,
            &held.resources,
            self.patience,
        );
        found.served = Some(served.await?);
        found.level = RestoreLevel::Served {
            version,
            api_server,
        };
        Ok(())
    }

    /// Refuses a server that does not have what the snapshot has.
    async fn refuse_other(&self, seen: &Seen, found: &TestRestored) -> Result<(), Error> {
        let (revision, compacted) = (found.revision, seen.compact_revision);
        // What was proven equal to live members is the snapshot, at another compaction.
        let snapshot = self.snapshot.clone();
        let hash = off_the_runtime(&self.snapshot, move || {
            Ok(Database::open(&snapshot)?.hash_kv(revision, compacted)?)
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

    async fn restore(
        &self,
        scratch: Scratch,
        target: EtcdVersion,
    ) -> Result<(Scratch, Restored, u64), Error> {
        let members = Membership::parse(&format!("{MEMBER}=http://127.0.0.1:1"), MEMBER)?;
        let data = scratch.path.join(server::DATA);
        let mut restore =
            Restore::new(&self.snapshot, &data, members, MEMBER, target).keeping_revision();
        if let Some(sha256) = &self.sha256 {
            restore = restore.with_sha256(sha256);
        }
        let snapshot = self.snapshot.clone();
        let folder = scratch.path.clone();
        // The scratch folder goes along: it may not be removed while this runs.
        let work = move || {
            let restored = restore.run()?;
            let again = data.join("member/snap/db");
            let content = Content::of_both(&snapshot, &again, restored.snapshot_revision)?;
            Ok((scratch, restored, content.keys))
        };
        off_the_runtime(&folder, work).await
    }

    fn of_server(&self, reason: &str) -> Error {
        Error::TrialServer {
            path: self.etcd.clone().unwrap_or_default(),
            reason: reason.to_owned(),
        }
    }
}

/// Does `work` on `path` where it does not hold up the runtime.
async fn off_the_runtime<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::file(path, std::io::Error::other(error))),
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
