//! Nodes behind replacements: machines that come before the nodes they stand in for
//! are drained.
//!
//! A slot that takes one of the places of its pool's surge is in flight from the begin
//! of its machine to the end of its verification. Its node is left alone until the
//! machine is Ready, and is not away from then on. Then it waits once more, for budgets
//! alone, and needs nothing more of its pool.

use std::time::Duration;

use migrate_core::Phase;

use super::nodes::IN_FLIGHT;
use super::{ABORTED, Machine, NODE_GONE, State};

impl Machine {
    /// Whether `slot` has a place of its pool's surge.
    pub(crate) fn is_behind_replacement(&self, slot: u32) -> bool {
        self.surged.contains(&slot)
    }

    /// Whether `slot`, which waits, has its replacement.
    pub(super) fn has_replacement(&self, slot: u32) -> bool {
        let state = self.states[(self.layout.members + slot) as usize];
        self.is_behind_replacement(slot) && state.is_untouched()
    }

    /// Whether something was done for `target`, also if it waits again.
    pub(crate) fn has_begun(&self, target: u32) -> bool {
        let state = self.states[target as usize];
        let slot = self.slot_of(target);
        !state.is_untouched() || slot.is_some_and(|slot| self.is_behind_replacement(slot))
    }

    /// Whether one more slot of `pool` may go behind a replacement.
    pub(super) fn has_surge(&self, pool: u32) -> bool {
        let of_pool = &self.pools[pool as usize];
        let taken = of_pool.surging.saturating_add(of_pool.kept);
        taken < self.layout.rules[pool as usize].surge
    }

    /// The phase that `slot` begins with if it may begin now: behind a replacement as
    /// long as its pool's surge has a place.
    pub(super) fn begins_with(&self, slot: u32) -> Phase {
        let pool = self.layout.pool_of(slot);
        match !self.is_behind_replacement(slot) && self.has_surge(pool) {
            true => Phase::Provision,
            false => Phase::Drain,
        }
    }

    /// The phase that `slot` has begun with, or is to begin with if nothing is in its way.
    pub(super) fn first_phase_of(&self, slot: u32) -> Phase {
        let pool = self.layout.pool_of(slot) as usize;
        let has_surge = self.layout.rules[pool].surge > 0;
        match self.states[(self.layout.members + slot) as usize] {
            State::Running(Phase::Provision) => Phase::Provision,
            state if has_surge && state.is_untouched() && !self.is_behind_replacement(slot) => {
                Phase::Provision
            }
            _ => Phase::Drain,
        }
    }

    /// `slot` is about to get its machine.
    pub(super) fn go_behind_replacement(&mut self, slot: u32) {
        let pool = &mut self.pools[self.layout.pool_of(slot) as usize];
        pool.in_flight += 1;
        pool.surging += 1;
        pool.zone = self.layout.slots[slot as usize].zone;
        self.surged.insert(slot);
    }

    /// The drain of `slot` begins behind its replacement: its place it has already.
    pub(super) fn drain_behind_replacement(&mut self, slot: u32) {
        self.fly(self.slot_nodes[slot as usize]);
    }

    /// The machine for `slot` is Ready, so that its node is not away any more, whatever
    /// becomes of it.
    pub(super) fn provisioned(&mut self, slot: u32) {
        let target = self.layout.members + slot;
        if self.aborting {
            return self.abandon(target, Phase::Provision, ABORTED.to_owned());
        }
        self.cover(self.slot_nodes[slot as usize]);
        if self.is_gone(target) {
            self.reasons.insert(target, NODE_GONE.to_owned());
            self.withdraw(slot, State::Gone);
        } else {
            self.enqueue(slot);
        }
    }

    /// Lets `slot`, which was begun or decided behind its replacement, wait as it did before.
    pub(super) fn wait_behind_replacement(&mut self, slot: u32) {
        self.reflag(self.slot_nodes[slot as usize], |flags| flags & !IN_FLIGHT);
        self.enqueue(slot);
    }

    /// `slot` has no replacement any more: it has taken the place of its node, or is none.
    pub(super) fn leave_surge(&mut self, slot: u32) {
        if !self.surged.remove(&slot) {
            return;
        }
        let pool = self.layout.pool_of(slot);
        let of_pool = &mut self.pools[pool as usize];
        of_pool.in_flight -= 1;
        of_pool.surging -= 1;
        self.leave_zone(pool);
        self.uncover(self.slot_nodes[slot as usize]);
        self.open_rooms();
        self.mark_dirty(pool);
    }

    /// Ends what `slot` is begun for, which waits or has failed as `to` says.
    pub(super) fn end_surge(&mut self, slot: u32, to: State) {
        match to {
            // Its machine has the place of a node that is not there.
            State::Gone => self.leave_surge(slot),
            _ => self.keep_surge(slot),
        }
    }

    /// `slot` is given up, and nobody takes its machine away: the pool has one place less.
    pub(super) fn keep_surge(&mut self, slot: u32) {
        if self.is_behind_replacement(slot) {
            self.pools[self.layout.pool_of(slot) as usize].kept += 1;
            self.leave_surge(slot);
        }
    }

    /// How much of what is predicted for `slot` is still to come.
    pub(super) fn length_of(&self, slot: u32) -> Duration {
        let length = self.layout.slots[slot as usize].length;
        let state = self.states[(self.layout.members + slot) as usize];
        let is_provisioned =
            self.is_behind_replacement(slot) && !matches!(state, State::Running(Phase::Provision));
        match is_provisioned {
            true => {
                let pool = self.layout.pool_of(slot) as usize;
                length.saturating_sub(self.layout.rules[pool].provision)
            }
            false => length,
        }
    }
}
