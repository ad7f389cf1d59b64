//! A file that appears under its name only when it is whole and durable.

use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::Error;

/// A file that is written under another name and renamed when it is whole.
///
/// # Guarantees
/// * Under its own name the file is there completely or not at all, also after
///   a crash of the machine: [`commit`](Self::commit) puts the file on disk,
///   renames it, and puts the folder on disk.
/// * It is readable by its owner only (0600 on Unix) from the beginning.
/// * Dropped before `commit`, or when `commit` fails, nothing is left behind. A
///   process that is killed leaves a file whose name ends in `.part`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let mut file = migrate_etcd::PartFile::create(folder.path(), "objects.json").await?;
/// file.write(b"{}").await?;
/// let path = file.commit().await?;
/// assert_eq!(std::fs::read(path)?, b"{}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PartFile {
    file: Option<File>,
    part: PathBuf,
    path: PathBuf,
}

impl PartFile {
    /// Begins the file `name` in `folder`, which is created if it is missing.
    /// A file of that name is never replaced.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a file of that name, whole or in parts;
    /// [`Error::DiskFull`] or [`Error::File`] if the folder does not take it.
    pub async fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        make_folder(folder).await?;
        let path = folder.join(name);
        if tokio::fs::try_exists(&path)
            .await
            .map_err(|error| Error::file(&path, error))?
        {
            return Err(Error::Exists { path });
        }
        // One name for all writers: the second one sees the first.
        Self::begin(folder.join(format!("{name}.part")), path).await
    }

    /// As [`create`](Self::create), for a file that takes the place of an
    /// older one: the old one is there until the new one is whole. Of several
    /// writers the last to commit wins.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::File`] if the folder does not take it;
    /// [`Error::Exists`] if this process is writing the same file already.
    pub async fn replace(folder: &Path, name: &str) -> Result<Self, Error> {
        make_folder(folder).await?;
        // What a killed process left must not be in the way for ever.
        let part = format!("{name}.{}.part", std::process::id());
        Self::begin(folder.join(part), folder.join(name)).await
    }

    async fn begin(part: PathBuf, path: PathBuf) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options
            .open(&part)
            .await
            .map_err(|error| Error::file(&part, error))?;
        Ok(Self {
            file: Some(file),
            part,
            path,
        })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::File`]; nothing is worth keeping then.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => file
                .write_all(bytes)
                .await
                .map_err(|error| Error::file(&self.part, error)),
            None => Ok(()),
        }
    }

    /// Makes the file durable under its name, and says where it is.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::File`]. If only the folder could not be
    /// put on disk, the file has its name all the same.
    pub async fn commit(mut self) -> Result<PathBuf, Error> {
        let part = self.part.clone();
        let failed = |error| Error::file(&part, error);
        if let Some(mut file) = self.file.take() {
            file.flush().await.map_err(failed)?;
            file.sync_all().await.map_err(failed)?;
        }
        tokio::fs::rename(&part, &self.path).await.map_err(failed)?;
        if let Some(folder) = self.path.parent() {
            let sync = async { File::open(folder).await?.sync_all().await };
            sync.await.map_err(|error| Error::file(folder, error))?;
        }
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // After a rename there is nothing under this name any more.
        let _ = std::fs::remove_file(&self.part);
    }
}

async fn make_folder(folder: &Path) -> Result<(), Error> {
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(|error| Error::file(folder, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let names = || -> Vec<_> {
            std::fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        let mut dropped = PartFile::create(folder.path(), "a.db").await.unwrap();
        dropped.write(b"half").await.unwrap();
        assert_eq!(names(), ["a.db.part"]);
        drop(dropped);
        assert!(names().is_empty());

        let mut kept = PartFile::create(folder.path(), "a.db").await.unwrap();
        assert!(matches!(
            PartFile::create(folder.path(), "a.db").await,
            Err(Error::Exists { .. })
        ));
        kept.write(b"whole").await.unwrap();
        let path = kept.commit().await.unwrap();
        assert_eq!(names(), ["a.db"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(matches!(
            PartFile::create(folder.path(), "a.db").await,
            Err(Error::Exists { .. })
        ));
    }

    #[tokio::test]
    async fn a_replaced_file_is_the_old_one_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "old").unwrap();
        // Left by a process that was killed.
        std::fs::write(folder.path().join("a.json.part"), "ha").unwrap();
        let mut file = PartFile::replace(folder.path(), "a.json").await.unwrap();
        file.write(b"new").await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        file.commit().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
