//! Objects by name, and what is remembered of those that are gone.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

use super::io::Seen;

/// How many of each kind that are gone are remembered; the oldest are forgotten
/// first.
pub(super) const TOMBSTONES: usize = 16_384;

/// What is gone, oldest first, and how far back what was forgotten reaches.
///
/// Between two lists a watch shows what is new at versions above all that it has
/// shown before. So an event at a version that a forgotten object had is about
/// the past, and never about something new.
#[derive(Clone, Debug)]
pub(super) struct Graves<K> {
    in_order: VecDeque<(K, u64)>,
    forgotten: u64,
}

impl<K> Graves<K> {
    pub(super) fn new() -> Self {
        Self {
            in_order: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Remembers `key`, last seen at `version`; gives the one that is forgotten
    /// for it.
    pub(super) fn bury(&mut self, key: K, version: u64) -> Option<(K, u64)> {
        self.in_order.push_back((key, version));
        if self.in_order.len() <= TOMBSTONES {
            return None;
        }
        let oldest = self.in_order.pop_front()?;
        self.forgotten = self.forgotten.max(oldest.1);
        Some(oldest)
    }

    /// The events that follow go on from a list, which may have been older than
    /// those before it.
    pub(super) fn forget_reach(&mut self) {
        self.forgotten = 0;
    }

    /// Whether an event at `version` about something unknown is from the past.
    pub(super) fn reach(&self, version: u64) -> bool {
        version != 0 && version <= self.forgotten
    }
}

/// Objects of one kind by name, the gone ones among them bounded.
#[derive(Clone, Debug)]
pub(super) struct Slots<K, T> {
    slots: BTreeMap<K, Slot<T>>,
    graves: Graves<K>,
}

/// An object by name. The version outlives the object, so that a late
/// sighting does not bring it back.
#[derive(Clone, Debug)]
struct Slot<T> {
    value: Option<T>,
    version: u64,
}

impl<T> Slot<T> {
    /// Whether a sighting at `version` is not from the past.
    fn admits(&self, version: u64) -> bool {
        version == 0 || version > self.version || (version == self.version && self.value.is_some())
    }
}

impl<K: Clone + Ord, T: Clone + PartialEq> Slots<K, T> {
    pub(super) fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            graves: Graves::new(),
        }
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
    {
        self.slots.get(key).and_then(|slot| slot.value.as_ref())
    }

    /// Takes note of an object; true when it says something new.
    pub(super) fn see(&mut self, key: K, seen: &Seen<T>) -> bool {
        let slot = self.slots.entry(key).or_insert(Slot {
            value: None,
            version: 0,
        });
        if !slot.admits(seen.version) {
            return false;
        }
        slot.version = slot.version.max(seen.version);
        let news = slot.value.as_ref() != Some(&seen.value);
        if news {
            slot.value = Some(seen.value.clone());
        }
        news
    }

    /// Takes the object out; true when it was there.
    pub(super) fn lose(&mut self, key: &K) -> bool {
        let Some(slot) = self.slots.get_mut(key) else {
            return false;
        };
        if slot.value.take().is_none() {
            return false;
        }
        let version = slot.version;
        if let Some((oldest, buried)) = self.graves.bury(key.clone(), version)
            // One that came back since has another grave, or none.
            && self
                .slots
                .get(&oldest)
                .is_some_and(|slot| slot.value.is_none() && slot.version == buried)
        {
            self.slots.remove(&oldest);
        }
        true
    }

    /// Whether an event about `key` at `version` shows an object that is gone and
    /// forgotten.
    pub(super) fn is_past(&self, key: &K, version: u64) -> bool {
        !self.slots.contains_key(key) && self.graves.reach(version)
    }

    /// Everything of the kind has been listed.
    pub(super) fn listed(&mut self) {
        self.graves.forget_reach();
    }

    /// Those that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = (&K, &T)> + Clone {
        self.slots
            .iter()
            .filter_map(|(key, slot)| slot.value.as_ref().map(|value| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 3 * TOMBSTONES as u64;

    fn gone(count: u64) -> Slots<u64, u64> {
        let mut slots = Slots::new();
        for key in 1..=count {
            assert!(slots.see(key, &Seen::new(key, key)));
            assert!(slots.lose(&key) && !slots.lose(&key));
        }
        slots
    }

    #[test]
    fn what_is_gone_is_bounded_and_the_oldest_is_forgotten_first() {
        let slots = gone(MANY);
        assert_eq!(slots.slots.len(), TOMBSTONES);
        assert_eq!(slots.graves.in_order.len(), TOMBSTONES);
        let oldest_kept = MANY - TOMBSTONES as u64 + 1;
        assert_eq!(slots.slots.keys().next(), Some(&oldest_kept));
    }

    #[test]
    fn nothing_that_is_gone_comes_back_and_what_is_new_comes() {
        let mut slots = gone(MANY);
        for key in 1..=MANY {
            let forgotten = slots.is_past(&key, key);
            assert!(forgotten || !slots.see(key, &Seen::new(key, key)), "{key}");
        }
        assert_eq!(slots.present().count(), 0);
        // The name of a forgotten one, and one that was never there.
        for key in [1, MANY + 1] {
            assert!(!slots.is_past(&key, MANY + 1));
            assert!(slots.see(key, &Seen::new(key, MANY + 1)));
        }
        // What lives is known, however long ago it has changed.
        let mut slots = Slots::new();
        slots.see(0, &Seen::new(7, 1));
        for key in 1..=MANY {
            slots.see(key, &Seen::new(0, 1 + key));
            slots.lose(&key);
        }
        assert!(!slots.is_past(&0, 1));
        assert_eq!(slots.get(&0), Some(&7));
    }

    #[test]
    fn one_name_that_comes_and_goes_is_not_forgotten_while_it_is_there() {
        let mut slots = Slots::new();
        for version in 1..=MANY {
            assert!(slots.see("same", &Seen::new(version, version)));
            assert!(slots.lose(&"same"));
        }
        assert_eq!(slots.slots.len(), 1);
        assert!(slots.graves.in_order.len() <= TOMBSTONES);
        assert!(!slots.see("same", &Seen::new(0, MANY)));
        assert!(slots.see("same", &Seen::new(0, MANY + 1)));
        for version in 1..=TOMBSTONES as u64 {
            slots.see("other", &Seen::new(0, MANY + 1 + version));
            slots.lose(&"other");
        }
        assert_eq!(slots.get(&"same"), Some(&0));
    }
}
