//! Counts the keys that are alive in a database.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::restore::{RestoreError, Source};
use crate::trailer::TRAILER;
use crate::wal::first_bytes_field;

/// Keys whose last revision is no deletion. Memory: 16 bytes for each and what a
/// set needs beside.
pub(super) fn live(path: &Path, has_trailer: bool) -> Result<u64, RestoreError> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = opened.map_err(|error| RestoreError::file(path, error))?;
    let trailer = if has_trailer { TRAILER as u64 } else { 0 };
    let mut source = Source::open(file, path, bytes.saturating_sub(trailer))?;
    let buckets = source.buckets()?;
    let mut alive = BTreeSet::new();
    for bucket in buckets.iter().filter(|bucket| bucket.name == b"key") {
        source.each(bucket, &mut |revision, value| {
            // A raised revision has no key.
            let Some(key) = first_bytes_field(value) else {
                return Ok(());
            };
            let hash = Sha256::digest(key);
            let name = u128::from_be_bytes(hash.first_chunk().copied().unwrap_or_default());
            // In the order of their revisions.
            if revision.ends_with(b"t") && revision.len() == 18 {
                alive.remove(&name);
            } else {
                alive.insert(name);
            }
            Ok(())
        })?;
    }
    Ok(alive.len() as u64)
}
