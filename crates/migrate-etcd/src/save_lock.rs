//! One save at a time of one member, whichever program saves.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::leftover::{Holder, lock_at};

/// Where programs of one machine find each other's locks (FHS), beside the folder for
/// temporary files. Each is taken that can be: of two users one may not get at the first.
const FOLDER: &str = "/run/lock";

/// A member is being saved by this process. The kernel takes the lock back when the
/// process ends, however it ends.
#[derive(Debug)]
pub(crate) struct SaveLock {
    held: Vec<(PathBuf, File)>,
}

impl SaveLock {
    /// Locks member `member` of etcd cluster `cluster`; else who has done so. Where there
    /// is no place for locks, it is in `folder`.
    pub(crate) fn take(cluster: u64, member: u64, folder: &Path) -> Result<Self, String> {
        let name = format!("kube-migrate-etcd-{cluster:x}-{member:x}.lock");
        let shared = [PathBuf::from(FOLDER), std::env::temp_dir()];
        let mut lock = Self { held: Vec::new() };
        for place in &shared {
            lock.add(&place.join(&name))?;
        }
        if lock.held.is_empty() {
            lock.add(&folder.join(&name))?;
        }
        Ok(lock)
    }

    /// Locks a file too, if it can be opened.
    fn add(&mut self, path: &Path) -> Result<(), String> {
        match lock_at(path, open) {
            Ok((file, Holder::Us)) => self.held.push((path.to_owned(), file)),
            Ok((file, Holder::Others)) => return Err(holder(&file)),
            Ok((_, Holder::Nobody)) | Err(_) => {}
        }
        Ok(())
    }
}

impl Drop for SaveLock {
    fn drop(&mut self) {
        // While they are locked, so that no other one's is taken away.
        for (path, _locked) in &self.held {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens a file in a folder that anybody may write to: it is read only, no link is followed,
/// and nothing else than a file waited for.
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    let plain = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    loop {
        match OpenOptions::new().read(true).custom_flags(plain).open(path) {
            Ok(file) if file.metadata()?.is_file() => return Ok(file),
            Ok(_) => return Err(io::ErrorKind::InvalidInput.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        match made {
            // For others to read, whatever mask this process has: to lock it is enough.
            Ok(file) => file.set_permissions(fs::Permissions::from_mode(0o644))?,
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
        }
    }
}

/// Who has locked `file`.
fn holder(file: &File) -> String {
    named(file).unwrap_or_else(|| "another program".to_owned())
}

/// The same as the kernel has it; nobody can write something else there.
#[cfg(target_os = "linux")]
fn named(file: &File) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let of = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(of.dev()), rustix::fs::minor(of.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", of.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| process_of(line, &place))?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(format!(
        "process {process} ({})",
        name.trim().escape_debug()
    ))
}

#[cfg(not(target_os = "linux"))]
fn named(_: &File) -> Option<String> {
    None
}

/// The process that a line of `/proc/locks` says has locked the file at `place`.
#[cfg(target_os = "linux")]
fn process_of(line: &str, place: &str) -> Option<u32> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        // Who waits for it has an arrow before the kind.
        [_, "FLOCK", _, _, process, at, ..] if *at == place => process.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cluster ids that no other test of this machine has.
    fn cluster(test: u64) -> u64 {
        u64::from(std::process::id()) << 8 | test
    }

    #[test]
    fn a_member_is_saved_by_one_at_a_time_and_others_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let take = |member| SaveLock::take(cluster(1), member, folder.path());
        let held = take(1).unwrap();
        let paths: Vec<_> = held.held.iter().map(|(path, _)| path.clone()).collect();
        assert!(!paths.is_empty() && paths.iter().all(|path| path.exists()));
        let holder = take(1).unwrap_err();
        if cfg!(target_os = "linux") && Path::new("/proc/locks").exists() {
            let us = format!("process {} (", std::process::id());
            assert!(holder.starts_with(&us), "{holder}");
        }
        drop(take(2).unwrap());
        drop(held);
        assert!(!paths.iter().any(|path| path.exists()));
        drop(take(1).unwrap());
    }

    /// In a folder that anybody may write to anything may lie.
    #[test]
    fn what_is_no_lock_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("precious"), "kept").unwrap();
        std::os::unix::fs::symlink("precious", at("link")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for name in ["link", "dangling", "folder", "none/lock"] {
            let mut lock = SaveLock { held: Vec::new() };
            lock.add(&at(name)).unwrap();
            assert!(lock.held.is_empty(), "{name}");
        }
        assert_eq!(fs::read(at("precious")).unwrap(), b"kept");
        assert!(!at("nothing").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_names_who_has_locked_a_file() {
        let place = "fe:00:9977994";
        for (line, process) in [
            (
                "3: FLOCK  ADVISORY  WRITE 862 fe:00:9977994 0 EOF",
                Some(862),
            ),
            ("3: -> FLOCK  ADVISORY  WRITE 863 fe:00:9977994 0 EOF", None),
            ("3: FLOCK  ADVISORY  WRITE 862 fe:00:9977995 0 EOF", None),
            ("1: OFDLCK ADVISORY  WRITE -1 fe:00:9977994 0 EOF", None),
            ("1: FLOCK  ADVISORY  WRITE -1 fe:00:9977994 0 EOF", None),
            ("", None),
        ] {
            assert_eq!(process_of(line, place), process, "{line}");
        }
    }
}
