//! Counts by name, of which there are never too many.

use std::collections::BTreeMap;

/// Names that are counted each of its own. A cluster has some hundreds; what a
/// file has beyond these is not counted by name, so that none fills the memory.
const NAMES: usize = 10_000;

/// Keys and bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Use {
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

impl Use {
    pub(super) fn add(&mut self, bytes: u64) {
        self.keys += 1;
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, bytes: u64) {
        self.keys = self.keys.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[derive(Debug)]
pub(super) struct Tally<K> {
    by_name: BTreeMap<K, Use>,
    beyond: Use,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
            beyond: Use::default(),
        }
    }
}

impl<K: Ord> Tally<K> {
    pub(super) fn of(&mut self, name: K) -> &mut Use {
        if self.by_name.len() >= NAMES && !self.by_name.contains_key(&name) {
            return &mut self.beyond;
        }
        self.by_name.entry(name).or_default()
    }

    /// What is used at all, by name.
    pub(super) fn into_used(self) -> impl Iterator<Item = (K, Use)> {
        self.by_name.into_iter().filter(|(_, used)| used.keys > 0)
    }
}
