//! Journals that fail on purpose.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use migrate_executor::{Entry, Error, Journal, Record};
use migrate_plan::Input;

use super::world::World;

/// The moment of a crash, as seen from one record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// Right before it is durable: everything that came before has happened.
    Before,
    /// Right after it is durable, before what it announces.
    After,
}

/// Fails at one record, as a process that dies there.
pub(crate) struct Crashing<J> {
    pub(crate) inner: J,
    pub(crate) at: u64,
    pub(crate) moment: Moment,
}

#[async_trait]
impl<J: Journal> Journal for Crashing<J> {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.load().await
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.seq == self.at {
            if self.moment == Moment::After {
                self.inner.append(entry).await?;
            }
            return Err(io_error("crashed"));
        }
        self.inner.append(entry).await
    }
}

/// A disk that is full for a while: fails `left` times once `from` is reached.
pub(crate) struct Full<J> {
    pub(crate) inner: J,
    pub(crate) from: u64,
    pub(crate) left: Arc<AtomicU64>,
}

#[async_trait]
impl<J: Journal> Journal for Full<J> {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.load().await
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.seq >= self.from && self.left.load(Ordering::SeqCst) > 0 {
            self.left.fetch_sub(1, Ordering::SeqCst);
            return Err(io_error("no space left on device"));
        }
        self.inner.append(entry).await
    }
}

/// Tells the world what is open when it is read, and what begins after that.
pub(crate) struct Watched(pub(crate) Box<dyn Journal>, pub(crate) World);

#[async_trait]
impl Journal for Watched {
    fn place(&self) -> String {
        self.0.place()
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        let entries = self.0.load().await?;
        let mut open = BTreeMap::new();
        for entry in &entries {
            match &entry.record {
                Record::RunOpened(_) => open.clear(),
                Record::Intent { action } => {
                    open.insert(action.id.to_string(), action.phase);
                }
                record => forget_ended(&mut open, record),
            }
        }
        self.1.lock().unlooked = open;
        Ok(entries)
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        {
            let mut world = self.1.lock();
            match &entry.record {
                Record::Intent { action } => world.begins(action.id.as_str()),
                record => forget_ended(&mut world.unlooked, record),
            }
        }
        self.0.append(entry).await
    }
}

fn forget_ended<T>(open: &mut BTreeMap<String, T>, record: &Record) {
    if let Record::Input {
        input: Input::ActionEnded { id, .. },
    } = record
    {
        open.remove(id.as_str());
    }
}

/// The same journal in another place.
pub(crate) struct Elsewhere<J>(pub(crate) J);

#[async_trait]
impl<J: Journal> Journal for Elsewhere<J> {
    fn place(&self) -> String {
        format!("elsewhere:{}", self.0.place())
    }

    async fn load(&mut self) -> Result<Vec<Entry>, Error> {
        self.0.load().await
    }

    async fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        self.0.append(entry).await
    }
}

fn io_error(what: &str) -> Error {
    Error::JournalIo {
        place: "memory".to_owned(),
        doing: "append to",
        source: io::Error::other(what.to_owned()),
    }
}
