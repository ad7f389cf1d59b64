//! Whether there is room for what a backup is going to write.
//!
//! Room is what this process may fill. ext2, ext3 and ext4 keep some blocks, a twentieth unless they
//! are told otherwise, that only root of the machine gets: there they count for root, and for
//! nobody else. What other file systems have free beyond what they offer they keep for
//! themselves, so that it counts for nobody.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// What a copy may need beyond what the member says, beside an eighth: what is written
/// between its answer and the snapshot, and what a file system keeps for itself.
const MARGIN: u64 = 16 << 20;

/// A further copy, which is made while the snapshot is there.
#[derive(Clone, Debug)]
pub(crate) struct FurtherCopy {
    pub(crate) folder: PathBuf,
    /// Bytes that come on top, whatever the size.
    pub(crate) more: u64,
}

/// A file system, by one of its folders.
#[derive(Debug)]
struct Disk {
    id: u64,
    folder: PathBuf,
    available: u64,
}

impl Disk {
    /// The one that `folder` is in, or will be; `None` where nobody can say.
    fn of(folder: &Path) -> Option<Self> {
        let there = folder.ancestors().find(|it| it.exists());
        let there = there.unwrap_or_else(|| Path::new("."));
        let stat = rustix::fs::statvfs(there).ok()?;
        // Without an end, or without an answer.
        if stat.f_blocks == 0 {
            return None;
        }
        Some(Self {
            id: fs::metadata(there).ok()?.dev(),
            folder: folder.to_owned(),
            available: free_blocks(&stat, gets_reserve(there)).saturating_mul(stat.f_frsize),
        })
    }
}

fn free_blocks(stat: &rustix::fs::StatVfs, gets_reserve: bool) -> u64 {
    match gets_reserve {
        true => stat.f_bfree.max(stat.f_bavail),
        false => stat.f_bavail,
    }
}

/// Whether this process may fill what the file system of `there` keeps for root.
#[cfg(target_os = "linux")]
fn gets_reserve(there: &Path) -> bool {
    // EXT4_SUPER_MAGIC of statfs(2), which ext2 and ext3 have too.
    let is_ext = rustix::fs::statfs(there).is_ok_and(|stat| i128::from(stat.f_type) == 0xef53);
    let users = || fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_ext && rustix::process::geteuid().is_root() && is_of_the_machine(&users())
}

#[cfg(not(target_os = "linux"))]
fn gets_reserve(_: &Path) -> bool {
    false
}

/// Whether root is that of the machine, and not one that a container has made of another user;
/// by `/proc/self/uid_map` (user_namespaces(7)).
#[cfg(target_os = "linux")]
fn is_of_the_machine(users: &str) -> bool {
    let first = |line: &str| {
        let mut ids = line.split_whitespace();
        ids.next() == Some("0") && ids.next() == Some("0")
    };
    users.lines().any(first)
}

/// Refuses to begin what would fill a disk: a snapshot of `size` bytes in `folder`, and
/// `copies` of it, one after the other. What a quota allows is not known.
///
/// # Errors
/// [`Error::NoRoom`].
pub(crate) fn refuse_too_little(
    size: u64,
    folder: &Path,
    copies: &[FurtherCopy],
) -> Result<(), Error> {
    let further = copies.iter().filter_map(|copy| {
        let disk = Disk::of(&copy.folder)?;
        Some((disk, copy.more))
    });
    let further: Vec<_> = further.collect();
    match too_small(size, Disk::of(folder).as_ref(), &further) {
        Some((disk, needed)) => Err(Error::NoRoom {
            folder: disk.folder.clone(),
            needed,
            available: disk.available,
        }),
        None => Ok(()),
    }
}

/// Refuses to begin what is exactly `bytes` long where there is less room than that for this
/// process.
///
/// # Errors
/// [`Error::NoRoom`].
#[cfg(feature = "seal")]
pub(crate) fn refuse_less(bytes: u64, folder: &Path) -> Result<(), Error> {
    match Disk::of(folder).filter(|disk| disk.available < bytes) {
        None => Ok(()),
        Some(disk) => Err(Error::NoRoom {
            folder: disk.folder,
            needed: bytes,
            available: disk.available,
        }),
    }
}

/// The first disk that has too little, and what it should have.
fn too_small<'a>(
    size: u64,
    folder: Option<&'a Disk>,
    copies: &'a [(Disk, u64)],
) -> Option<(&'a Disk, u64)> {
    let copy = size.saturating_add(size / 8).saturating_add(MARGIN);
    let is_beside = |disk: &Disk| folder.is_some_and(|it| it.id == disk.id);
    // One after the other: the largest counts.
    let beside = copies.iter().filter(|(disk, _)| is_beside(disk));
    let beside = beside.map(|(_, more)| copy.saturating_add(*more)).max();
    let first = folder.map(|disk| (disk, copy.saturating_add(beside.unwrap_or(0))));
    let others = copies.iter().filter(|(disk, _)| !is_beside(disk));
    let others = others.map(|(disk, more)| (disk, copy.saturating_add(*more)));
    let mut all = first.into_iter().chain(others);
    all.find(|(disk, needed)| disk.available < *needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk(id: u64, available: u64) -> Disk {
        Disk {
            id,
            folder: PathBuf::from(format!("/disk-{id}")),
            available,
        }
    }

    #[test]
    fn a_copy_beside_the_snapshot_needs_room_for_both_and_one_elsewhere_for_itself() {
        let size = 80 * MIB;
        let copy = 106 * MIB;
        let needed = |own: u64, copies: &[(Disk, u64)]| {
            let own = disk(1, own);
            let found = too_small(size, Some(&own), copies);
            found.map(|(disk, needed)| (disk.id, needed))
        };
        assert_eq!(needed(copy, &[]), None);
        assert_eq!(needed(copy - 1, &[]), Some((1, copy)));
        // Two copies on the same disk are not there at once.
        let beside = || [(disk(1, 0), 0), (disk(1, 0), 0)];
        assert_eq!(needed(2 * copy, &beside()), None);
        assert_eq!(needed(2 * copy - 1, &beside()), Some((1, 2 * copy)));
        let trial = [(disk(1, 0), 128 * MIB), (disk(1, 0), 0)];
        assert_eq!(needed(2 * copy, &trial), Some((1, 2 * copy + 128 * MIB)));
        assert_eq!(needed(copy, &[(disk(2, copy), 0)]), None);
        assert_eq!(needed(copy, &[(disk(2, copy), 1)]), Some((2, copy + 1)));
        // What nobody knows is no reason.
        assert!(too_small(size, None, &[]).is_none());
        assert!(too_small(u64::MAX, Some(&disk(1, u64::MAX)), &[]).is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_kept_for_root_is_room_for_root_of_the_machine_alone() {
        for (users, expected) in [
            ("         0          0 4294967295\n", true),
            ("         0     100000      65536\n", false),
            ("         1          0          1\n0 7 1\n", false),
            ("", false),
        ] {
            assert_eq!(is_of_the_machine(users), expected, "{users}");
        }
        let folder = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::statvfs(folder.path()).unwrap();
        (stat.f_bavail, stat.f_bfree) = (5, 8);
        assert_eq!(free_blocks(&stat, true), 8);
        assert_eq!(free_blocks(&stat, false), 5);
        // proc is no such file system, whoever asks.
        assert!(!gets_reserve(Path::new("/proc")));
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_disk_of_what_it_will_be_in() {
        let folder = tempfile::tempdir().unwrap();
        let there = Disk::of(folder.path()).unwrap();
        let new = Disk::of(&folder.path().join("a/b")).unwrap();
        assert_eq!(there.id, new.id);
        assert!(Disk::of(Path::new("not-there")).is_some());
        refuse_too_little(1, folder.path(), &[]).unwrap();
        let error = refuse_too_little(1 << 60, folder.path(), &[]).unwrap_err();
        assert!(matches!(error, Error::NoRoom { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&*folder.path().to_string_lossy()), "{text}");
    }
}
