//! A data folder that comes to be all at once.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::{folders, leftover};

/// Everything of a member is below this.
const MEMBER: &str = "member";

/// What a file system itself puts into its root.
const LOST: &str = "lost+found";

/// A data folder that is being written, under another name in itself: it may be
/// the root of a file system, which cannot be renamed. Dropped before `commit`, it
/// is as it was.
pub(super) struct DataDir {
    path: PathBuf,
    part: PathBuf,
    is_ours: bool,
    is_done: bool,
    /// Held until the end; it goes with the process.
    _lock: Option<File>,
}

impl DataDir {
    /// Begins in `path`, which is empty or not there.
    pub(super) fn begin(path: &Path) -> Result<Self, Error> {
        let is_ours = match private_folder(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::file(path, error)),
        };
        let mut dir = Self {
            path: path.to_owned(),
            part: path.join(format!("{MEMBER}{}", leftover::SUFFIX)),
            is_ours,
            is_done: true,
            _lock: lock(path)?,
        };
        dir.refuse_not_empty()?;
        // Only now: until then it may be another's.
        dir.is_done = false;
        let made = remove(&dir.part).and_then(|()| private_folder(&dir.part));
        made.map_err(|error| Error::file(&dir.part, error))?;
        Ok(dir)
    }

    /// A new file in a folder of the member, readable by its owner only.
    pub(super) fn create(&self, folder: &str, name: &str) -> Result<(File, PathBuf), Error> {
        let folder = self.part.join(folder);
        if !folder.exists() {
            private_folder(&folder).map_err(|error| Error::file(&folder, error))?;
        }
        let path = folder.join(name);
        let file = leftover::create(&path).map_err(|error| Error::file(&path, error))?;
        Ok((file, path))
    }

    /// Writes a whole file, `length` bytes long, and puts it on disk.
    pub(super) fn write(
        &self,
        folder: &str,
        name: &str,
        bytes: &[u8],
        length: u64,
    ) -> Result<(), Error> {
        let (mut file, path) = self.create(folder, name)?;
        let mut written = file.write_all(bytes);
        written = written.and_then(|()| file.set_len(length));
        written = written.and_then(|()| file.sync_all());
        written.map_err(|error| Error::file(path, error))
    }

    /// Gives the member its name, when all of it is on disk.
    pub(super) fn commit(mut self) -> Result<(), Error> {
        folders::sync_tree(&self.part)?;
        // Someone may have started a server here meanwhile.
        self.refuse_not_empty()?;
        let member = self.path.join(MEMBER);
        let renamed = fs::rename(&self.part, &member);
        renamed.map_err(|error| Error::file(&member, error))?;
        self.is_done = true;
        folders::sync(&self.path)?;
        match self.is_ours {
            true => folders::sync_above(&self.path),
            false => Ok(()),
        }
    }

    fn refuse_not_empty(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.path).map_err(|error| Error::file(&self.path, error))?;
        for entry in entries {
            let entry = entry
                .map_err(|error| Error::file(&self.path, error))?
                .path();
            if entry != self.part && entry != self.path.join(LOST) {
                return Err(Error::NotEmpty {
                    path: self.path.clone(),
                });
            }
        }
        Ok(())
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = remove(&self.part);
        }
        if self.is_ours {
            // Refused unless it is empty.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The folder's lock, where there are locks of folders.
fn lock(path: &Path) -> Result<Option<File>, Error> {
    let Ok(folder) = File::open(path) else {
        return Ok(None);
    };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Busy {
            path: path.to_owned(),
        }),
        _ => Ok(Some(folder)),
    }
}

/// A new folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> std::io::Result<()> {
    folders::one(path, folders::PRIVATE)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etcd");
        let dropped = DataDir::begin(&path).unwrap();
        dropped.write("wal", "0.wal", b"half", 4).unwrap();
        assert_eq!(names(&path), ["member.kube-migrate.part"]);
        assert!(matches!(DataDir::begin(&path), Err(Error::Busy { .. })));
        drop(dropped);
        assert!(!path.exists());

        // What a killed process has left is in nobody's way.
        fs::create_dir_all(path.join("member.kube-migrate.part/snap")).unwrap();
        fs::create_dir(path.join(LOST)).unwrap();
        let kept = DataDir::begin(&path).unwrap();
        kept.write("wal", "0.wal", b"whole", 8).unwrap();
        kept.commit().unwrap();
        assert_eq!(names(&path), ["lost+found", "member"]);
        let file = path.join("member/wal/0.wal");
        assert_eq!(fs::read(&file).unwrap(), b"whole\0\0\0");
        for (path, mode) in [
            (file, 0o600),
            (path.join("member/wal"), 0o700),
            (path.join("member"), 0o700),
        ] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                mode
            );
        }
        assert!(matches!(DataDir::begin(&path), Err(Error::NotEmpty { .. })));
        assert_eq!(names(&path), ["lost+found", "member"]);
    }

    #[test]
    fn every_folder_of_it_is_on_disk_before_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::begin(&root.path().join("etcd")).unwrap();
        dir.write("wal", "0.wal", b"whole", 8).unwrap();
        dir.commit().unwrap();
        let synced = folders::seen::below(root.path());
        let part = "etcd/member.kube-migrate.part";
        assert_eq!(synced, [&*format!("{part}/wal"), part, "etcd", ""]);
    }

    #[test]
    fn what_came_meanwhile_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::begin(root.path()).unwrap();
        fs::create_dir(root.path().join(MEMBER)).unwrap();
        assert!(matches!(dir.commit(), Err(Error::NotEmpty { .. })));
        assert_eq!(names(root.path()), [MEMBER]);
    }
}
