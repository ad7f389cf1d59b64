//! Budgets: what drains hold of them, and the lanes of those that wait for one.
//!
//! Of all pairs of a pool and a budget that meet hardly any has somebody who waits, so
//! a lane is made when somebody first waits in it, and those there are lie close to
//! each other.

use std::cmp::Reverse;

use super::layout::Need;
use super::queue::{NONE, Queue};
use super::{Lane, Machine, State};

impl Machine {
    /// Lets `slot`, which must be in no queue, wait for what it needs of a budget.
    pub(super) fn park(&mut self, slot: u32, need: Need) {
        let lane = self.lane(slot, need);
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
                waiting: Queue::EMPTY,
                tried: Queue::EMPTY,
                open: false,
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
        let Self {
            pools,
            lanes,
            accounts,
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
            match lane.waiting.first() {
                // The entry was made before its first slot left.
                Some(slot) if free > 0 && slot > key => pool.open.push(Reverse((slot, id))),
                Some(_) if free > 0 => {
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

    /// What `slot` needs of the first budget that has less free.
    pub(super) fn blocking(&self, slot: u32) -> Option<Need> {
        let mut needs = self.layout.needs(slot).iter();
        let short = needs.find(|need| {
            let account = self.accounts[need.budget as usize];
            account.share(need.pods) > account.free()
        });
        short.copied()
    }

    pub(super) fn hold(&mut self, slot: u32) {
        let taken = &mut self.taken[self.layout.need_range(slot)];
        for (need, taken) in self.layout.needs(slot).iter().zip(taken) {
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
