//! What a restore makes of files that are damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::super::{Database, EtcdVersion, Membership, Restore};

/// Restores some of the files that it is shown.
pub(super) struct Restores {
    folder: tempfile::TempDir,
    /// Of so many files one.
    each: u64,
    shown: u64,
    pub(super) told: Restored,
}

/// What has become of those.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Restored {
    /// Not restored.
    pub(crate) refused: u64,
    /// Restored: an inspection finds the new database sound.
    pub(crate) restored: u64,
}

impl Restores {
    pub(super) fn new(each: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            each,
            shown: 0,
            told: Restored::default(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Restores a file, damaged as `what` says, with its old trailer and with one that is
    /// stamped anew.
    ///
    /// # Panics
    /// Where a restore panics, takes the one with the old trailer or what an inspection
    /// refuses, leaves anything behind after it has refused, or makes a database that is not
    /// sound.
    pub(super) fn see(&mut self, what: &str, old: &[u8], stamped: &[u8], is_sound: bool) {
        self.shown += 1;
        if !self.shown.is_multiple_of(self.each) {
            return;
        }
        assert!(!self.restore(what, old), "{what}");
        match self.restore(what, stamped) {
            true => {
                assert!(is_sound, "{what} is restored");
                self.told.restored += 1;
            }
            false => self.told.refused += 1,
        }
    }

    fn restore(&self, what: &str, bytes: &[u8]) -> bool {
        let (file, data) = (self.at("a.db"), self.at("data"));
        std::fs::write(&file, bytes).unwrap();
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let restore = Restore::new(&file, &data, members, "a", EtcdVersion::new(3, 7));
        let done = catch_unwind(AssertUnwindSafe(|| restore.run()));
        match done.unwrap_or_else(|_| panic!("{what} panics in a restore")) {
            Err(_) => {
                assert!(!data.exists(), "{what}");
                false
            }
            Ok(_) => {
                let database = Database::open(&data.join("member/snap/db")).unwrap();
                let sound = database.inspect();
                assert!(sound.is_ok(), "{what}: restored, and {sound:?}");
                std::fs::remove_dir_all(&data).unwrap();
                true
            }
        }
    }
}
