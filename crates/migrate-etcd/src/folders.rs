//! Folders that are there after a crash of the machine.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::Path;

use crate::Error;

/// Only their owner can enter them.
pub(crate) const PRIVATE: Option<u32> = Some(0o700);

/// Makes `path` and what is missing above it, with the permissions `mode`, or those of the
/// process. Each is an entry of the folder above it, which is put on disk: what is
/// written into a folder that nobody finds again is lost.
///
/// # Errors
/// [`Error::File`], of the folder that could not be made or put on disk.
pub(crate) fn make(path: &Path, mode: Option<u32>) -> Result<(), Error> {
    let is_missing = |level: &&Path| !level.as_os_str().is_empty() && !level.is_dir();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    for level in missing.into_iter().rev() {
        let made = one(level, mode).or_else(|error| match error.kind() {
            // Somebody else was quicker.
            io::ErrorKind::AlreadyExists if level.is_dir() => Ok(()),
            io::ErrorKind::AlreadyExists => Err(io::ErrorKind::NotADirectory.into()),
            _ => Err(error),
        });
        made.map_err(|error| Error::file(level, error))?;
        sync_above(level)?;
    }
    Ok(())
}

/// Makes a new folder whose parent is there.
pub(crate) fn one(path: &Path, mode: Option<u32>) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no permissions"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    if let Some(mode) = mode {
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    }
    builder.create(path)
}

/// Puts on disk what the folder above `path` says of it.
pub(crate) fn sync_above(path: &Path) -> Result<(), Error> {
    match path.parent() {
        // The working folder is called so.
        Some(above) if above == Path::new("") => sync(Path::new(".")),
        Some(above) => sync(above),
        None => Ok(()),
    }
}

/// Puts on disk which entries a folder has.
pub(crate) fn sync(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    #[cfg(test)]
    seen::note(folder);
    synced.map_err(|error| Error::file(folder, error))
}

/// The same of `folder` and every folder below it.
pub(crate) fn sync_tree(folder: &Path) -> Result<(), Error> {
    let failed = |error| Error::file(folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync(folder)
}

/// Which folders were put on disk: nobody sees it without a crash.
#[cfg(test)]
pub(crate) mod seen {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    static SYNCED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    pub(super) fn note(folder: &Path) {
        SYNCED.lock().unwrap().push(folder.to_owned());
    }

    /// `root` and those below it, each as often as it was, as seen from it.
    pub(crate) fn below(root: &Path) -> Vec<String> {
        let synced = SYNCED.lock().unwrap();
        let below = synced.iter().filter_map(|it| it.strip_prefix(root).ok());
        below.map(|it| it.display().to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartFile;

    #[test]
    fn of_each_new_folder_the_one_above_is_put_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        make(&deep, Some(0o700)).unwrap();
        assert_eq!(seen::below(root.path()), ["", "a", "a/b"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(deep.join("..")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        // What was there is as it was.
        make(&deep, None).unwrap();
        assert_eq!(seen::below(root.path()).len(), 3);
        make(&deep.join("d"), None).unwrap();
        assert_eq!(seen::below(root.path()).last().unwrap(), "a/b/c");
        fs::write(root.path().join("file"), "").unwrap();
        for in_the_way in ["file", "file/a"] {
            let error = make(&root.path().join(in_the_way), None).unwrap_err();
            assert!(matches!(&error, Error::File { path, .. } if path.ends_with("file")));
        }
        make(Path::new(""), None).unwrap();
        make(Path::new("."), None).unwrap();
    }

    #[tokio::test]
    async fn a_backup_into_a_new_folder_is_found_after_a_crash() {
        let root = tempfile::tempdir().unwrap();
        let backups = root.path().join("x/backups");
        let file = PartFile::create(&backups, "a.db").await.unwrap();
        assert_eq!(seen::below(root.path()), ["", "x"]);
        file.commit().await.unwrap();
        assert_eq!(seen::below(root.path()), ["", "x", "x/backups"]);
        #[cfg(feature = "store")]
        {
            let root = tempfile::tempdir().unwrap();
            crate::Store::folder(&root.path().join("mnt/store")).unwrap();
            assert_eq!(seen::below(root.path()), ["", "mnt"]);
        }
    }
}
