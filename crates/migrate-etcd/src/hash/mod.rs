//! HashKV, the hash by which etcd compares members, of a file.

#[cfg(feature = "client")]
mod prove;

#[cfg(test)]
mod tests;

#[cfg(feature = "client")]
pub(crate) use prove::{Compared, Phase};
#[cfg(feature = "client")]
pub use prove::{Proof, Proven, prove, prove_with};

use crate::bolt::{Bucket, Database, ReadError};
use crate::inspect::{KEY, record, short};
use crate::table::Table;

impl Database {
    /// The hash that a member gives for `revision` (`etcdctl endpoint hashkv --rev`)
    /// once it is compacted at `compact_revision`; -1 is no compaction.
    ///
    /// It covers bucket `key` only: keys, values and their revisions, but no leases,
    /// members, users or roles. Equal to that of etcd 3.5.16 and later; older ones
    /// count a tombstone at the compacted revision that is still there.
    ///
    /// The file must be of `revision` or later, and not be compacted beyond it.
    /// Memory is some 22 bytes for each key that exists.
    ///
    /// # Errors
    /// [`ReadError`] where the bucket is damaged.
    pub fn hash_kv(&self, revision: i64, compact_revision: i64) -> Result<u32, ReadError> {
        // CRC-32C of the bucket's name, then of each key and value in order: etcd's
        // server/storage/mvcc/hash.go.
        let mut hash = crc32c::crc32c(KEY);
        let Some(bucket) = self.key_bucket()? else {
            return Ok(hash);
        };
        let kept = self.kept(&bucket, revision, compact_revision)?;
        let mut ordinal = 0;
        self.each(&bucket, &mut |entry| {
            let (at, kv) = record(entry)?;
            if at.main > revision {
                return Ok(());
            }
            ordinal += 1;
            let is_going = at.main <= compact_revision && kept.is_going(kv.key, ordinal);
            // Some versions delete it when they compact, and some do not.
            let is_either = at.main == compact_revision && at.is_tombstone;
            if !is_going && !is_either {
                hash = crc32c::crc32c_append(hash, entry.key);
                hash = crc32c::crc32c_append(hash, entry.value);
            }
            Ok(())
        })?;
        Ok(hash)
    }

    /// The bucket of all revisions, if it is there.
    pub(crate) fn key_bucket(&self) -> Result<Option<Bucket>, ReadError> {
        let mut buckets = self.buckets()?.into_iter();
        Ok(buckets.find(|bucket| bucket.name() == KEY))
    }

    /// What a compaction at `revision` would keep: of each key the last entry,
    /// unless it is a tombstone.
    fn kept(
        &self,
        bucket: &Bucket,
        revision: i64,
        compact_revision: i64,
    ) -> Result<Kept, ReadError> {
        let mut kept = Kept::default();
        if compact_revision < 1 {
            return Ok(kept);
        }
        let mut ordinal = 0u64;
        self.each(bucket, &mut |entry| {
            let (at, kv) = record(entry)?;
            if at.main > revision {
                return Ok(());
            }
            ordinal += 1;
            if at.is_tombstone {
                kept.last.remove(&short(kv.key));
            } else {
                kept.last.insert(short(kv.key), ordinal.to_be_bytes());
            }
            Ok(())
        })?;
        Ok(kept)
    }
}

/// The last entry of each key, by its place in the bucket.
#[derive(Default)]
struct Kept {
    /// As bytes, which take no room to be in line.
    last: Table<[u8; 8]>,
}

impl Kept {
    /// Whether a compaction takes an entry away. Where nothing is kept, etcd takes
    /// it that there was no compaction.
    fn is_going(&self, key: &[u8], ordinal: u64) -> bool {
        !self.last.is_empty() && self.last.get(&short(key)) != Some(&ordinal.to_be_bytes())
    }
}
