//! Uploads in parts that were not finished: a store has no list of them, so that what is known
//! of one is beside its backup.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use migrate_core::{Cancellation, hex};
use object_store::MultipartId;
use object_store::path::Path as Location;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Store;
use super::refusal::is_gone;
use crate::cancelled::unless_cancelled;
use crate::leftover::{Holder, lock_at};
use crate::{Error, PartFile};

/// What is put behind a backup's name, and what tells the place, while it is uploaded.
const SUFFIX: &str = ".upload.json";

/// How long nothing was heard of an upload that nobody goes on with. It is heard of with each
/// part, and a client of S3 gives up on one after some minutes. Locks of a network folder may
/// not reach other hosts, so that they alone do not say that nobody is at it.
const SILENT: Duration = Duration::from_secs(3600);

/// How often it is tried to hold a backup that another one holds.
const AGAIN: Duration = Duration::from_millis(200);

/// The longest state that is read: 10,000 parts, each with a name of S3 or longer.
const LONGEST: u64 = 4 << 20;

/// The longest name that a store may give to an upload or to a part of one: those of S3 have
/// less than 200 bytes.
const LONGEST_ID: usize = 4096;

/// How far an upload is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Progress {
    /// The place, as [`Store::destination`] has it.
    pub(super) to: String,
    pub(super) sha256: String,
    pub(super) part: usize,
    pub(super) id: MultipartId,
    pub(super) parts: Vec<String>,
}

/// What is told of the upload of a backup to one place.
pub(super) struct Left {
    backup: PathBuf,
    to: String,
}

impl Left {
    pub(super) fn of(backup: &Path, to: String) -> Self {
        let backup = backup.to_owned();
        Self { backup, to }
    }

    /// The place.
    pub(super) fn to(&self) -> &str {
        &self.to
    }

    /// Where it is told: beside the backup, for each place apart.
    pub(super) fn path(&self) -> PathBuf {
        let place = hex(Sha256::digest(self.to.as_bytes()));
        let mut name = self.backup.as_os_str().to_owned();
        name.push(format!(".{}{SUFFIX}", place.get(..8).unwrap_or(&place)));
        name.into()
    }

    /// What is told.
    pub(super) fn told(&self) -> Option<Progress> {
        read(&self.path()).filter(|state| state.to == self.to)
    }

    /// Tells it.
    pub(super) async fn remember(&self, state: &Progress) -> Result<(), Error> {
        let path = self.path();
        let text = serde_json::to_vec(state).map_err(|error| Error::file(&path, error.into()))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        let mut file = PartFile::replace(folder_of(&self.backup), name).await?;
        file.write(&text).await?;
        file.commit().await.map(drop)
    }

    /// That the upload `id` is over.
    pub(super) fn forget(&self, id: &str) -> Result<(), Error> {
        // Another one may have been begun since.
        if self.told().is_none_or(|state| state.id != id) {
            return Ok(());
        }
        let path = self.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file(path, error)),
            _ => Ok(()),
        }
    }

    /// When it was told; `None` where that cannot be seen.
    fn since(&self) -> Option<Timestamp> {
        let told = fs::metadata(self.path()).ok()?.modified().ok()?;
        Timestamp::try_from(told).ok()
    }
}

impl Store {
    /// Ends the uploads to this store of other backups in the folder of `backup` that no
    /// process is at any more, of which nothing was heard for an hour.
    pub(super) async fn abandon_others(&self, backup: &Path) {
        if self.parts.is_none() {
            return;
        }
        for left in unfinished_in(folder_of(backup)) {
            let other = left.backup.file_name();
            let name = other.and_then(|name| name.to_str());
            let Some(location) = name.map(|name| self.at(name)) else {
                continue;
            };
            if other == backup.file_name() {
                continue;
            }
            // Held until it is forgotten: who begins meanwhile waits for that.
            let Some(_held) = seize(&left.backup) else {
                continue;
            };
            if !self.is_silent(&left) {
                continue;
            }
            if self.destination(&location).await.ok().as_ref() == Some(&left.to) {
                self.abandon(&left, &location).await;
            }
        }
    }

    fn is_silent(&self, left: &Left) -> bool {
        let now = self.clock.now();
        left.since()
            .is_some_and(|since| now.since(since.into()) >= SILENT)
    }

    /// Ends an upload that was not finished, if there is one; only for who holds its backup.
    /// Who cannot now, can the next time: nothing depends on it.
    pub(super) async fn abandon(&self, left: &Left, location: &Location) {
        let (Some(parts), Some(state)) = (&self.parts, left.told()) else {
            return;
        };
        let ended = parts.abort_multipart(location, &state.id).await;
        if ended.map_or_else(|error| is_gone(&error, location), |()| true) {
            let _ = left.forget(&state.id);
        }
    }
}

/// A backup that nobody else uploads while this is there; it goes with the process.
pub(super) struct Held {
    /// `None` where the file system has no locks.
    lock: Option<File>,
}

impl Held {
    /// Whether that is sure.
    pub(super) fn is_sure(&self) -> bool {
        self.lock.is_some()
    }
}

/// Holds `backup`, once nobody else does. Where the file system has no locks nothing is held,
/// and nobody ends the upload of another one there, since nobody can [`seize`] it.
///
/// # Errors
/// [`Error::File`] if it cannot be opened; [`Error::Cancelled`].
pub(super) async fn hold(backup: &Path, cancel: &Cancellation) -> Result<Held, Error> {
    let wait = async || {
        tokio::time::sleep(AGAIN).await;
        Ok(())
    };
    loop {
        let (file, holder) = lock(backup).map_err(|error| Error::file(backup, error))?;
        let lock = match holder {
            Holder::Us => Some(file),
            Holder::Nobody => None,
            Holder::Others => {
                unless_cancelled(cancel, wait()).await?;
                continue;
            }
        };
        return Ok(Held { lock });
    }
}

/// Holds `backup` if nobody does, as far as locks tell. What is gone is held by who sees it:
/// nobody can upload it.
fn seize(backup: &Path) -> Option<Held> {
    match lock(backup) {
        Ok((file, Holder::Us)) => Some(Held { lock: Some(file) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Held { lock: None }),
        Ok(_) | Err(_) => None,
    }
}

/// Tries to lock the file of `backup`, to which a link may lead.
fn lock(backup: &Path) -> io::Result<(File, Holder)> {
    lock_at(&fs::canonicalize(backup)?, open)
}

/// For writing too, where that is allowed, though nothing is written: NFS locks no other file
/// for one alone.
fn open(backup: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(backup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => File::open(backup),
        opened => opened,
    }
}

/// Refuses a name of an upload that no store gives: without one nothing could be ended.
pub(super) fn refuse_odd(id: &str) -> Result<(), String> {
    match id.is_empty() {
        true => Err("it gives an upload no name".to_owned()),
        false => refuse_long("an upload", id),
    }
}

/// Refuses a name that is longer than any: no store fills anybody's memory and disk.
pub(super) fn refuse_long(what: &str, id: &str) -> Result<(), String> {
    match id.len() {
        0..=LONGEST_ID => Ok(()),
        bytes => Err(format!("it gives {what} a name of {bytes} bytes")),
    }
}

/// The uploads that something is told of in a folder. What an older version has told, which
/// did not say at which address, is none of ours.
fn unfinished_in(folder: &Path) -> Vec<Left> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let left = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let (backup, _) = name.to_str()?.strip_suffix(SUFFIX)?.rsplit_once('.')?;
        let to = read(&entry.path())?.to;
        let left = Left::of(&folder.join(backup), to);
        (left.path() == entry.path()).then_some(left)
    };
    entries.filter_map(left).collect()
}

fn read(path: &Path) -> Option<Progress> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    let state: Progress = serde_json::from_slice(&text).ok()?;
    refuse_odd(&state.id).is_ok().then_some(state)
}

fn folder_of(backup: &Path) -> &Path {
    let folder = backup.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or_else(|| Path::new("."))
}
