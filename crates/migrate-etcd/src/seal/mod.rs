//! Encrypted backups, which [age](https://age-encryption.org) opens as well.

mod lock;
mod stream;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};

use migrate_core::Cancellation;
use migrate_core::steps::BackupArtifact;

pub use lock::{KeyRing, Lock};
pub(crate) use stream::{Hashed, Opened, Sealing, pass, unreadable};

use crate::bolt::Told;
use crate::{Error, PartFile};

/// How the name of an encrypted file ends, and of one that was compressed first.
const SEALED: &str = ".age";
const COMPRESSED: &str = ".zst.age";
/// What is encrypted has to be, where that is known.
pub(crate) const SAVED: &str = "the snapshot that was saved";

/// How backups are encrypted.
///
/// # Guarantees
/// * One pass, in bounded memory, and a file that appears as [`PartFile`] says.
/// * `age -d` opens the file, `zstd -d` then what was compressed.
/// * Any change to it, and any end that is missing, is seen when it is opened.
///   Who made it is not: everybody can encrypt for a public key. That is what the
///   signature of [`Manifest`](crate::Manifest) is for.
#[derive(Clone, Debug)]
pub struct Seal {
    lock: Lock,
    level: Option<i32>,
}

impl Seal {
    /// Encrypts for those who can open `lock`.
    pub fn new(lock: Lock) -> Self {
        Self { lock, level: None }
    }

    /// Compresses first, with zstd at its default level.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.level = Some(zstd::DEFAULT_COMPRESSION_LEVEL);
        self
    }

    /// Who can open it.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What is put behind the name of a file.
    pub fn suffix(&self) -> &'static str {
        match self.level {
            None => SEALED,
            Some(_) => COMPRESSED,
        }
    }

    /// Encrypts the file at `path` into one beside it, whose name is that with
    /// [`suffix`](Self::suffix). The one that is there stays: remove it when the
    /// other has been read again.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::DiskFull`], [`Error::File`] and
    /// [`Error::Cancelled`]; nothing of the encrypted file is left.
    pub async fn file(&self, path: &Path, cancel: &Cancellation) -> Result<BackupArtifact, Error> {
        let (folder, name) = parted(path)?;
        let path = path.to_owned();
        self.sealed((path, None), (&folder, &name), Told::nobody(), cancel)
            .await
    }

    /// As [`file`](Self::file), of a snapshot that was saved, into a folder and as if that were
    /// its name; `told` hears how much of it is encrypted. One that is another by now is
    /// refused.
    #[cfg(any(feature = "client", test))]
    pub(crate) async fn snapshot(
        &self,
        saved: &BackupArtifact,
        to: (&Path, &str),
        told: Told,
        cancel: &Cancellation,
    ) -> Result<BackupArtifact, Error> {
        let is = (saved.bytes, saved.sha256.clone());
        self.sealed((saved.path.clone(), Some(is)), to, told, cancel)
            .await
    }

    /// The file at a path, of a length and a SHA-256 if they are known.
    async fn sealed(
        &self,
        (path, known): (PathBuf, Option<(u64, String)>),
        (folder, name): (&Path, &str),
        told: Told,
        cancel: &Cancellation,
    ) -> Result<BackupArtifact, Error> {
        let file = PartFile::create(folder, &format!("{name}{}", self.suffix())).await?;
        let (seal, cancel) = (self.clone(), cancel.clone());
        let filled = file.fill(move |out, part| {
            let read = |error| Error::file(&path, error);
            let written = |error| Error::file(part, error);
            let from = File::open(&path).map_err(read)?;
            let bytes = from.metadata().map_err(read)?.len();
            let mut from = told.reading(from, bytes);
            let mut sealing = Sealing::begin(&seal, out, part)?;
            match known {
                None => pass(&mut from, &mut sealing, &cancel, (&read, &written))?,
                Some(known) => {
                    let mut from = Hashed::new(from);
                    pass(&mut from, &mut sealing, &cancel, (&read, &written))?;
                    if from.finish() != known {
                        return Err(Error::changed(&path, SAVED));
                    }
                }
            }
            sealing.finish().map_err(written)
        });
        let (file, (bytes, sha256)) = filled.await?;
        Ok(BackupArtifact::new(file.commit().await?, bytes, sha256))
    }
}

impl KeyRing {
    /// Opens the file at `path`, made by [`Seal::file`] or by age, into `folder`,
    /// under its name without what a [`Seal`] has put behind it.
    ///
    /// # Errors
    /// [`Error::Locked`] for other keys, a file that was changed or cut, or one that
    /// is none; and as [`Seal::file`]. Nothing is left in `folder`.
    pub async fn unseal(
        self: std::sync::Arc<Self>,
        path: &Path,
        folder: &Path,
        cancel: &Cancellation,
    ) -> Result<PathBuf, Error> {
        let (_, name) = parted(path)?;
        let name = [COMPRESSED, SEALED]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let name = name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Error::Locked {
                path: path.to_owned(),
                reason: format!("its name does not end in {SEALED}"),
            })?;
        let file = PartFile::create(folder, name).await?;
        let (path, cancel) = (path.to_owned(), cancel.clone());
        let filled = file.fill(move |out, part| {
            let from = File::open(&path).map_err(|error| Error::file(&path, error))?;
            let mut opened = Opened::begin(&self, from, &path)?;
            let read = |error| unreadable(&path, error);
            let written = |error| Error::file(part, error);
            pass(&mut opened, out, &cancel, (&read, &written))
        });
        let (file, ()) = filled.await?;
        file.commit().await
    }
}

/// Folder and name of a file.
pub(crate) fn parted(path: &Path) -> Result<(PathBuf, String), Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::file(path, std::io::ErrorKind::InvalidFilename.into()))?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or_else(|| Path::new("."));
    Ok((folder.to_owned(), name.to_owned()))
}
