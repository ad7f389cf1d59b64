//! What a snapshot holds, told without etcd.

pub(crate) mod buckets;
pub(crate) mod kube;
pub(crate) mod kv;
mod report;
mod tally;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;

use std::path::Path;

use kube::View;
#[cfg(feature = "client")]
pub(crate) use kube::is_built_in;
pub use kube::object_key;
use kv::{KeyValue, Revision};
use migrate_core::hex;
pub(crate) use report::is_zero;
pub use report::{
    Auth, Compaction, Encrypted, FolderUse, Inspection, Keys, Kubernetes, MemberRecord, ResourceUse,
};
use sha2::{Digest, Sha256};
use tally::{Tally, Use};

use crate::bolt::{Database, Entry, Fault, ReadError, Told};
use crate::table::Table;

/// The bucket of all revisions of all keys.
pub(crate) const KEY: &[u8] = b"key";

/// Folders that are told.
const FOLDERS: usize = 20;

/// A key in few bytes: 96 bits of its SHA-256, so that no two keys of a store
/// are taken for one.
pub(crate) type ShortKey = [u8; 12];

pub(crate) fn short(key: &[u8]) -> ShortKey {
    let hash: [u8; 32] = Sha256::digest(key).into();
    let mut short = [0; 12];
    short.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    short
}

/// The revision and the record of an entry of bucket `key`.
pub(crate) fn record<'a>(entry: &Entry<'a>) -> Result<(Revision, KeyValue<'a>), Fault> {
    let parse = || {
        let revision = Revision::parse(entry.key)?;
        Ok((revision, KeyValue::parse(revision, entry.value)?))
    };
    parse().map_err(|what| Fault::Entry {
        bucket: "key".to_owned(),
        what,
    })
}

/// Opens a file and checks all that can be checked without etcd; see
/// [`Database::inspect`].
///
/// # Errors
/// [`ReadError`] at the first damage.
pub fn inspect(path: &Path) -> Result<Inspection, ReadError> {
    Database::open(path)?.inspect()
}

/// As [`inspect`]; `progress` hears bytes read and bytes in all, about each MiB and at the
/// end. A file with a trailer is read twice, and so has twice its bytes; what is free in it is
/// read once only, so that the last step may be a large one.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_with(
    path: &Path,
    progress: impl Fn(u64, u64) + Send + Sync + 'static,
) -> Result<Inspection, ReadError> {
    inspect_told(Database::open(path)?, Some(Told::new(progress)))
}

/// As [`inspect`], told to who wants to hear it.
pub(crate) fn inspect_told(
    database: Database,
    told: Option<Told>,
) -> Result<Inspection, ReadError> {
    let Some(told) = told else {
        return database.inspect();
    };
    let trailer = match database.has_trailer() {
        true => database.file_len(),
        false => 0,
    };
    let of = database.data_len() + trailer;
    let database = database.telling(told, of);
    let found = database.inspect()?;
    database.tell_end();
    Ok(found)
}

impl Database {
    /// Checks the trailer if there is one, the whole structure, every revision and
    /// every record, and that the buckets `key` and `meta` are there, and tells what is
    /// in it.
    ///
    /// Memory is some 22 bytes for each key that exists, beside what
    /// [`Database`] needs.
    ///
    /// # Errors
    /// [`ReadError`] at the first damage.
    pub fn inspect(&self) -> Result<Inspection, ReadError> {
        let trailer = self.check_trailer()?.map(hex);
        let mut found = Inspection {
            bytes: self.file_len(),
            trailer,
            page_size: self.page_size(),
            ..Inspection::default()
        };
        let mut store = Store::default();
        found.structure = self.check(&mut |bucket, entry| {
            buckets::refuse_numbered(bucket)?;
            if bucket.name() == KEY {
                store.take(&mut found.keys, entry)
            } else {
                buckets::take(&mut found, bucket, entry)
            }
        })?;
        buckets::take_names(&mut found, self)?;
        found.revision = store.last.max(found.compact_revision()).max(1);
        store.tell(&mut found);
        Ok(found)
    }
}

/// A key that exists.
struct Alive {
    bytes: u32,
    encryption: u16,
}

/// What the revisions so far add up to.
#[derive(Default)]
struct Store {
    alive: Table<Alive>,
    folders: Tally<String>,
    kube: View,
    last: i64,
    unknown_fields: u64,
}

impl Store {
    fn take(&mut self, keys: &mut Keys, entry: &Entry<'_>) -> Result<(), Fault> {
        let (revision, kv) = record(entry)?;
        keys.revisions += 1;
        self.last = revision.main;
        self.unknown_fields += u64::from(kv.unknown_fields);
        self.kube.identify(kv.key, kv.value);
        let short = short(kv.key);
        let after = if revision.is_tombstone {
            keys.tombstones += 1;
            self.alive.remove(&short)
        } else if entry.value.is_empty() {
            // What a restore leaves to raise the revision is no key.
            return Ok(());
        } else {
            let bytes = u32::try_from(kv.key.len() + kv.value.len()).unwrap_or(u32::MAX);
            let encryption = self.kube.encryption(kv.value);
            self.folder(&kv).add(bytes.into());
            self.kube.add(kv.key, encryption, bytes.into());
            keys.alive += 1;
            keys.alive_bytes += u64::from(bytes);
            self.alive.insert(short, Alive { bytes, encryption })
        };
        if let Some(Alive { bytes, encryption }) = after {
            self.folder(&kv).remove(bytes.into());
            self.kube.remove(kv.key, encryption, bytes.into());
            keys.alive -= 1;
            keys.alive_bytes -= u64::from(bytes);
        }
        Ok(())
    }

    fn folder(&mut self, kv: &KeyValue<'_>) -> &mut Use {
        self.folders.of(kube::folder(kv.key))
    }

    fn tell(self, found: &mut Inspection) {
        found.unknown_fields += self.unknown_fields;
        let folder = |(folder, Use { keys, bytes })| FolderUse {
            folder,
            keys,
            bytes,
        };
        found.folders = self.folders.into_used().map(folder).collect();
        // Stable: equals stay in the order of their names.
        found
            .folders
            .sort_by_key(|folder| std::cmp::Reverse(folder.bytes));
        found.folders.truncate(FOLDERS);
        let resource = |(resource, used): (String, Use)| ResourceUse {
            resource,
            objects: used.keys,
            bytes: used.bytes,
        };
        found.kubernetes.cluster = self.kube.cluster;
        found.kubernetes.resources = self.kube.resources.into_used().map(resource).collect();
        let encrypted = |((by, resource), used): ((kube::Encryption, String), Use)| Encrypted {
            provider: by.provider,
            version: by.version,
            key: by.key,
            resource,
            objects: used.keys,
        };
        found.kubernetes.encrypted = self.kube.encrypted.into_used().map(encrypted).collect();
    }
}
