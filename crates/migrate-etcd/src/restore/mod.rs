//! Restores a snapshot into a new data folder, without etcd.

mod data_dir;
pub(crate) mod database;
mod membership;
mod restored;
mod v2;
mod version;

use std::fs::File;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{Cancellation, hex};
use sha2::{Digest, Sha256};

pub use membership::Membership;
pub use restored::Restored;
pub use version::EtcdVersion;

use crate::bolt::{Database, Told};
use crate::trailer::{Checked, TRAILER, TrailerCheck};
use crate::{Error, ReadError, read, wal};
use data_dir::DataDir;
#[cfg(feature = "client")]
pub(crate) use data_dir::private_folder;
use database::Facts;

/// By how much a restore raises the revision, as etcd's documentation advises.
const RAISE: i64 = 1_000_000_000;

/// By how many times what is computed from a rate is larger than that: nobody knows how
/// fast a cluster was in its last hours.
const MARGIN: u64 = 10;

/// A snapshot to be restored as the data of one member.
///
/// # Guarantees
/// * The data folder is there whole and on disk, or as it was: everything is
///   written under another name, synced, and renamed. Nothing is overwritten.
/// * It gets its name only if the snapshot's SHA-256 holds, its data are no newer
///   than the server, and the membership is one. (The hash is taken while the data
///   are written: the largest part of the time of each.)
/// * Every key of the snapshot is there with the revisions it had. The cluster is
///   a new one: of the old membership nothing is left.
/// * By default the revision is raised by 1,000,000,000 and everything
///   older counts as compacted, so that no client that saw more of the old
///   cluster than the snapshot has waits for revisions that it thinks it knows:
///   an informer is told to list anew.
/// * The snapshot is opened for reading only. Memory does not grow with it.
///
/// This blocks: call it from a thread that may (`tokio::task::spawn_blocking`).
/// The folder belongs to who runs it; give it to the user that etcd runs as.
///
/// ```no_run
/// # fn main() -> Result<(), migrate_etcd::Error> {
/// use migrate_etcd::{EtcdVersion, Membership, Restore};
///
/// let members = Membership::parse("cp-1=https://10.0.0.1:2380", "after-2026-11-29")?;
/// let restored = Restore::new("etcd.db", "/var/lib/etcd", members, "cp-1", EtcdVersion::new(3, 6)).run()?;
/// println!("cluster {:x} goes on from revision {}", restored.cluster_id, restored.revision);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Restore {
    snapshot: PathBuf,
    data_dir: PathBuf,
    wal_dir: Option<PathBuf>,
    membership: Membership,
    member: String,
    target: EtcdVersion,
    revision: Revision,
    sha256: Option<String>,
    is_copy: bool,
    is_salvage: bool,
    asks_for_users: bool,
    beside: Vec<Restored>,
    cancel: Cancellation,
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug)]
enum Revision {
    Raised { at_least: i64, by: i64 },
    Kept,
}

impl Revision {
    /// Changes by how much it is raised; who had kept it raises it again.
    fn change(&mut self, change: impl FnOnce(&mut i64, &mut i64)) {
        let (mut at_least, mut by) = match self {
            Self::Raised { at_least, by } => (*at_least, *by),
            Self::Kept => (0, RAISE),
        };
        change(&mut at_least, &mut by);
        *self = Self::Raised { at_least, by };
    }
}

impl Restore {
    /// Restores `snapshot` into `data_dir` as the data of `member`, on which
    /// a server of version `target` will run.
    pub fn new(
        snapshot: impl Into<PathBuf>,
        data_dir: impl Into<PathBuf>,
        membership: Membership,
        member: impl Into<String>,
        target: EtcdVersion,
    ) -> Self {
        Self {
            snapshot: snapshot.into(),
            data_dir: data_dir.into(),
            wal_dir: None,
            membership,
            member: member.into(),
            target,
            revision: Revision::Raised {
                at_least: 0,
                by: RAISE,
            },
            sha256: None,
            is_copy: false,
            is_salvage: false,
            asks_for_users: true,
            beside: Vec::new(),
            cancel: Cancellation::new(),
            told: None,
        }
    }

    /// Puts the log into a folder of its own, which is empty or not there: what etcd has
    /// `--wal-dir` for. It may be right within the data folder, or on another disk.
    #[must_use]
    pub fn with_wal_dir(mut self, wal_dir: impl Into<PathBuf>) -> Self {
        self.wal_dir = Some(wal_dir.into());
        self
    }

    /// Raises the revision to `revision` at least: one that the old cluster has
    /// certainly not reached. It can only add to the default.
    #[must_use]
    pub fn with_revision_at_least(mut self, revision: i64) -> Self {
        self.revision.change(|at_least, _| *at_least = revision);
        self
    }

    /// Raises the revision by as much as the old cluster can have got on since the
    /// backup: ten times what it writes in `age`. It can only add to the default, which
    /// is passed by 1,000 writes a second for more than a day.
    #[must_use]
    pub fn with_age(mut self, age: Duration, writes_per_second: u64) -> Self {
        let seconds = age.as_secs().saturating_add(1);
        let written = seconds
            .saturating_mul(writes_per_second)
            .saturating_mul(MARGIN);
        let written = i64::try_from(written).unwrap_or(i64::MAX);
        self.revision.change(|_, by| *by = written.max(RAISE));
        self
    }

    /// Refuses to make a member of another cluster than `other` is one of, or with other
    /// data: what was restored before, from this file or from what should be the same.
    ///
    /// See [`Restored::refuse_mixed`], which is asked before the data folder gets its name.
    #[must_use]
    pub fn beside(mut self, other: Restored) -> Self {
        self.beside.push(other);
        self
    }

    /// Leaves the revision as it is, and nothing is compacted.
    ///
    /// Only for data that no client of the old cluster will ever see, as in a
    /// trial: a watch from a revision that the new cluster has not reached
    /// hears nothing, and no error either.
    #[must_use]
    pub fn keeping_revision(mut self) -> Self {
        self.revision = Revision::Kept;
        self
    }

    /// Refuses any other file than the one of this SHA-256 in hex, trailer
    /// included: what the manifest says, or what another member was
    /// restored from.
    #[must_use]
    pub fn with_sha256(mut self, sha256: impl Into<String>) -> Self {
        self.sha256 = Some(sha256.into());
        self
    }

    /// Takes a copy of a data folder's `member/snap/db` too, which has no hash of its
    /// own: only that what is taken over is well formed can be known then. A file
    /// that has one is held to it all the same.
    #[must_use]
    pub fn from_copy(mut self) -> Self {
        self.is_copy = true;
        self
    }

    /// Takes what is left in a damaged file: the last way out, where there is no other backup.
    ///
    /// Its SHA-256 need not be the one at its end ([`Restored::wrong_hash`]), and entries that
    /// are damaged are left out ([`Restored::left_out`]): objects, users or leases are lost with
    /// them. Nothing then says that what is left is what it was. Pages that are damaged are
    /// refused all the same, and so is another file than the one that is asked for
    /// ([`with_sha256`](Self::with_sha256)).
    #[must_use]
    pub fn salvaging(mut self) -> Self {
        self.is_salvage = true;
        self
    }

    /// Stops when `cancel` says so, which is looked at between pages of the snapshot, until
    /// all is written: folders are as they were by then.
    #[must_use]
    pub fn with_cancel(mut self, cancel: &Cancellation) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Where the snapshot's members ask for users and passwords, a server on this asks for
    /// none: for data that nobody reaches. Users and roles stay.
    #[cfg(feature = "client")]
    pub(crate) fn without_users(mut self) -> Self {
        self.asks_for_users = false;
        self
    }

    /// Tells `progress` how many bytes of the snapshot were written anew, and how many there
    /// are, about each MiB and when all is on disk. Of what is free in it nothing is written,
    /// so that the last step may be a large one.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.told = Some(Told::new(progress));
        self
    }

    /// As [`with_progress`](Self::with_progress), if anybody wants to hear it.
    #[cfg(feature = "client")]
    pub(crate) fn telling(mut self, told: Option<Told>) -> Self {
        self.told = told;
        self
    }

    /// Restores.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn run(&self) -> Result<Restored, Error> {
        match self.restored() {
            Err(_) if self.cancel.is_cancelled() => Err(Error::Cancelled),
            restored => restored,
        }
    }

    fn restored(&self) -> Result<Restored, Error> {
        let from = self.snapshot.as_path();
        let member_id = self.membership.refuse_without(&self.member)?;
        let failed = |error| Error::file(from, error);
        let file = File::open(from).map_err(failed)?;
        let mut again = file.try_clone().map_err(failed)?;
        // Both read the file by offsets or alone by its position.
        let (sha256, written) = std::thread::scope(|scope| {
            let hash = scope.spawn(|| self.check_hash(&mut again));
            let written = self.write(file, member_id);
            let hash = hash.join();
            (hash.unwrap_or_else(|it| resume_unwind(it)), written)
        });
        // First of all it has to be the right file; nothing counts until the commit.
        let (sha256, wrong_hash) = sha256?;
        let (dir, restored, bytes) = written?;
        let restored = Restored {
            sha256,
            wrong_hash,
            ..restored
        };
        let all: Vec<_> = self.beside.iter().chain([&restored]).cloned().collect();
        Restored::refuse_mixed(&all)?;
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        dir.commit(wal::FILE)?;
        if let Some(told) = &self.told {
            told.end(bytes);
        }
        Ok(restored)
    }

    /// Writes everything, under a name that does not count yet; and how many bytes of the
    /// snapshot that was. The hash is left out.
    fn write(&self, file: File, member_id: u64) -> Result<(DataDir, Restored, u64), Error> {
        let from = self.snapshot.as_path();
        let mut source = Database::of_file(file, from)?.until(&self.cancel);
        if let Some(told) = &self.told {
            let of = source.data_len();
            source = source.telling(told.clone(), of);
        }
        let facts = Facts::of(&source, self.is_salvage)?;
        self.refuse_too_new(&facts)?;
        self.membership.refuse_learners(&facts.members)?;
        let raised_to = self.raised(facts.revision)?;
        let json = |error: serde_json::Error| Error::file(&self.data_dir, error.into());
        let voters = self.membership.voters().map_err(json)?;
        let cluster_id = self.membership.cluster_id();

        let dir = DataDir::begin(&self.data_dir, self.wal_dir.as_deref())?;
        let (db, path) = dir.create("snap", "db")?;
        let mut changes = database::changes(&voters, raised_to);
        if !self.asks_for_users {
            changes.extend(database::without_users());
        }
        let mut left_out = 0;
        let count = self.is_salvage.then_some(&mut left_out);
        let bytes = database::write(&source, changes, count, (db, &path))?;
        let (name, snapshot) = v2::snapshot_file(&self.membership, &voters);
        dir.write("snap", &name, &snapshot, snapshot.len() as u64)?;
        let log = wal::first_log(member_id, cluster_id, &voters);
        dir.write_log(wal::FILE, &log, wal::SEGMENT.max(log.len() as u64))?;
        let restored = Restored {
            member: self.member.clone(),
            member_id,
            cluster_id,
            snapshot_revision: facts.revision,
            revision: raised_to.unwrap_or(facts.revision),
            sha256: String::new(),
            bytes,
            left_out,
            wrong_hash: false,
        };
        Ok((dir, restored, source.data_len()))
    }

    /// The hash of the whole file, which it has to hold to; and whether it does not, where
    /// nobody asks for that.
    fn check_hash(&self, file: &mut File) -> Result<(String, bool), Error> {
        let path = self.snapshot.as_path();
        let failed = |error| Error::file(path, error);
        let no_trailer = || Error::NoTrailer {
            path: path.to_owned(),
        };
        let metadata = file.metadata().map_err(failed)?;
        let has_trailer = metadata.len() % 512 == TRAILER as u64;
        let found = if self.is_copy && !has_trailer {
            let mut hash = Sha256::new();
            let read = read::in_chunks_until(&self.cancel, file, |bytes| hash.update(bytes));
            read.map_err(failed)?;
            (hex(hash.finalize()), false)
        } else {
            if !has_trailer {
                return Err(no_trailer());
            }
            let mut check = TrailerCheck::default();
            let read = read::in_chunks_until(&self.cancel, file, |bytes| check.update(bytes));
            read.map_err(failed)?;
            match check.finish() {
                Checked::Intact(sha256) => (sha256, false),
                Checked::Mismatch(sha256) if self.is_salvage => (sha256, true),
                Checked::Mismatch(_) => {
                    let path = path.to_owned();
                    return Err(ReadError::Checksum { path }.into());
                }
                Checked::TooShort => return Err(no_trailer()),
            }
        };
        match &self.sha256 {
            Some(expected) if !expected.eq_ignore_ascii_case(&found.0) => {
                Err(self.mismatch(expected))
            }
            _ => Ok(found),
        }
    }

    fn mismatch(&self, expected: &str) -> Error {
        Error::changed(&self.snapshot, format!("the file of SHA-256 {expected}"))
    }

    /// etcdutl restores such data and reports success; the server then refuses them.
    fn refuse_too_new(&self, facts: &Facts) -> Result<(), Error> {
        match &facts.version {
            Some((version, stored)) if *version > self.target => Err(Error::TooNew {
                path: self.snapshot.clone(),
                stored: stored.clone(),
                target: self.target.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn raised(&self, revision: i64) -> Result<Option<i64>, Error> {
        let Revision::Raised { at_least, by } = self.revision else {
            return Ok(None);
        };
        match revision.checked_add(by) {
            // No store can count on from the last of all revisions.
            Some(raised) if raised.max(at_least) <= i64::MAX - RAISE => {
                Ok(Some(raised.max(at_least)))
            }
            _ => Err(Error::RevisionTooHigh {
                path: self.snapshot.clone(),
                revision,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computed_revision_only_ever_adds() {
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let restore = Restore::new("a.db", "a", members, "a", EtcdVersion::new(3, 6));
        let raised = |restore: Restore| restore.raised(5).unwrap();
        assert_eq!(raised(restore.clone()), Some(5 + RAISE));
        let hour = Duration::from_secs(3600);
        let aged = |writes| restore.clone().with_age(hour, writes);
        // 10 × 3,601 s: below the default, and beyond.
        assert_eq!(raised(aged(0)), Some(5 + RAISE));
        assert_eq!(raised(aged(27_000)), Some(5 + RAISE));
        assert_eq!(raised(aged(100_000)), Some(5 + 3_601_000_000));
        // Whichever was said first, the larger counts.
        let both = [
            aged(100_000).with_revision_at_least(17),
            restore
                .clone()
                .with_revision_at_least(17)
                .with_age(hour, 100_000),
        ];
        for both in both {
            assert_eq!(raised(both), Some(5 + 3_601_000_000));
        }
        let seen = aged(100_000).with_revision_at_least(9_000_000_000);
        assert_eq!(raised(seen), Some(9_000_000_000));
        assert_eq!(raised(aged(1).keeping_revision()), None);
        let endless = restore.with_age(Duration::MAX, u64::MAX).raised(5);
        assert!(matches!(endless, Err(Error::RevisionTooHigh { .. })));
    }

    #[test]
    fn a_restore_that_is_cancelled_leaves_nothing() {
        use crate::bolt::build::{Free, snapshot};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let whole = snapshot(4096, Free::Unlisted, &[("key", Vec::new())]);
        std::fs::write(at("a.db"), whole).unwrap();
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let target = EtcdVersion::new(3, 6);
        let restore = Restore::new(at("a.db"), at("data"), members, "a", target);
        let cancel = Cancellation::new();
        let restore = restore.with_cancel(&cancel);
        cancel.cancel();
        assert!(matches!(restore.run(), Err(Error::Cancelled)));
        // As where all of it is read when it comes.
        let hash = restore.check_hash(&mut File::open(at("a.db")).unwrap());
        assert!(matches!(hash, Err(Error::File { .. })), "{hash:?}");
        assert!(!at("data").exists());
    }

    /// SHA-256 of the records that `etcdutl snapshot restore` 3.6.16 wrote for
    /// `m1` of these members.
    #[test]
    fn the_log_is_that_of_etcdutl_byte_for_byte() {
        let members = "m1=http://127.0.0.1:2380,m2=http://127.0.0.1:2480,m3=http://127.0.0.1:2580";
        let membership = Membership::parse(members, "tok").unwrap();
        let voters = membership.voters().unwrap();
        let member = membership.refuse_without("m1").unwrap();
        let log = wal::first_log(member, membership.cluster_id(), &voters);
        assert_eq!(log.len(), 536);
        assert_eq!(
            hex(Sha256::digest(&log)),
            "ed6134a7adb1fd705b7b6890f366623ca4907ed8ad0241a5c9400f4408ee7c36"
        );
    }
}
