//! The store behind a lock, with wake-ups.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Resource, Store};

/// The one store of a cluster, held by the API server and by the world.
///
/// Each lock first moves the store to the present: cluster time is the start
/// time plus the tokio time that has passed since `Shared` was made, so a
/// paused runtime gives virtual time. Each unlock wakes those who wait for the
/// kinds that were changed under it.
pub struct Shared {
    store: Mutex<Store>,
    start_ms: u64,
    started: Instant,
    newest: watch::Sender<u64>,
    by_kind: Mutex<Vec<watch::Sender<u64>>>,
}

/// The locked store.
pub struct StoreGuard<'a> {
    shared: &'a Shared,
    store: MutexGuard<'a, Store>,
}

impl Shared {
    /// Takes over a store; its present time is that of this call.
    pub fn new(store: Store) -> Self {
        Self {
            start_ms: store.now_ms(),
            started: Instant::now(),
            newest: watch::Sender::new(store.resource_version()),
            by_kind: Mutex::default(),
            store: Mutex::new(store),
        }
    }

    /// Locks the store and moves it to the present. Never hold it over an await.
    pub fn lock(&self) -> StoreGuard<'_> {
        // A panic of an observer leaves the store whole: it is called last.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.set_now(self.now_ms());
        StoreGuard {
            shared: self,
            store,
        }
    }

    /// Cluster time in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(millis(self.started.elapsed()))
    }

    /// The tokio time at which cluster time reaches `ms`.
    pub fn instant_at(&self, ms: u64) -> Instant {
        self.started + Duration::from_millis(ms.saturating_sub(self.start_ms))
    }

    /// The newest resourceVersion, to wait on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The newest resourceVersion of one kind, to wait on.
    pub fn changes_of(&self, resource: &Resource) -> watch::Receiver<u64> {
        let mut kinds = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        while kinds.len() <= resource.index {
            kinds.push(watch::Sender::new(0));
        }
        kinds[resource.index].subscribe()
    }

    fn wake(&self, rv: u64, dirty: &[bool]) {
        let kinds = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        for (sender, _) in kinds.iter().zip(dirty).filter(|(_, changed)| **changed) {
            sender.send_replace(rv);
        }
        drop(kinds);
        self.newest.send_replace(rv);
    }
}

impl Deref for StoreGuard<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl DerefMut for StoreGuard<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl Drop for StoreGuard<'_> {
    fn drop(&mut self) {
        let dirty = std::mem::take(&mut self.store.dirty);
        if !dirty.is_empty() {
            self.shared.wake(self.store.resource_version(), &dirty);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("newest", &*self.newest.borrow())
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
