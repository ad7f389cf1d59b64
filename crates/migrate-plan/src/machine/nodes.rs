//! What is seen of nodes, and which of them are away.

use super::queue::NONE;
use super::{Gate, Machine, Mode, State};

/// Its Ready condition is True.
pub(super) const READY: u8 = 1;
/// Cordoned, by us or by others.
const CORDONED: u8 = 1 << 1;
/// Its slot is in flight.
pub(super) const IN_FLIGHT: u8 = 1 << 2;
/// Left behind by a slot that was given up, and not seen well since.
const SUSPECT: u8 = 1 << 3;
/// Seen cordoned or not Ready since its slot was begun.
const SEEN_AWAY: u8 = 1 << 4;
/// Not there.
pub(super) const GONE: u8 = 1 << 5;
/// Not there, or another machine, at some time since its drain was begun or its
/// upgrade succeeded.
pub(super) const LOST: u8 = 1 << 6;
/// A replacement that is Ready stands in for it.
pub(super) const COVERED: u8 = 1 << 7;

/// A node's share of the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    flags: u8,
    pub(super) pool: u32,
    pub(super) slot: u32,
    /// The node of the model that says what it takes of rooms: itself, or the one that it
    /// came in place of. [`NONE`] for others.
    offers_as: u32,
}

impl Node {
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it counts against its pool.
    pub(super) fn is_away(self) -> bool {
        self.is_flying() || self.is_left_away()
    }

    /// Whether it does so for its slot.
    fn is_flying(self) -> bool {
        self.has(IN_FLIGHT) && !self.has(COVERED)
    }

    /// Whether it counts against its pool for another reason than being in
    /// flight.
    pub(super) fn is_left_away(self) -> bool {
        let as_seen = self.has(SUSPECT | CORDONED) || !self.has(READY);
        as_seen && !self.has(GONE | IN_FLIGHT | COVERED)
    }

    /// Whether what it offers to pods is not there: it is away, or is no more.
    fn is_missing(self) -> bool {
        self.is_away() || (self.has(GONE) && !self.has(COVERED))
    }
}

impl Machine {
    /// Adds a node that no slot is known for, which offers what the node `offers_as` of the
    /// model does.
    pub(super) fn add_node(
        &mut self,
        pool: u32,
        offers_as: u32,
        ready: bool,
        cordoned: bool,
    ) -> u32 {
        let node = Node {
            flags: if ready { READY } else { 0 } | if cordoned { CORDONED } else { 0 },
            pool,
            slot: NONE,
            offers_as,
        };
        if pool != NONE && node.is_away() {
            self.pools[pool as usize].away += 1;
        }
        if node.is_missing() {
            self.take_room(offers_as);
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
    }

    /// Takes note of a node's state. One that reached the target without us
    /// before its slot was begun needs nothing more.
    pub(crate) fn node_seen(&mut self, node: u32, ready: bool, cordoned: bool, at_target: bool) {
        self.reflag(node, |mut flags| {
            flags &= !(READY | CORDONED | GONE);
            flags |= if ready { READY } else { 0 } | if cordoned { CORDONED } else { 0 };
            if ready && !cordoned {
                flags & !SUSPECT
            } else {
                flags | SEEN_AWAY
            }
        });
        let slot = self.nodes[node as usize].slot;
        if slot != NONE && self.mode != Mode::Finished {
            let state = self.states[(self.layout.members + slot) as usize];
            let is_back = state == State::Gone;
            if at_target && (is_back || state.is_untouched()) {
                self.reasons.remove(&(self.layout.members + slot));
                self.withdraw(slot, State::Done);
            } else if self.aborting {
                // Nothing is left to begin.
            } else if is_back {
                self.readmit(slot);
            } else if state == State::NotReady && self.is_ready(slot) {
                self.enqueue(slot);
            }
        }
        self.dispatch();
    }

    /// Takes note of whether pods of a node may only be moved once a person has agreed.
    pub(crate) fn consent_missing(&mut self, node: u32, missing: bool) {
        match missing {
            true => self.asking.insert(node),
            false => self.asking.remove(&node),
        };
        let slot = self.nodes[node as usize].slot;
        if slot == NONE || self.aborting {
            return;
        }
        self.refresh_cordoned(slot);
        let state = self.states[(self.layout.members + slot) as usize];
        if state == State::NotReady && self.is_ready(slot) {
            self.enqueue(slot);
        }
        self.dispatch();
    }

    /// Takes note that `count` (at least one) other nodes came in place of the
    /// node of `target`, all ready. The first has the id that is given back,
    /// the others follow.
    pub(crate) fn node_replaced(&mut self, target: u32, count: u32) -> Option<u32> {
        let slot = self.slot_of(target)?;
        let pool = self.layout.pool_of(slot);
        let old = self.slot_nodes[slot as usize];
        self.reflag(old, |_| GONE);
        self.nodes[old as usize].slot = NONE;
        let offers_as = self.leave_room(old);
        let first = self.add_node(pool, offers_as, true, false);
        let others = (1..count)
            .map(|_| self.add_node(pool, offers_as, true, false))
            .collect();
        self.further.insert(slot, others);
        self.occupy(slot, first);
        Some(first)
    }

    /// What `node` offers is another one's from now on: whose that is.
    fn leave_room(&mut self, node: u32) -> u32 {
        let entry = &mut self.nodes[node as usize];
        let offers_as = std::mem::replace(&mut entry.offers_as, NONE);
        if entry.is_missing() {
            self.give_room(offers_as);
        }
        offers_as
    }

    /// Puts the next of several new nodes into the slot of `target`.
    pub(super) fn go_on_to_further_node(&mut self, target: u32) -> bool {
        let Some(slot) = self.slot_of(target) else {
            return false;
        };
        let Some(others) = self.further.get_mut(&slot) else {
            return false;
        };
        if others.is_empty() {
            return false;
        }
        let next = others.remove(0);
        self.reflag(self.slot_nodes[slot as usize], |flags| flags & !IN_FLIGHT);
        self.occupy(slot, next);
        true
    }

    fn occupy(&mut self, slot: u32, node: u32) {
        self.slot_nodes[slot as usize] = node;
        self.nodes[node as usize].slot = slot;
        // A replacement was there before its node went: it counts as it is seen.
        if !self.is_behind_replacement(slot) {
            self.reflag(node, |flags| flags | IN_FLIGHT);
        }
    }

    /// A replacement stands in for `node`.
    pub(super) fn cover(&mut self, node: u32) {
        self.reflag(node, |flags| flags | COVERED);
    }

    /// None does, and it is in no slot in flight.
    pub(super) fn uncover(&mut self, node: u32) {
        self.reflag(node, |flags| flags & !(COVERED | IN_FLIGHT));
    }

    /// The drain of `node` begins.
    pub(super) fn fly(&mut self, node: u32) {
        self.reflag(node, |flags| (flags | IN_FLIGHT) & !SEEN_AWAY);
    }

    pub(super) fn enter_flight(&mut self, slot: u32) {
        let pool = &mut self.pools[self.layout.pool_of(slot) as usize];
        pool.in_flight += 1;
        pool.zone = self.layout.slots[slot as usize].zone;
        self.fly(self.slot_nodes[slot as usize]);
    }

    pub(super) fn leave_flight(&mut self, target: u32) {
        let Some(slot) = self.slot_of(target) else {
            return;
        };
        if self.is_behind_replacement(slot) {
            return self.leave_surge(slot);
        }
        let pool = self.layout.pool_of(slot);
        self.pools[pool as usize].in_flight -= 1;
        self.leave_zone(pool);
        self.reflag(self.slot_nodes[slot as usize], |flags| flags & !IN_FLIGHT);
        self.mark_dirty(pool);
    }

    /// Counts a node that was left behind as away, until it is seen well;
    /// unless it has been seen to come back already.
    pub(super) fn suspect(&mut self, node: u32) {
        self.reflag(node, |flags| {
            let came_back = (flags & (SEEN_AWAY | READY | CORDONED)) == (SEEN_AWAY | READY);
            if came_back { flags } else { flags | SUSPECT }
        });
    }

    /// Takes a node for not Ready that somebody has just seen away, until it is
    /// seen here: it counts, and is not begun itself. One in flight counts anyway.
    /// One that was taken to be gone is there after all, and what comes after all
    /// nodes comes after it.
    pub(super) fn told_away(&mut self, node: u32) {
        self.reflag(node, |flags| match flags & IN_FLIGHT {
            0 => flags & !(GONE | READY),
            _ => flags,
        });
        let slot = self.nodes[node as usize].slot;
        let is_gone = |slot| self.states[(self.layout.members + slot) as usize] == State::Gone;
        if slot != NONE && !self.aborting && is_gone(slot) {
            self.readmit(slot);
        }
    }

    /// Whether it was last seen cordoned, or not Ready.
    pub(crate) fn is_seen_away(&self, node: u32) -> bool {
        let node = self.nodes[node as usize];
        node.has(CORDONED) || !node.has(READY)
    }

    pub(super) fn is_gone(&self, target: u32) -> bool {
        self.has(target, GONE)
    }

    pub(super) fn has(&self, target: u32, flags: u8) -> bool {
        self.slot_of(target)
            .is_some_and(|slot| self.nodes[self.slot_nodes[slot as usize] as usize].has(flags))
    }

    /// A node came back that was gone before its slot was begun.
    fn readmit(&mut self, slot: u32) {
        let target = self.layout.members + slot;
        let pool = self.layout.pool_of(slot);
        self.reasons.remove(&target);
        self.set(target, State::Gated);
        match self.pools[pool as usize].gate {
            Gate::Open => self.enqueue(slot),
            Gate::Wanted if self.is_open(pool) => self.send_canary(pool, slot),
            Gate::Wanted | Gate::Canary(_) => {}
        }
    }

    pub(super) fn reflag(&mut self, node: u32, change: impl FnOnce(u8) -> u8) {
        let entry = &mut self.nodes[node as usize];
        let (before, was_flying) = (entry.is_away(), entry.is_flying());
        let was_missing = entry.is_missing();
        entry.flags = change(entry.flags);
        let Node {
            pool,
            slot,
            offers_as,
            ..
        } = *entry;
        let (after, is_flying) = (entry.is_away(), entry.is_flying());
        let is_missing = entry.is_missing();
        if pool != NONE && before != after {
            if after {
                self.pools[pool as usize].away += 1;
            } else {
                self.pools[pool as usize].away -= 1;
                self.mark_dirty(pool);
            }
        }
        if was_flying != is_flying {
            self.fly_in_room(offers_as, is_flying);
        }
        match (was_missing, is_missing) {
            (false, true) => self.take_room(offers_as),
            (true, false) => self.give_room(offers_as),
            _ => {}
        }
        if slot != NONE {
            self.refresh_cordoned(slot);
        }
    }

    /// Keeps the list of waiting slots that take no further slot of the pool.
    pub(super) fn refresh_cordoned(&mut self, slot: u32) {
        let node = self.nodes[self.slot_nodes[slot as usize] as usize];
        let state = self.states[(self.layout.members + slot) as usize];
        let pool = self.layout.pool_of(slot);
        let needs_no_room = node.is_away() || self.is_behind_replacement(slot);
        let is_ready = self.is_ready(slot);
        let list = &mut self.pools[pool as usize].cordoned;
        if state.is_candidate() && is_ready && needs_no_room {
            if list.insert(slot) {
                self.mark_dirty(pool);
            }
        } else if !list.is_empty() {
            list.remove(&slot);
        }
    }
}
