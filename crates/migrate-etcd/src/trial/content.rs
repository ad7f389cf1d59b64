//! What two databases have to have in common, if one was restored from the other.

use std::collections::BTreeSet;
use std::path::Path;

use migrate_core::Cancellation;

use crate::Error;
use crate::bolt::{Database, ReadError};
use crate::inspect::{KEY, record, short};

/// Keys, values and revisions of a database, in a few words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Content {
    /// Keys whose last revision is no deletion.
    pub(super) keys: u64,
    /// HashKV of every entry, as without any compaction.
    hash: u32,
}

impl Content {
    /// What is in the file at `path` up to `revision`. Memory: 12 bytes for each key and
    /// what a set needs beside.
    pub(super) fn of(path: &Path, revision: i64, cancel: &Cancellation) -> Result<Self, ReadError> {
        let database = Database::open(path)?.until(cancel);
        Ok(Self {
            keys: alive(&database)?,
            hash: database.hash_kv(revision, -1)?,
        })
    }

    /// The content of `restored`, which has to be that of `snapshot`.
    pub(super) fn of_both(
        snapshot: &Path,
        restored: &Path,
        revision: i64,
        cancel: &Cancellation,
    ) -> Result<Self, Error> {
        let before = Self::of(snapshot, revision, cancel)?;
        let after = Self::of(restored, revision, cancel)?;
        let pairs = [
            ("number of keys", before.keys, after.keys),
            ("hash", before.hash.into(), after.hash.into()),
        ];
        for (what, before, after) in pairs {
            refuse_other(snapshot, what, before, after)?;
        }
        Ok(before)
    }
}

/// Refuses what is another in the restored data than in `snapshot`.
pub(super) fn refuse_other(
    snapshot: &Path,
    what: &str,
    before: u64,
    after: u64,
) -> Result<(), Error> {
    match before == after {
        true => Ok(()),
        false => Err(Error::Differs {
            path: snapshot.to_owned(),
            what: what.to_owned(),
            snapshot: before,
            restored: after,
        }),
    }
}

fn alive(database: &Database) -> Result<u64, ReadError> {
    let buckets = database.buckets()?;
    let mut alive = BTreeSet::new();
    for bucket in buckets.iter().filter(|bucket| bucket.name() == KEY) {
        database.each(bucket, &mut |entry| {
            // In the order of their revisions.
            let (revision, kv) = record(entry)?;
            if revision.is_tombstone {
                alive.remove(&short(kv.key));
            } else if !entry.value.is_empty() {
                // A raised revision has no key.
                alive.insert(short(kv.key));
            }
            Ok(())
        })?;
    }
    Ok(alive.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bolt::build::{Entries, Free, snapshot};
    use crate::inspect::kv::samples::{put, tombstone};

    #[test]
    fn what_was_restored_has_the_same_keys_and_the_same_values() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, entries: Entries| {
            let path = folder.path().join(name);
            std::fs::write(&path, snapshot(4096, Free::Unlisted, &[("key", entries)])).unwrap();
            path
        };
        let history = |value: &str, last: (Vec<u8>, Vec<u8>)| {
            vec![put(2, 0, "a", "1", 2, 1), put(3, 0, "b", value, 3, 1), last]
        };
        let whole = || history("2", put(4, 0, "a", "3", 2, 2));
        let ours = write("ours", whole());
        let both = |theirs: &Path| Content::of_both(&ours, theirs, 4, &Cancellation::new());
        let content = both(&write("same", whole())).unwrap();
        assert_eq!(content.keys, 2);
        let cancel = Cancellation::new();
        cancel.cancel();
        assert!(Content::of_both(&ours, &ours, 4, &cancel).is_err());
        for (name, entries, expected) in [
            (
                "deleted",
                history("2", tombstone(4, 0, "a")),
                "number of keys",
            ),
            ("value", history("9", put(4, 0, "a", "3", 2, 2)), "hash"),
            ("order", history("2", put(4, 0, "b", "3", 3, 2)), "hash"),
            ("older", whole()[1..].to_vec(), "hash"),
        ] {
            let theirs = write(name, entries);
            let error = both(&theirs).unwrap_err();
            assert!(
                matches!(&error, Error::Differs { what, .. } if what == expected),
                "{name}: {error}"
            );
        }
    }
}
