//! Budgets and rooms: what drains hold of these and nodes that are away of those, and the lanes
//! of those that wait for one.
//!
//! Of all pairs of a pool and a budget that meet hardly any has somebody who waits, so
//! a lane is made when somebody first waits in it, and those there are lie close to
//! each other.

use std::cmp::Reverse;
use std::sync::Arc;

use migrate_core::Phase;

use super::layout::{Need, least_of_size};
use super::queue::{NONE, Queue};
use super::{Lane, Machine, State};

/// How many of one size that wait for a room are tested each time that something of it becomes
/// free, lest a long queue is gone through for each node that comes back.
const LOOKS: u32 = 16;

impl Machine {
    /// Lets `slot`, which must be in no queue, wait for what it needs of a budget.
    pub(super) fn park(&mut self, slot: u32, need: Need) {
        let lane = self.lane(slot, need);
        if let State::Parked { lane: from } = self.states[(self.layout.members + slot) as usize] {
            self.lanes[from as usize].misses += 1;
        }
        let entry = &mut self.lanes[lane as usize];
        self.links.push(&mut entry.tried, slot);
        if !std::mem::replace(&mut entry.listed, true) {
            let first = &mut self.accounts[need.budget as usize].lane;
            entry.next = std::mem::replace(first, lane);
        }
        self.wait_in(slot, State::Parked { lane });
    }

    /// The lane in which `slot` waits for what it needs of a budget.
    fn lane(&mut self, slot: u32, need: Need) -> u32 {
        let id = &mut self.lane_ids[need.lane as usize];
        if *id == 0 {
            self.lanes.push(Lane {
                budget: need.budget,
                pool: self.layout.pool_of(slot),
                least: match self.layout.room_of(need.budget) {
                    Some(_) => least_of_size(need.pods),
                    None => 1,
                },
                waiting: Queue::EMPTY,
                tried: Queue::EMPTY,
                open: false,
                misses: 0,
                listed: false,
                next: NONE,
            });
            *id = u32::try_from(self.lanes.len()).unwrap_or(NONE);
        }
        *id - 1
    }

    /// Changes where `slot` waits, which has waited before: nothing else depends on it.
    pub(super) fn wait_in(&mut self, slot: u32, to: State) {
        let state = &mut self.states[(self.layout.members + slot) as usize];
        debug_assert!(state.is_candidate() && to.is_candidate());
        *state = to;
    }

    /// Takes out the first slot that may have become free: from the queue of
    /// the pool or from a lane whose budget has something left.
    pub(super) fn next_candidate(&mut self, pool: u32) -> Option<u32> {
        // What goes behind a replacement takes no room.
        let needs_no_room = self.has_surge(pool);
        let Self {
            pools,
            lanes,
            accounts,
            rooms,
            layout,
            links,
            ..
        } = self;
        let pool = &mut pools[pool as usize];
        loop {
            let key = match (pool.ready.first(), pool.open.peek()) {
                (None, None) => return None,
                (Some(_), None) => return links.pop(&mut pool.ready),
                (Some(slot), Some(Reverse((key, _)))) if slot < *key => {
                    return links.pop(&mut pool.ready);
                }
                (_, Some(Reverse((key, _)))) => *key,
            };
            let Reverse((_, id)) = pool.open.pop()?;
            let lane = &mut lanes[id as usize];
            let free = accounts[lane.budget as usize].free();
            let is_enough = free >= lane.least;
            let may_be_enough = match layout.room_of(lane.budget) {
                None => is_enough,
                Some(room) => {
                    let goes_without = needs_no_room || rooms[room as usize].flying == 0;
                    goes_without || (is_enough && lane.misses < LOOKS)
                }
            };
            match lane.waiting.first() {
                // The entry was made before its first slot left.
                Some(slot) if may_be_enough && slot > key => pool.open.push(Reverse((slot, id))),
                Some(_) if may_be_enough => {
                    let slot = links.pop(&mut lane.waiting);
                    lane.open = lane.waiting.first().is_some();
                    if let Some(next) = lane.waiting.first() {
                        pool.open.push(Reverse((next, id)));
                    }
                    return slot;
                }
                _ => lane.open = false,
            }
        }
    }

    /// What `slot` needs of the first budget, or room, that has less free. Of a room one node
    /// may always take what it needs, if none in flight does: nothing else would ever begin.
    pub(super) fn blocking(&self, slot: u32) -> Option<Need> {
        let mut needs = self.layout.needs(slot).iter();
        let short = needs.find(|need| {
            let account = self.accounts[need.budget as usize];
            let is_short = account.share(need.pods) > account.free();
            is_short
                && self.layout.room_of(need.budget).is_none_or(|room| {
                    self.rooms[room as usize].flying > 0 && self.takes_room(slot)
                })
        });
        short.copied()
    }

    /// Whether `slot` takes room as it begins: its node is not away yet, and goes behind no
    /// replacement.
    fn takes_room(&self, slot: u32) -> bool {
        let node = self.nodes[self.slot_nodes[slot as usize] as usize];
        !node.is_away()
            && !self.is_behind_replacement(slot)
            && self.begins_with(slot) == Phase::Drain
    }

    /// A node that offers what `node` of the model does is away.
    pub(super) fn take_room(&mut self, node: u32) {
        for part in self.layout.parts_of(node) {
            let taken = &mut self.rooms[part.room as usize].taken;
            *taken += u64::from(part.amount);
            let account = (self.layout.budgets + part.room) as usize;
            self.accounts[account].hold_at_most(*taken);
        }
    }

    /// It is back.
    pub(super) fn give_room(&mut self, node: u32) {
        let layout = Arc::clone(&self.layout);
        for part in layout.parts_of(node) {
            let taken = &mut self.rooms[part.room as usize].taken;
            *taken -= u64::from(part.amount);
            let account = layout.budgets + part.room;
            self.accounts[account as usize].hold_at_most(*taken);
            self.open_lanes(account);
        }
    }

    /// Wakes those that wait for any room: one may begin without.
    pub(super) fn open_rooms(&mut self) {
        for account in self.layout.budgets..self.accounts.len() as u32 {
            self.open_lanes(account);
        }
    }

    /// It is in flight, or not any more.
    pub(super) fn fly_in_room(&mut self, node: u32, is_flying: bool) {
        let layout = Arc::clone(&self.layout);
        for part in layout.parts_of(node) {
            let flying = &mut self.rooms[part.room as usize].flying;
            match is_flying {
                true => *flying += 1,
                false => *flying -= 1,
            }
            // One may go now, whatever is free.
            if *flying == 0 {
                self.open_lanes(layout.budgets + part.room);
            }
        }
    }

    pub(super) fn hold(&mut self, slot: u32) {
        let taken = &mut self.taken[self.layout.need_range(slot)];
        // What is taken of rooms is so by the node, and as long as it is away.
        let of_budgets = self.layout.needs(slot).iter().zip(taken);
        let of_budgets = of_budgets.filter(|(need, _)| need.budget < self.layout.budgets);
        for (need, taken) in of_budgets {
            let account = &mut self.accounts[need.budget as usize];
            *taken = account.share(need.pods);
            account.held += *taken;
        }
    }

    /// Gives back what the drain of `slot` held.
    pub(super) fn release(&mut self, slot: u32) {
        for at in self.layout.need_range(slot) {
            let budget = self.layout.need(at).budget;
            let account = &mut self.accounts[budget as usize];
            let before = account.free();
            account.held -= std::mem::take(&mut self.taken[at]);
            if account.lane != NONE && account.free() > before {
                self.open_lanes(budget);
            }
        }
    }

    /// Wakes those that wait for `budget`, of which something became free.
    pub(super) fn open_lanes(&mut self, budget: u32) {
        let mut next = std::mem::replace(&mut self.accounts[budget as usize].lane, NONE);
        while next != NONE {
            let id = next;
            let lane = &mut self.lanes[id as usize];
            next = lane.next;
            let news = lane.tried.first().is_some();
            self.links.append(&mut lane.waiting, &mut lane.tried);
            lane.misses = 0;
            let Some(first) = lane.waiting.first() else {
                lane.listed = false;
                continue;
            };
            // Still waited in: it stays listed.
            let head = &mut self.accounts[budget as usize].lane;
            lane.next = std::mem::replace(head, id);
            let id_of_pool = lane.pool;
            let pool = &mut self.pools[id_of_pool as usize];
            if news || !lane.open {
                lane.open = true;
                pool.open.push(Reverse((first, id)));
            }
            // A full pool is looked at when one of its nodes comes back. Only
            // nodes that are away already need no room.
            let has_cordoned = !pool.cordoned.is_empty();
            if has_cordoned || self.has_room(id_of_pool) {
                self.mark_dirty(id_of_pool);
            }
        }
    }
}
