//! A journal in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Entry, Journal};
use crate::Error;

/// Keeps entries in memory: for rehearsals and tests.
///
/// Clones share the entries, so that a rehearsal reopens the journal of a run
/// that was dropped. Nothing survives the process, and nobody is locked out.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// A journal that already holds `entries`.
    pub fn with_entries(entries: Vec<Entry>) -> Self {
        Self {
            entries: Arc::new(Mutex::new(entries)),
        }
    }

    /// The entries so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// A vector is whole between two statements, whoever panicked meanwhile.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        Ok(self.entries())
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        let mut entries = self.lock();
        let expected = entries.len() as u64;
        if entry.seq != expected {
            return Err(Error::JournalOrder {
                place: "memory".to_owned(),
                expected,
                found: entry.seq,
            });
        }
        entries.push(entry.clone());
        Ok(())
    }
}
