//! A map of short keys in little memory.

use crate::inspect::ShortKey;

/// Most entries of a run: so many are moved to make room for one, some KiB.
const RUN: usize = 512;
/// Entries that a run gets more room for at once. A vector by itself would double it.
const STEP: usize = 16;

/// Keys with a small value each, sorted. A tree of the standard library takes half as much
/// again and more, for its nodes are two thirds full.
#[derive(Debug)]
pub(crate) struct Table<V> {
    /// In order; the first one has what is before all others too.
    runs: Vec<Run<V>>,
    len: usize,
}

#[derive(Debug)]
struct Run<V> {
    /// No key of it is less.
    from: ShortKey,
    entries: Vec<(ShortKey, V)>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        let first = Run {
            from: [0; 12],
            entries: Vec::new(),
        };
        Self {
            runs: vec![first],
            len: 0,
        }
    }
}

impl<V> Table<V> {
    /// Its value, if it is there.
    pub(crate) fn get(&self, key: &ShortKey) -> Option<&V> {
        let run = self.runs.get(self.run_of(key))?;
        let at = run.find(key).ok()?;
        run.entries.get(at).map(|(_, value)| value)
    }

    /// Puts it there; the value that it had.
    pub(crate) fn insert(&mut self, key: ShortKey, value: V) -> Option<V> {
        let at = self.run_of(&key);
        let run = self.runs.get_mut(at)?;
        match run.find(&key) {
            Ok(found) => {
                let (_, old) = run.entries.get_mut(found)?;
                return Some(std::mem::replace(old, value));
            }
            Err(place) => {
                if run.entries.len() == run.entries.capacity() {
                    run.entries.reserve_exact(STEP);
                }
                run.entries.insert(place, (key, value));
                self.len += 1;
            }
        }
        if run.entries.len() >= RUN {
            let second = run.split();
            self.runs.insert(at + 1, second);
        }
        None
    }

    /// Takes it away; the value that it had.
    pub(crate) fn remove(&mut self, key: &ShortKey) -> Option<V> {
        let at = self.run_of(key);
        let run = self.runs.get_mut(at)?;
        let found = run.find(key).ok()?;
        let (_, old) = run.entries.remove(found);
        self.len -= 1;
        Some(old)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The run that the key is in, if it is anywhere.
    fn run_of(&self, key: &ShortKey) -> usize {
        let upto = self.runs.partition_point(|run| run.from <= *key);
        upto.saturating_sub(1)
    }
}

impl<V> Run<V> {
    /// Where the key is, or belongs.
    fn find(&self, key: &ShortKey) -> Result<usize, usize> {
        self.entries.binary_search_by(|(it, _)| it.cmp(key))
    }

    /// Takes away its second half.
    fn split(&mut self) -> Self {
        let entries = self.entries.split_off(self.entries.len() / 2);
        self.entries.shrink_to_fit();
        Self {
            from: entries.first().map_or(self.from, |(key, _)| *key),
            entries,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::inspect::short;

    proptest! {
        /// Keys of which many occur again, each put or taken away.
        #[test]
        fn it_is_a_map(changes in prop::collection::vec((0u32..3000, any::<bool>()), 0..6000)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (at, (key, is_put)) in changes.into_iter().enumerate() {
                let key = short(&key.to_le_bytes());
                if is_put || at % 3 == 0 {
                    prop_assert_eq!(table.insert(key, at), map.insert(key, at));
                } else {
                    prop_assert_eq!(table.remove(&key), map.remove(&key));
                }
            }
            for key in 0u32..3000 {
                let key = short(&key.to_le_bytes());
                prop_assert_eq!(table.get(&key), map.get(&key));
            }
            prop_assert_eq!(table.is_empty(), map.is_empty());
        }
    }

    /// 24 bytes for each are allowed, beside 24 MiB for all of the process.
    #[test]
    fn a_key_takes_little_more_than_its_bytes() {
        let mut table = Table::default();
        let keys = 200_000u32;
        for key in 0..keys {
            table.insert(short(&key.to_le_bytes()), (0u32, 0u16));
        }
        let room = |run: &Run<(u32, u16)>| {
            let entries = run.entries.capacity() * size_of::<(ShortKey, (u32, u16))>();
            // What an allocator keeps of each.
            entries + size_of::<Run<(u32, u16)>>() + 16
        };
        let bytes: usize = table.runs.iter().map(room).sum();
        assert!(bytes < keys as usize * 22, "{bytes}");
    }
}
