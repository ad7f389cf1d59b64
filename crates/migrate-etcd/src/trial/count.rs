//! Counts the keys that are alive in a database.

use std::collections::BTreeSet;
use std::path::Path;

use crate::bolt::{Database, ReadError};
use crate::inspect::{KEY, record, short};

/// Keys whose last revision is no deletion. Memory: 12 bytes for each and what a
/// set needs beside.
pub(super) fn live(path: &Path) -> Result<u64, ReadError> {
    let database = Database::open(path)?;
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
