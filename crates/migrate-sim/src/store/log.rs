//! The change log: every write in order, the last so many of them kept.

use std::collections::VecDeque;

use super::{ApiError, Change, Resource};

/// Changes with consecutive resourceVersions, and where each kind's changes are.
#[derive(Debug)]
pub(super) struct ChangeLog {
    changes: VecDeque<Change>,
    by_kind: Vec<KindLog>,
    /// resourceVersion before the first change.
    begun: u64,
    /// resourceVersion of the newest change.
    last: u64,
    /// How many changes are kept.
    window: usize,
}

/// Where the changes of one kind are.
#[derive(Debug)]
struct KindLog {
    /// resourceVersions of the kept changes.
    kept: VecDeque<u64>,
    /// resourceVersion of the newest forgotten change.
    forgotten: u64,
}

impl ChangeLog {
    pub(super) fn new(window: usize) -> Self {
        Self {
            changes: VecDeque::new(),
            by_kind: Vec::new(),
            begun: 0,
            last: 0,
            window,
        }
    }

    /// A log that goes on from a resourceVersion whose changes are not in it.
    #[cfg(feature = "snapshot")]
    pub(super) fn from(begun: u64, window: usize) -> Self {
        Self {
            begun,
            last: begun,
            ..Self::new(window)
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The newest resourceVersion whose successors are all kept.
    pub(super) fn oldest(&self) -> u64 {
        self.last - self.changes.len() as u64
    }

    pub(super) fn push(&mut self, change: Change) {
        let index = change.object.resource.index;
        if self.by_kind.len() <= index {
            let forgotten = self.begun;
            self.by_kind.resize_with(index + 1, || KindLog {
                kept: VecDeque::new(),
                forgotten,
            });
        }
        self.last = change.rv;
        self.by_kind[index].kept.push_back(change.rv);
        self.changes.push_back(change);
        self.compact(self.window);
    }

    /// Forgets all but the newest `keep` changes.
    pub(super) fn compact(&mut self, keep: usize) {
        while self.changes.len() > keep {
            if let Some(gone) = self.changes.pop_front() {
                let kind = &mut self.by_kind[gone.object.resource.index];
                kind.kept.pop_front();
                kind.forgotten = gone.rv;
            }
        }
    }

    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window;
        self.compact(window);
    }

    /// Every change after `rv`, oldest first.
    pub(super) fn since(&self, rv: u64) -> Result<impl Iterator<Item = &Change>, ApiError> {
        reaches(self.oldest(), rv)?;
        Ok(self.changes.range(self.position(rv)..))
    }

    /// Every change of one kind after `rv`, oldest first; costs what it yields.
    ///
    /// Only a forgotten change of that kind makes `rv` too old.
    pub(super) fn of_kind_since(
        &self,
        resource: &Resource,
        rv: u64,
    ) -> Result<impl Iterator<Item = &Change>, ApiError> {
        let kind = self.by_kind.get(resource.index);
        reaches(kind.map_or(self.begun, |kind| kind.forgotten), rv)?;
        Ok(kind
            .map(|kind| kind.kept.range(kind.kept.partition_point(|&at| at <= rv)..))
            .into_iter()
            .flatten()
            .map(|&at| &self.changes[self.position(at - 1)]))
    }

    /// Position of the first kept change after `rv`.
    fn position(&self, rv: u64) -> usize {
        // The difference is at most the length of the log.
        rv.saturating_sub(self.oldest())
            .min(self.changes.len() as u64) as usize
    }
}

fn reaches(oldest: u64, rv: u64) -> Result<(), ApiError> {
    if rv >= oldest {
        return Ok(());
    }
    Err(ApiError::Expired {
        message: format!("too old resource version: {rv} ({oldest})"),
    })
}
