//! Queues of slots, lowest id first, without allocation.
//!
//! A slot waits in at most one queue at a time, so all queues share three flat
//! arrays: each queue is a pairing heap whose links live there. Insertion and
//! joining are constant, removal is logarithmic (amortised), a clone is three
//! copies.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// The links of every slot.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// First child.
    child: Vec<u32>,
    /// Next sibling.
    next: Vec<u32>,
    /// Previous sibling, or the parent of a first child.
    previous: Vec<u32>,
}

/// One queue: the slot at its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    head: u32,
}

impl Queue {
    pub(super) const EMPTY: Self = Self { head: NONE };

    /// The lowest slot in it.
    pub(super) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

impl Links {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            child: vec![NONE; slots],
            next: vec![NONE; slots],
            previous: vec![NONE; slots],
        }
    }

    /// Adds `slot`, which must be in no queue.
    pub(super) fn push(&mut self, queue: &mut Queue, slot: u32) {
        queue.head = self.link(queue.head, slot);
    }

    /// Takes the lowest slot out.
    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<u32> {
        let head = queue.first()?;
        let children = std::mem::replace(&mut self.child[head as usize], NONE);
        queue.head = self.join_siblings(children);
        Some(head)
    }

    /// Takes `slot` out, which must be in `queue`.
    pub(super) fn remove(&mut self, queue: &mut Queue, slot: u32) {
        if queue.head == slot {
            self.pop(queue);
            return;
        }
        let at = slot as usize;
        let (before, after) = (self.previous[at], self.next[at]);
        if self.child[before as usize] == slot {
            self.child[before as usize] = after;
        } else {
            self.next[before as usize] = after;
        }
        if after != NONE {
            self.previous[after as usize] = before;
        }
        self.next[at] = NONE;
        self.previous[at] = NONE;
        let children = std::mem::replace(&mut self.child[at], NONE);
        let rest = self.join_siblings(children);
        queue.head = self.link(queue.head, rest);
    }

    /// Moves everything in `other` to `queue`.
    pub(super) fn append(&mut self, queue: &mut Queue, other: &mut Queue) {
        queue.head = self.link(queue.head, other.head);
        other.head = NONE;
    }

    /// Joins two heaps, given by their heads.
    fn link(&mut self, a: u32, b: u32) -> u32 {
        if a == NONE || b == NONE {
            return a.min(b);
        }
        let (parent, child) = if a < b { (a, b) } else { (b, a) };
        let first = self.child[parent as usize];
        self.next[child as usize] = first;
        if first != NONE {
            self.previous[first as usize] = child;
        }
        self.previous[child as usize] = parent;
        self.child[parent as usize] = child;
        parent
    }

    /// Joins a list of siblings: pairs from the left, then all from the right.
    fn join_siblings(&mut self, first: u32) -> u32 {
        let mut pairs = NONE;
        let mut rest = first;
        while rest != NONE {
            let a = self.detach(&mut rest);
            let b = self.detach(&mut rest);
            let pair = self.link(a, b);
            self.next[pair as usize] = pairs;
            pairs = pair;
        }
        let mut head = NONE;
        while pairs != NONE {
            let pair = self.detach(&mut pairs);
            head = self.link(head, pair);
        }
        head
    }

    /// Takes the first of a list of siblings off it.
    fn detach(&mut self, list: &mut u32) -> u32 {
        let first = *list;
        if first != NONE {
            *list = std::mem::replace(&mut self.next[first as usize], NONE);
            self.previous[first as usize] = NONE;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Two queues over one set of links behave as two ordered sets.
        #[test]
        fn behaves_as_ordered_sets(steps in prop::collection::vec((0..5u8, 0..24u32), 0..200)) {
            let mut links = Links::new(24);
            let mut queues = [Queue::EMPTY; 2];
            let mut sets = [BTreeSet::new(), BTreeSet::new()];
            for (step, slot) in steps {
                match step {
                    0 | 1 if sets.iter().all(|set| !set.contains(&slot)) => {
                        links.push(&mut queues[usize::from(step)], slot);
                        sets[usize::from(step)].insert(slot);
                    }
                    2 => {
                        let which = (slot % 2) as usize;
                        prop_assert_eq!(links.pop(&mut queues[which]), sets[which].pop_first());
                    }
                    3 => {
                        if let Some(which) = sets.iter().position(|set| set.contains(&slot)) {
                            links.remove(&mut queues[which], slot);
                            sets[which].remove(&slot);
                        }
                    }
                    4 if slot == 0 => {
                        let [a, b] = &mut queues;
                        links.append(a, b);
                        let moved = std::mem::take(&mut sets[1]);
                        sets[0].extend(moved);
                    }
                    _ => {}
                }
                for (queue, set) in queues.iter().zip(&sets) {
                    prop_assert_eq!(queue.first(), set.first().copied());
                }
            }
        }
    }
}
