//! Uploads in parts that were not finished: a store has no list of them, so that what is known
//! of one is beside its backup.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use object_store::MultipartId;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::{Error, PartFile};

/// What is put behind a backup's name while it is uploaded.
const SUFFIX: &str = ".upload.json";

/// How far an upload is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Progress {
    pub(super) to: String,
    pub(super) sha256: String,
    pub(super) part: usize,
    pub(super) id: MultipartId,
    pub(super) parts: Vec<String>,
}

impl Store {
    /// Ends the uploads to this store of other backups in the folder of `backup` that no
    /// process is at any more.
    pub(super) async fn abandon_others(&self, backup: &Path) {
        if self.parts.is_none() {
            return;
        }
        for other in unfinished_in(folder_of(backup)) {
            if other.file_name() != backup.file_name() && is_left(&other) {
                self.abandon(&other).await;
            }
        }
    }

    /// Ends the upload of `backup` that was not finished, if there is one to this store. Who
    /// cannot now, can the next time: nothing depends on it.
    pub(super) async fn abandon(&self, backup: &Path) {
        let name = backup.file_name().and_then(|name| name.to_str());
        let (Some(parts), Some(name)) = (&self.parts, name) else {
            return;
        };
        let location = self.at(name);
        let state = told(backup).filter(|state| state.to == self.name(&location));
        let Some(state) = state else { return };
        match parts.abort_multipart(&location, &state.id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                let _ = forget(backup);
            }
            Err(_) => {}
        }
    }
}

/// Tells others that somebody is putting `backup`, for as long as this is there; it goes with
/// the process.
pub(super) fn hold(backup: &Path) -> Option<File> {
    let file = File::open(backup).ok()?;
    file.try_lock_shared().ok().map(|()| file)
}

/// Whether nobody is putting `backup`, as far as locks tell.
fn is_left(backup: &Path) -> bool {
    match File::open(backup) {
        Ok(file) => file.try_lock().is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The backups in a folder of whose uploads something is told.
fn unfinished_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let backup = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_str()?.strip_suffix(SUFFIX)?;
        Some(folder.join(name))
    };
    entries.filter_map(backup).collect()
}

/// What is told of the upload of `backup`.
pub(super) fn told(backup: &Path) -> Option<Progress> {
    let text = fs::read(beside(backup)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Tells it.
pub(super) async fn remember(backup: &Path, state: &Progress) -> Result<(), Error> {
    let path = beside(backup);
    let text = serde_json::to_vec(state).map_err(|error| Error::file(&path, error.into()))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    let mut file = PartFile::replace(folder_of(backup), name).await?;
    file.write(&text).await?;
    file.commit().await.map(drop)
}

/// That it is over.
pub(super) fn forget(backup: &Path) -> Result<(), Error> {
    let path = beside(backup);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file(path, error)),
        _ => Ok(()),
    }
}

fn beside(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

fn folder_of(backup: &Path) -> &Path {
    let folder = backup.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or_else(|| Path::new("."))
}
