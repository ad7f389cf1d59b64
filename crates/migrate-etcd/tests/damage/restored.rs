//! What a restore makes of files that are damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::super::{Database, Error, EtcdVersion, Membership, Restore};
use super::{Named, Seen, hashed};

/// What a restore writes into the bucket `meta`, whatever was there.
const WRITTEN: [&[u8]; 4] = [
    b"confState",
    b"consistent_index",
    b"scheduledCompactRev",
    b"term",
];

/// Restores some of the files that it is shown.
pub(super) struct Restores {
    folder: tempfile::TempDir,
    /// Of so many files one.
    each: u64,
    shown: u64,
    /// What becomes of the sound file.
    sound: Option<Seen>,
    pub(super) told: Restored,
}

/// What has become of those.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Restored {
    /// Not restored: an inspection refuses the file, too.
    pub(crate) refused: u64,
    /// Not restored for what an inspection only tells: a version, a revision, a learner.
    pub(crate) for_no_damage: u64,
    /// Restored: an inspection finds the new database sound, and what is in it is what was in
    /// the file.
    pub(crate) restored: u64,
    /// Restored although an inspection refuses the file, for what a restore writes anew.
    pub(crate) mended: u64,
}

impl Restores {
    pub(super) fn of(sound: &[u8], each: u64) -> Self {
        let mut restores = Self {
            folder: tempfile::tempdir().unwrap(),
            each,
            shown: 0,
            sound: None,
            told: Restored::default(),
        };
        restores.sound = restores.restore("nothing", sound).ok();
        assert!(restores.sound.is_some(), "the sound file is restored");
        restores
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Restores a file, damaged as `what` says, with its old trailer and with one that is
    /// stamped anew; `seen` is what an inspection sees of the latter, if that is sound.
    ///
    /// # Panics
    /// Where a restore panics, takes the one with the old trailer, refuses as damaged what an
    /// inspection does not, leaves anything behind after it has refused, or makes a database
    /// that is not sound, or has anything else in it than the file, or other keys than the sound
    /// file that no hash tells of.
    pub(super) fn see(&mut self, what: &str, old: &[u8], stamped: &[u8], seen: Option<&Seen>) {
        self.shown += 1;
        if !self.shown.is_multiple_of(self.each) {
            return;
        }
        assert!(self.restore(what, old).is_err(), "{what}");
        match (self.restore(what, stamped), seen) {
            (Err(_), None) => self.told.refused += 1,
            (Err(error), Some(_)) => {
                let is_no_damage = matches!(
                    error,
                    Error::TooNew { .. } | Error::RevisionTooHigh { .. } | Error::Learner { .. }
                );
                assert!(
                    is_no_damage,
                    "{what} is sound, and is not restored: {error}"
                );
                self.told.for_no_damage += 1;
            }
            (Ok(restored), Some(seen)) => {
                assert_eq!(keys(&restored), seen.keys, "{what}");
                assert_eq!(kept(&restored), kept(seen), "{what}");
                self.is_told(what, &restored);
                self.told.restored += 1;
            }
            (Ok(restored), None) => {
                let sound = self.sound.as_ref().unwrap();
                assert_eq!(kept(&restored), kept(sound), "{what}");
                self.is_told(what, &restored);
                self.told.mended += 1;
            }
        }
    }

    /// That keys which are not those of the sound file have another hash.
    fn is_told(&self, what: &str, restored: &Seen) {
        let sound = self.sound.as_ref().unwrap();
        let (found, whole) = (keys(restored), keys(sound));
        if found == whole {
            return;
        }
        let last = |keys: &super::Entries| keys.last().map_or(1, |(at, _)| super::revision_of(at));
        let at = last(&found);
        if hashed(&found, at, -1) == hashed(&whole, at, -1) {
            assert!(at < last(&whole), "{what}");
            return;
        }
        let hash = |of: &Seen| of.database.hash_kv(at, -1).unwrap();
        assert_ne!(hash(restored), hash(sound), "{what}");
    }

    fn restore(&self, what: &str, bytes: &[u8]) -> Result<Seen, Error> {
        let (file, data) = (self.at("a.db"), self.at("data"));
        std::fs::write(&file, bytes).unwrap();
        let members = Membership::parse("a=http://127.0.0.1:2380", "t").unwrap();
        let restore = Restore::new(&file, &data, members, "a", EtcdVersion::new(3, 7));
        let done = catch_unwind(AssertUnwindSafe(|| restore.run()));
        match done.unwrap_or_else(|_| panic!("{what} panics in a restore")) {
            Err(error) => {
                assert!(!data.exists(), "{what}");
                Err(error)
            }
            Ok(_) => {
                let database = Database::open(&data.join("member/snap/db")).unwrap();
                let sound = database.inspect();
                assert!(sound.is_ok(), "{what}: restored, and {sound:?}");
                let seen = Seen::of(database, &sound.unwrap()).unwrap();
                std::fs::remove_dir_all(&data).unwrap();
                Ok(seen)
            }
        }
    }
}

/// The keys of a database that was restored, without the entry by which it is raised.
fn keys(restored: &Seen) -> super::Entries {
    let mut keys = restored.keys.clone();
    assert!(keys.pop().is_some_and(|(_, value)| value.is_empty()));
    keys
}

/// What a restore takes over of the other buckets.
fn kept(seen: &Seen) -> Named {
    let is_kept = |(bucket, key, _): &&(Vec<u8>, Vec<u8>, Vec<u8>)| match bucket.as_slice() {
        b"members" | b"members_removed" => false,
        b"meta" => !WRITTEN.contains(&key.as_slice()),
        _ => true,
    };
    seen.others.iter().filter(is_kept).cloned().collect()
}
