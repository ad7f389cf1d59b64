//! A file as the keys that exist in it.

use std::path::Path;

use crate::ReadError;
use crate::bolt::Database;
use crate::inspect::kv::{KeyValue, Revision};
use crate::inspect::{ShortKey, record, short};
use crate::table::Table;

/// A key that exists.
pub(crate) struct Alive {
    pub(crate) created: i64,
    pub(crate) changed: i64,
}

/// A file, and which keys exist in it.
pub(crate) struct State {
    database: Database,
    pub(crate) keys: Table<Alive>,
    pub(crate) revision: i64,
    pub(crate) cluster: Option<String>,
}

impl State {
    /// Checks all of the file.
    pub(crate) fn of(path: &Path) -> Result<Self, ReadError> {
        Self::of_database(Database::open(path)?)
    }

    /// Checks all of the file, as [`Database::inspect`] does: what of it is read below is then
    /// what its writer meant.
    pub(crate) fn of_database(database: Database) -> Result<Self, ReadError> {
        let found = database.inspect()?;
        let mut keys = Table::default();
        each_record(&database, |at, kv| {
            if at.is_tombstone {
                keys.remove(&short(kv.key));
            } else if !kv.key.is_empty() {
                let alive = Alive {
                    created: kv.create_revision,
                    changed: at.main,
                };
                keys.insert(short(kv.key), alive);
            }
        })?;
        Ok(Self {
            database,
            keys,
            revision: found.revision,
            cluster: found.kubernetes.cluster,
        })
    }

    /// Visits every key that exists, with its last value.
    pub(crate) fn visit(
        &self,
        mut visit: impl FnMut(&ShortKey, &Alive, &KeyValue<'_>),
    ) -> Result<(), ReadError> {
        each_record(&self.database, |at, kv| {
            let key = short(kv.key);
            let alive = self.keys.get(&key);
            if let Some(alive) = alive.filter(|alive| alive.changed == at.main) {
                visit(&key, alive, kv);
            }
        })
    }
}

/// Hands every record of every key to `visit`, in the order of the revisions.
fn each_record(
    database: &Database,
    mut visit: impl FnMut(Revision, &KeyValue<'_>),
) -> Result<(), ReadError> {
    let Some(bucket) = database.key_bucket()? else {
        return Ok(());
    };
    database.each(&bucket, &mut |entry| {
        let (at, kv) = record(entry)?;
        visit(at, &kv);
        Ok(())
    })
}
