//! A file that appears under its name only when it is whole and durable.

use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::Error;

/// Writes `NAME.part`, and renames it at the end. Dropped before that, the
/// part file is removed.
pub(crate) struct PartFile {
    file: Option<File>,
    part: PathBuf,
    path: PathBuf,
}

impl PartFile {
    /// Creates the part file, readable by its owner only. Refuses to replace
    /// a finished file, or a part file that someone else is writing.
    pub(crate) async fn create(folder: &Path, name: &str) -> Result<Self, Error> {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|error| Error::file(folder, error))?;
        let path = folder.join(name);
        if tokio::fs::try_exists(&path)
            .await
            .map_err(|error| Error::file(&path, error))?
        {
            return Err(Error::Exists { path });
        }
        let part = folder.join(format!("{name}.part"));
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

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => file
                .write_all(bytes)
                .await
                .map_err(|error| Error::file(&self.part, error)),
            None => Ok(()),
        }
    }

    /// Makes the file durable under its final name: fsync of the file, rename,
    /// fsync of the folder.
    pub(crate) async fn commit(mut self) -> Result<PathBuf, Error> {
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
}
