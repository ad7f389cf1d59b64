//! A data folder that comes to be all at once.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::{folders, leftover};

/// Everything of a member is below this.
const MEMBER: &str = "member";

/// What of its log is below that, unless it has a folder of its own.
const LOG: &str = "wal";

/// What a file system itself puts into its root.
const LOST: &str = "lost+found";

/// A folder that is being filled, under another name in itself: it may be
/// the root of a file system, which cannot be renamed. Dropped before `commit`, it
/// is as it was.
struct NewFolder {
    path: PathBuf,
    /// Where it is filled.
    part: PathBuf,
    /// What may be there all the same.
    other: Option<PathBuf>,
    is_ours: bool,
    is_done: bool,
    /// Held until the end; it goes with the process.
    _lock: Option<File>,
}

impl NewFolder {
    /// Begins in `path`, which is empty but for `other`, or not there.
    fn begin(path: &Path, name: &str, other: Option<&Path>) -> Result<Self, Error> {
        let is_ours = match private_folder(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::file(path, error)),
        };
        let mut folder = Self {
            path: path.to_owned(),
            part: path.join(format!("{name}{}", leftover::SUFFIX)),
            other: other.map(Path::to_owned),
            is_ours,
            is_done: true,
            _lock: lock(path)?,
        };
        folder.refuse_not_empty()?;
        // Only now: until then it may be another's.
        folder.is_done = false;
        let made = remove(&folder.part).and_then(|()| private_folder(&folder.part));
        made.map_err(|error| Error::file(&folder.part, error))?;
        Ok(folder)
    }

    fn refuse_not_empty(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.path).map_err(|error| Error::file(&self.path, error))?;
        for entry in entries {
            let entry = entry
                .map_err(|error| Error::file(&self.path, error))?
                .path();
            let is_other = self.other.as_ref().is_some_and(|it| it.starts_with(&entry));
            if entry != self.part && entry != self.path.join(LOST) && !is_other {
                return Err(Error::NotEmpty {
                    path: self.path.clone(),
                });
            }
        }
        Ok(())
    }

    /// All of it is on disk, and nobody has come meanwhile.
    fn settle(&self) -> Result<(), Error> {
        folders::sync_tree(&self.part)?;
        // Someone may have started a server here.
        self.refuse_not_empty()
    }

    /// Gives `from` its name.
    fn name(&mut self, from: &Path, name: &str) -> Result<(), Error> {
        let to = self.path.join(name);
        fs::rename(from, &to).map_err(|error| Error::file(&to, error))?;
        self.is_done = true;
        folders::sync(&self.path)?;
        match self.is_ours {
            true => folders::sync_above(&self.path),
            false => Ok(()),
        }
    }
}

impl Drop for NewFolder {
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

/// The data folder of a member, and that of its log where it has one of its own.
pub(super) struct DataDir {
    // First, as it may be within the other.
    log: Option<NewFolder>,
    data: NewFolder,
}

impl DataDir {
    /// Begins in `path`, and in `log`, which are empty or not there. That of the log may be
    /// right within the other.
    pub(super) fn begin(path: &Path, log: Option<&Path>) -> Result<Self, Error> {
        let data = NewFolder::begin(path, MEMBER, log)?;
        let log = log
            .map(|log| NewFolder::begin(log, LOG, None))
            .transpose()?;
        Ok(Self { log, data })
    }

    /// A new file in a folder of the member, readable by its owner only.
    pub(super) fn create(&self, folder: &str, name: &str) -> Result<(File, PathBuf), Error> {
        let folder = self.data.part.join(folder);
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
        fill(self.create(folder, name)?, bytes, length)
    }

    /// The log, all of it one file.
    pub(super) fn write_log(&self, name: &str, bytes: &[u8], length: u64) -> Result<(), Error> {
        let Some(log) = &self.log else {
            return self.write(LOG, name, bytes, length);
        };
        let path = log.part.join(name);
        let file = leftover::create(&path).map_err(|error| Error::file(&path, error))?;
        fill((file, path), bytes, length)
    }

    /// Gives the member its name, when all of it is on disk; right before that its log
    /// `name` goes into the folder of its own, if it has one. A machine that ends between
    /// the two leaves the log alone, which the next restore refuses.
    pub(super) fn commit(mut self, name: &str) -> Result<(), Error> {
        self.data.settle()?;
        if let Some(log) = &mut self.log {
            log.settle()?;
            log.name(&log.part.join(name), name)?;
            let _ = remove(&log.part);
        }
        let named = self.data.name(&self.data.part.clone(), MEMBER);
        if let Some(log) = self.log.as_mut().filter(|_| !self.data.is_done) {
            let _ = fs::remove_file(log.path.join(name));
        }
        named
    }
}

/// Writes a whole file and puts it on disk.
fn fill((mut file, path): (File, PathBuf), bytes: &[u8], length: u64) -> Result<(), Error> {
    let mut written = file.write_all(bytes);
    written = written.and_then(|()| file.set_len(length));
    written = written.and_then(|()| file.sync_all());
    written.map_err(|error| Error::file(path, error))
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
        let dropped = DataDir::begin(&path, None).unwrap();
        dropped.write("wal", "0.wal", b"half", 4).unwrap();
        assert_eq!(names(&path), ["member.kube-migrate.part"]);
        assert!(matches!(
            DataDir::begin(&path, None),
            Err(Error::Busy { .. })
        ));
        drop(dropped);
        assert!(!path.exists());

        // What a killed process has left is in nobody's way.
        fs::create_dir_all(path.join("member.kube-migrate.part/snap")).unwrap();
        fs::create_dir(path.join(LOST)).unwrap();
        let kept = DataDir::begin(&path, None).unwrap();
        kept.write("wal", "0.wal", b"whole", 8).unwrap();
        kept.commit("0.wal").unwrap();
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
        assert!(matches!(
            DataDir::begin(&path, None),
            Err(Error::NotEmpty { .. })
        ));
        assert_eq!(names(&path), ["lost+found", "member"]);
    }

    #[test]
    fn every_folder_of_it_is_on_disk_before_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::begin(&root.path().join("etcd"), None).unwrap();
        dir.write("wal", "0.wal", b"whole", 8).unwrap();
        dir.commit("0.wal").unwrap();
        let synced = folders::seen::below(root.path());
        let part = "etcd/member.kube-migrate.part";
        assert_eq!(synced, [&*format!("{part}/wal"), part, "etcd", ""]);
    }

    #[test]
    fn what_came_meanwhile_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::begin(root.path(), None).unwrap();
        fs::create_dir(root.path().join(MEMBER)).unwrap();
        assert!(matches!(dir.commit("0.wal"), Err(Error::NotEmpty { .. })));
        assert_eq!(names(root.path()), [MEMBER]);
    }

    #[test]
    fn a_log_of_its_own_is_there_with_the_data_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for (data, log) in [("etcd", "log"), ("outer", "outer/log")] {
            let begin = || DataDir::begin(&at(data), Some(&at(log)));
            let fill = |dir: &DataDir| {
                dir.write("snap", "db", b"data", 4).unwrap();
                dir.write_log("0.wal", b"whole", 8).unwrap();
            };
            let dropped = begin().unwrap();
            fill(&dropped);
            assert!(matches!(begin(), Err(Error::Busy { .. })));
            drop(dropped);
            assert!(!at(data).exists() && !at(log).exists(), "{log}");

            // An old log, or one of a server that was started meanwhile, is not touched.
            fs::create_dir_all(at(log)).unwrap();
            fs::write(at(log).join("old.wal"), b"old").unwrap();
            let refused = begin().err().unwrap();
            assert!(
                matches!(&refused, Error::NotEmpty { path } if *path == at(log)),
                "{refused}"
            );
            fs::remove_dir_all(at(log)).unwrap();
            let late = begin().unwrap();
            fill(&late);
            fs::write(at(log).join("new.wal"), b"new").unwrap();
            assert!(matches!(late.commit("0.wal"), Err(Error::NotEmpty { .. })));
            assert_eq!(names(&at(log)), ["new.wal"]);
            fs::remove_dir_all(at(log)).unwrap();

            let kept = begin().unwrap();
            fill(&kept);
            kept.commit("0.wal").unwrap();
            assert_eq!(names(&at(log)), ["0.wal"]);
            assert!(!at(data).join("member/wal").exists());
            assert_eq!(fs::read(at(data).join("member/snap/db")).unwrap(), b"data");
            let synced = folders::seen::below(root.path());
            assert!(synced.iter().any(|it| it == log) && synced.iter().any(|it| it == data));
        }
    }
}
