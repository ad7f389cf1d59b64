//! The node that the runner's own pod is on: the last of its group, and alone.
//!
//! Its drain ends the runner, and the next one begins with whatever that has left
//! in flight. So nothing is: all other workers, or all other control-plane nodes
//! where these come first, are done or given up when it begins, and none of them
//! begins while it is in work.

use super::{Gate, Machine, State};

impl Machine {
    /// Takes note of where the runner is: in which slot, or in none of the plan.
    ///
    /// A slot that has begun goes on; one that has not waits from now on, and the
    /// one before no longer.
    pub(crate) fn runner_seen(&mut self, slot: Option<u32>) {
        if self.runner == slot {
            return;
        }
        let before = std::mem::replace(&mut self.runner, slot);
        if let Some(before) = before
            && self.state_of(before) == State::HostsRunner
        {
            self.enqueue(before);
        }
        if let Some(slot) = slot {
            self.hand_canary_on(slot);
        }
        self.mark_all_dirty();
        self.dispatch();
    }

    /// The slot of a node, if it has one.
    pub(crate) fn slot_of_node(&self, node: u32) -> Option<u32> {
        let slot = self.nodes[node as usize].slot;
        (slot != super::NONE).then_some(slot)
    }

    /// Others wait for a canary, and it would wait for them: another goes first.
    fn hand_canary_on(&mut self, slot: u32) {
        let pool = self.layout.pool_of(slot);
        let is_untouched = self.state_of(slot).is_untouched();
        if is_untouched && self.pools[pool as usize].gate == Gate::Canary(slot) {
            self.unqueue(slot);
            self.set(self.layout.members + slot, State::Gated);
            self.send_next_canary(pool);
        }
    }

    /// Lets the runner's slot into its queue once it may begin.
    pub(super) fn wake_runner(&mut self) {
        if let Some(slot) = self.runner
            && self.state_of(slot) == State::HostsRunner
            && self.others_left(slot) == 0
        {
            self.enqueue(slot);
        }
    }

    /// Whether `slot` hosts the runner and has others to wait for.
    pub(super) fn waits_as_runner(&self, slot: u32) -> bool {
        self.runner == Some(slot) && self.others_left(slot) > 0
    }

    /// The runner's slot, if it is in work and slots of `pool` are of its group.
    pub(super) fn runner_in_work(&self, pool: u32) -> Option<u32> {
        let slot = self.runner?;
        let of_runner = self.layout.is_control_plane(slot);
        let same = of_runner == (self.layout.control_plane == Some(pool));
        (same && self.state_of(slot).is_busy()).then_some(slot)
    }

    /// Slots of the group of `slot`, itself left out, that are neither done nor
    /// given up.
    pub(super) fn others_left(&self, slot: u32) -> u32 {
        let of_group = match self.layout.is_control_plane(slot) {
            true => self.control_plane_left,
            false => self.slots_left - self.control_plane_left,
        };
        of_group - u32::from(!self.state_of(slot).is_over())
    }

    fn state_of(&self, slot: u32) -> State {
        self.states[(self.layout.members + slot) as usize]
    }
}
