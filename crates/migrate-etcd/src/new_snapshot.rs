//! A snapshot that is put together instead of taken of a member.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use migrate_core::hex;
use migrate_core::steps::BackupArtifact;
use sha2::{Digest, Sha256};

use crate::bolt::tree::Tree;
use crate::inspect::KEY;
use crate::inspect::kv::{Revision, encode};
use crate::restore::database::{Elements, log_state, members};
use crate::trailer::TRAILER;
use crate::wal::Voter;
use crate::{Error, Membership, PartFile, read};

/// Version of etcd whose snapshots it is alike.
const VERSION: &str = "3.6.0";

/// Bytes of a page on most machines.
const PAGE_SIZE: usize = 4096;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// A snapshot of a store that is none of etcd's: a simulator, an export, a test.
///
/// # Guarantees
/// * The file is laid out as one of etcd 3.6: all buckets, the SHA-256 at the end.
///   [`inspect`](crate::inspect) finds it sound, and [`Restore`](crate::Restore) makes data of it that an
///   etcd starts on.
/// * Every key stands at the revision that it is given, as if it had been written
///   there for the first time; the store's own revision is the last of them, or
///   [`with_revision`](Self::with_revision).
/// * Everything older counts as compacted: what happened before is not in it, so
///   who would watch from there is told to list anew.
/// * The same keys give the same bytes.
///
/// It is in memory until it is written.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// use migrate_etcd::{Membership, NewSnapshot, PartFile, inspect};
///
/// let members = Membership::parse("m1=http://127.0.0.1:2380", "copy")?;
/// let mut snapshot = NewSnapshot::new(members);
/// snapshot.put("/registry/configmaps/shop/prices", "{}", 7);
/// let file = PartFile::create(folder.path(), "copy.db").await?;
/// let artifact = snapshot.write(file).await?;
/// assert_eq!(inspect(&artifact.path)?.revision, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NewSnapshot {
    members: Membership,
    revision: i64,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    revision: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl NewSnapshot {
    /// A snapshot without keys, of a cluster of these members.
    pub fn new(members: Membership) -> Self {
        Self {
            members,
            // A store begins there.
            revision: 1,
            records: Vec::new(),
        }
    }

    /// Takes the store to `revision` at least: deletions have revisions too, and leave
    /// no key.
    #[must_use]
    pub fn with_revision(mut self, revision: i64) -> Self {
        self.revision = self.revision.max(revision);
        self
    }

    /// Adds a key, last changed at `revision`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, revision: i64) {
        self.revision = self.revision.max(revision);
        self.records.push(Record {
            revision,
            key: key.into(),
            value: value.into(),
        });
    }

    /// Writes it into `file`, puts it on disk, and gives it its name.
    ///
    /// # Errors
    /// [`Error::InvalidRecord`], [`Error::DiskFull`], [`Error::Exists`] or [`Error::File`].
    pub async fn write(mut self, file: PartFile) -> Result<BackupArtifact, Error> {
        self.records.sort_by_key(|record| record.revision);
        self.check()?;
        let fill = move |out: &mut File, part: &Path| {
            let filled = self.fill(out, part);
            filled.map_err(|error| Error::file(part, error))
        };
        let filled = file.fill(fill);
        let (file, (bytes, sha256)) = filled.await?;
        Ok(BackupArtifact::new(file.commit().await?, bytes, sha256))
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |record: &Record, reason| {
            let revision = record.revision;
            Err(Error::InvalidRecord { revision, reason })
        };
        let mut keys = BTreeSet::new();
        let mut before = 0;
        for record in &self.records {
            if record.revision < 1 {
                return invalid(record, "is none of a store");
            }
            if record.revision == before {
                return invalid(record, "is that of two keys");
            }
            if record.key.is_empty() {
                return invalid(record, "has no key");
            }
            if !keys.insert(&record.key) {
                return invalid(record, "has a key that another revision has too");
            }
            before = record.revision;
        }
        Ok(())
    }

    /// Writes all of it; length and SHA-256 of the whole file.
    fn fill(&self, out: &mut File, part: &Path) -> io::Result<(u64, String)> {
        let bytes = self.database(out)?;
        let mut hash = Sha256::new();
        // The first pages were written last.
        read::in_chunks(&mut File::open(part)?, |bytes| hash.update(bytes))?;
        let trailer = hash.clone().finalize();
        out.seek(SeekFrom::End(0))?;
        out.write_all(&trailer)?;
        let sha256 = hex(hash.chain_update(trailer).finalize());
        Ok((bytes + TRAILER as u64, sha256))
    }

    /// Writes the database; its length.
    fn database(&self, out: &mut File) -> io::Result<u64> {
        let voters = self.members.voters()?;
        let mut tree = Tree::new(BufWriter::with_capacity(CHUNK, out), PAGE_SIZE)?;
        for (name, elements) in self.buckets(&voters) {
            let mut bucket = tree.bucket(name.as_bytes(), 0);
            if name.as_bytes() == KEY {
                for record in &self.records {
                    let at = record.revision.cast_unsigned();
                    let value = encode(&record.key, &record.value, at, at, 1);
                    bucket.push(&Revision::key(record.revision, 0), &value)?;
                }
            }
            for (key, value) in elements {
                bucket.push(&key, &value)?;
            }
            bucket.finish()?;
        }
        Ok(tree.finish()?.1)
    }

    /// Every bucket that etcd makes, in their order, with what is in it; the keys come from
    /// the records.
    fn buckets(&self, voters: &[Voter]) -> [(&'static str, Elements); 10] {
        let none = Elements::new;
        let element = |key: &str, value: Vec<u8>| (key.as_bytes().to_vec(), value);
        let mut meta = log_state(voters);
        let compacted = Revision::key(self.revision, 0);
        meta.extend([
            element("storageVersion", VERSION.into()),
            element("scheduledCompactRev", compacted.clone()),
            element("finishedCompactRev", compacted),
        ]);
        let cluster = Elements::from([element("clusterVersion", VERSION.into())]);
        [
            ("alarm", none()),
            ("auth", none()),
            ("authRoles", none()),
            ("authUsers", none()),
            ("cluster", cluster),
            ("key", none()),
            ("lease", none()),
            ("members", members(voters)),
            ("members_removed", none()),
            ("meta", meta),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::folder::names;
    use crate::{Inspection, inspect};

    fn members() -> Membership {
        Membership::parse("m1=http://127.0.0.1:2380", "copy").unwrap()
    }

    async fn written(snapshot: NewSnapshot, folder: &Path) -> Result<(Inspection, Vec<u8>), Error> {
        let file = PartFile::replace(folder, "new.db").await?;
        let artifact = snapshot.write(file).await?;
        let bytes = fs::read(&artifact.path).unwrap();
        assert_eq!(artifact.bytes, bytes.len() as u64);
        assert_eq!(artifact.sha256, hex(Sha256::digest(&bytes)));
        Ok((inspect(&artifact.path)?, bytes))
    }

    #[tokio::test]
    async fn it_is_sound_and_says_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = || {
            let mut snapshot = NewSnapshot::new(members()).with_revision(90);
            snapshot.put("/registry/minions/n1", "{}", 40);
            let system = br#"{"metadata":{"uid":"0b5c-uid"}}"#;
            snapshot.put("/registry/namespaces/kube-system", &system[..], 1);
            snapshot
        };
        let (found, bytes) = written(snapshot(), folder.path()).await.unwrap();
        assert_eq!((found.revision, found.compact_revision()), (90, 90));
        assert_eq!((found.keys.alive, found.keys.revisions), (2, 2));
        assert_eq!(found.kubernetes.cluster.as_deref(), Some("0b5c-uid"));
        assert_eq!(found.storage_version.as_deref(), Some("3.6.0"));
        assert_eq!(found.cluster_version.as_deref(), Some("3.6.0"));
        assert_eq!((found.consistent_index, found.term), (Some(1), Some(1)));
        assert_eq!(found.members[0].name, "m1");
        assert!(found.trailer.is_some());
        assert_eq!(found.structure.free_pages, 0);
        let again = written(snapshot(), folder.path()).await.unwrap();
        assert!(again.1 == bytes, "other bytes of the same keys");
    }

    #[tokio::test]
    async fn what_no_store_could_hold_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        type Case = (&'static [(&'static str, i64)], i64, &'static str);
        let cases: [Case; 5] = [
            (&[("a", 0)], 0, "none of a store"),
            (&[("a", -4)], -4, "none of a store"),
            (&[("a", 3), ("b", 3)], 3, "of two keys"),
            (&[("", 3)], 3, "has no key"),
            (&[("marker", 2), ("marker", 3)], 3, "another revision"),
        ];
        for (records, at, reason) in cases {
            let mut snapshot = NewSnapshot::new(members());
            for (key, revision) in records {
                snapshot.put(*key, "marker", *revision);
            }
            let error = written(snapshot, folder.path()).await.unwrap_err();
            assert!(
                matches!(error, Error::InvalidRecord { revision, .. } if revision == at),
                "{error:?}"
            );
            let text = format!("{error} {error:?}");
            assert!(text.contains(reason) && !text.contains("marker"), "{text}");
            assert!(names(folder.path()).is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the sizes: pages that are full to the byte, values over several.
        #[test]
        fn any_keys_are_there_with_their_revisions(
            sizes in proptest::collection::vec((1usize..300, 0usize..9000, 1i64..5), 0..120),
        ) {
            let mut snapshot = NewSnapshot::new(members());
            let (mut revision, mut bytes) = (0, 0);
            for (index, (key, value, step)) in sizes.iter().enumerate() {
                revision += step;
                let key = format!("{index}{}", "k".repeat(*key));
                bytes += key.len() + value;
                snapshot.put(key, vec![7u8; *value], revision);
            }
            let folder = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (found, _) = runtime.block_on(written(snapshot, folder.path())).unwrap();
            prop_assert_eq!(found.revision, revision.max(1));
            prop_assert_eq!(found.keys.alive, sizes.len() as u64);
            prop_assert_eq!(found.keys.alive_bytes, bytes as u64);
        }
    }
}
