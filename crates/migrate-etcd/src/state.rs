//! A file as the keys that exist in it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::ReadError;
use crate::bolt::Database;
use crate::inspect::kube::{is_identity, uid};
use crate::inspect::kv::{COMPACTIONS, KeyValue, Revision};
use crate::inspect::{KEY, ShortKey, record, short};

/// A key that exists.
pub(crate) struct Alive {
    pub(crate) created: i64,
    pub(crate) changed: i64,
}

/// A file, and which keys exist in it.
pub(crate) struct State {
    database: Database,
    pub(crate) keys: BTreeMap<ShortKey, Alive>,
    pub(crate) revision: i64,
    pub(crate) cluster: Option<String>,
}

impl State {
    /// Checks all of the file.
    pub(crate) fn of(path: &Path) -> Result<Self, ReadError> {
        Self::of_database(Database::open(path)?)
    }

    /// Checks all of the file.
    pub(crate) fn of_database(database: Database) -> Result<Self, ReadError> {
        database.check_trailer()?;
        let mut keys = BTreeMap::new();
        let (mut revision, mut cluster) = (1, None);
        database.check(&mut |bucket, entry| {
            if bucket.name() == b"meta" && COMPACTIONS.contains(&entry.key) {
                // What was deleted last may be gone: then this is where the store is.
                let compacted = Revision::parse(entry.value);
                revision = compacted.map_or(revision, |at| revision.max(at.main));
            }
            if bucket.name() != KEY {
                return Ok(());
            }
            let (at, kv) = record(entry)?;
            revision = revision.max(at.main);
            if is_identity(kv.key) {
                cluster = uid(kv.value);
            }
            if at.is_tombstone {
                keys.remove(&short(kv.key));
            } else if !kv.key.is_empty() {
                let alive = Alive {
                    created: kv.create_revision,
                    changed: at.main,
                };
                keys.insert(short(kv.key), alive);
            }
            Ok(())
        })?;
        Ok(Self {
            database,
            keys,
            revision,
            cluster,
        })
    }

    /// Visits every key that exists, with its last value.
    pub(crate) fn visit(
        &self,
        mut visit: impl FnMut(&ShortKey, &Alive, &KeyValue<'_>),
    ) -> Result<(), ReadError> {
        let buckets = self.database.buckets()?;
        let Some(bucket) = buckets.iter().find(|bucket| bucket.name() == KEY) else {
            return Ok(());
        };
        self.database.each(bucket, &mut |entry| {
            let (at, kv) = record(entry)?;
            let key = short(kv.key);
            let alive = self.keys.get(&key);
            if let Some(alive) = alive.filter(|alive| alive.changed == at.main) {
                visit(&key, alive, &kv);
            }
            Ok(())
        })
    }
}
