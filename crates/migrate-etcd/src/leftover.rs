//! Files that are being written, told by a lock from those that a killed
//! process has left.

#[cfg(any(feature = "client", feature = "store"))]
use std::fs::TryLockError;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// How the name of a file ends that this crate is writing. No other tool's does:
/// etcdctl too writes a `.part`, and without a lock.
pub(crate) const SUFFIX: &str = ".kube-migrate.part";

/// A new file for its owner only, which nobody takes for a leftover while it is
/// open. Without locks in its file system nothing there is ever taken for one.
pub(crate) fn create(part: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    loop {
        let file = options.open(part)?;
        while let Err(error) = file.lock() {
            if error.kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
        // Before it was locked it looked like a leftover.
        if is_at(&file, part).unwrap_or(true) {
            return Ok(file);
        }
    }
}

/// Removes every leftover from `folder`, as far as that can be done: a backup
/// does not fail for it.
pub(crate) fn remove_all(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_part = entry
            .file_name()
            .to_str()
            .map(|name| name.ends_with(SUFFIX));
        if is_file && is_part == Some(true) {
            remove(&entry.path());
        }
    }
}

fn remove(part: &Path) {
    if let Ok(file) = OpenOptions::new().write(true).open(part) {
        remove_if_left(&file, part);
    }
}

/// Removes `file`, which was at `part` a moment ago.
fn remove_if_left(file: &File, part: &Path) {
    // Its writer may have been quicker and given it its name, and another one may
    // have begun a file here since. Nobody takes away a file that we have locked.
    if file.try_lock().is_ok() && is_at(file, part) == Some(true) {
        let _ = fs::remove_file(part);
    }
}

/// Who has locked a file that it was tried to lock.
#[cfg(any(feature = "client", feature = "store"))]
pub(crate) enum Holder {
    /// Who tried, for as long as it is open.
    Us,
    /// Somebody else.
    Others,
    /// Nobody can: this file system has no locks.
    Nobody,
}

/// Tries to lock the file at `path`, which `open` opens, as often as another one is put there
/// meanwhile. A `path` that is a link is the name of no file.
///
/// # Errors
/// Those of `open`.
#[cfg(any(feature = "client", feature = "store"))]
pub(crate) fn lock_at(
    path: &Path,
    open: impl Fn(&Path) -> io::Result<File>,
) -> io::Result<(File, Holder)> {
    loop {
        let file = open(path)?;
        let holder = match file.try_lock() {
            Err(TryLockError::WouldBlock) => Holder::Others,
            Err(TryLockError::Error(_)) => Holder::Nobody,
            Ok(()) if is_at(&file, path).unwrap_or(true) => Holder::Us,
            // Whoever had it has taken it away meanwhile.
            Ok(()) => continue,
        };
        return Ok((file, holder));
    }
}

/// Whether `path` is the name of `file`; `None` where that cannot be told.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;
    let of = |data: fs::Metadata| (data.dev(), data.ino());
    match fs::symlink_metadata(path) {
        Ok(there) => Some(of(there) == of(file.metadata().ok()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> Option<bool> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_leftovers_of_our_own_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let leave = |name: &str| fs::write(path(name), "half").unwrap();
        leave("etcd-c-run-1-0.db.kube-migrate.part");
        leave("objects-c-run-1.json.77.kube-migrate.part");
        // A backup; what etcdctl is writing; a folder and a link of such names.
        leave("etcd-c-run-0-0.db");
        leave("etcd.db.part");
        fs::create_dir(path("folder.kube-migrate.part")).unwrap();
        std::os::unix::fs::symlink("etcd.db.part", path("link.kube-migrate.part")).unwrap();
        let written = create(&path("b.db.kube-migrate.part")).unwrap();

        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            let mut names: Vec<_> = entries.map(name).collect();
            names.sort();
            names
        };
        let mut kept = vec![
            "b.db.kube-migrate.part",
            "etcd-c-run-0-0.db",
            "etcd.db.part",
            "folder.kube-migrate.part",
            "link.kube-migrate.part",
        ];
        remove_all(folder.path());
        assert_eq!(names(), kept);

        drop(written);
        remove_all(folder.path());
        kept.remove(0);
        assert_eq!(names(), kept);
    }

    #[test]
    fn who_begins_a_file_in_the_place_of_one_just_finished_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("a.db.kube-migrate.part");
        let finished = create(&part).unwrap();
        let found = OpenOptions::new().write(true).open(&part).unwrap();
        fs::rename(&part, folder.path().join("a.db")).unwrap();
        drop(finished);
        fs::write(&part, "of the next one, who is about to lock it").unwrap();
        remove_if_left(&found, &part);
        assert!(part.exists());
    }

    /// Beginning and clearing at once: who has begun a file keeps it.
    #[test]
    fn a_file_that_is_being_begun_is_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("a.db.kube-migrate.part");
        std::thread::scope(|scope| {
            let begun = scope.spawn(|| {
                for _ in 0..2000 {
                    let file = create(&part).unwrap();
                    assert_eq!(is_at(&file, &part), Some(true));
                    fs::remove_file(&part).unwrap();
                }
            });
            while !begun.is_finished() {
                remove(&part);
            }
        });
    }
}
