//! Nodes that are deleted, or made anew under their names, while a rollout has
//! them in hand: what was done to them is moot.
//!
//! The machine that has the name now is drained by nobody. So wherever the slot
//! stood, it goes the whole way again, once nobody is at work on it; without a
//! node it is left out until one comes.

use migrate_core::{OnDeadline, Phase};

use super::nodes::{COVERED, GONE, IN_FLIGHT, LOST};
use super::queue::NONE;
use super::{ABORTED, Machine, State};

/// The reason of a target that is left out ([`Skipped`](crate::TargetState::Skipped)) since its node was deleted while nobody was at
/// work on it.
pub const NODE_GONE: &str = "its node is gone";
/// How often a slot goes the whole way again after its upgrade was begun: a
/// driver that makes its node anew and fails would do so for ever.
const MAX_ANEW: u8 = 5;

impl Machine {
    pub(crate) fn node_gone(&mut self, node: u32) {
        self.reflag(node, |flags| (flags & (IN_FLIGHT | LOST | COVERED)) | GONE);
        self.lose(node);
        let slot = self.nodes[node as usize].slot;
        if slot != NONE && self.states[(self.layout.members + slot) as usize].is_untouched() {
            self.reasons
                .insert(self.layout.members + slot, NODE_GONE.to_owned());
            self.withdraw(slot, State::Gone);
        }
        self.dispatch();
    }

    /// Takes note that another machine has the name of a node, or none. In hand,
    /// it is not the one that is worked on.
    pub(crate) fn lose(&mut self, node: u32) {
        let slot = self.nodes[node as usize].slot;
        if slot == NONE || !self.in_hand(slot) {
            return;
        }
        self.reflag(node, |flags| flags | LOST);
        let target = self.layout.members + slot;
        // Nobody is at work on it, so it is known at once.
        let phase = match self.states[target as usize] {
            State::Due(phase) if self.is_moot(target, phase) => {
                self.links.remove(&mut self.due, slot);
                phase
            }
            State::Backoff(phase) if self.is_planned(slot) => phase,
            State::Soaking if self.is_planned(slot) => Phase::Confirm,
            _ => return,
        };
        self.moot(slot, phase, NODE_GONE);
    }

    /// Whether something was done to the node of `slot` that a loss undoes.
    fn in_hand(&self, slot: u32) -> bool {
        let node = self.nodes[self.slot_nodes[slot as usize] as usize];
        node.has(IN_FLIGHT) || self.soaking.contains_key(&slot)
    }

    /// Whether the node in `slot` is the one that the plan has there: what a
    /// driver put in its place is not drained once more.
    pub(super) fn is_planned(&self, slot: u32) -> bool {
        self.slot_nodes[slot as usize] == self.layout.slots[slot as usize].node
    }

    /// Whether the machine that was drained for `target` is not what its node
    /// is now, or there is none.
    pub(super) fn is_lost(&self, target: u32) -> bool {
        self.has(target, LOST | GONE)
    }

    /// Whether `phase` of `target`, if begun now, would be about a machine that
    /// the phases before were not about. A driver's own new machine may be away
    /// for a moment when it is to be verified.
    pub(crate) fn is_moot(&self, target: u32, phase: Phase) -> bool {
        let flags = match phase {
            Phase::Provision | Phase::Drain | Phase::Upgrade => LOST | GONE,
            _ => LOST,
        };
        let slot = self.slot_of(target);
        slot.is_some_and(|slot| self.is_planned(slot)) && self.has(target, flags)
    }

    /// Whether another machine is where the one was that `phase` of `target` is
    /// about, which has just failed: that is no failure of it.
    pub(super) fn is_made_anew(&self, target: u32, phase: Phase) -> bool {
        self.is_moot(target, phase) && (phase == Phase::Drain || !self.is_gone(target))
    }

    /// What is in the place of `target` now is what counts from now on: its
    /// drain begins, or its upgrade or verification has succeeded, also as another
    /// machine.
    pub(super) fn found(&mut self, target: u32) {
        if let Some(slot) = self.slot_of(target) {
            let node = self.slot_nodes[slot as usize];
            self.reflag(node, |flags| flags & !LOST);
        }
    }

    /// What was done for `slot` up to `phase`, which is to begin or has ended,
    /// was done to another machine than its node is now. What came, or comes, in
    /// its place is drained like any other, unless that happens for ever.
    pub(super) fn moot(&mut self, slot: u32, phase: Phase, reason: &str) {
        let target = self.layout.members + slot;
        self.timers.retain(|timer| timer.0.1 != target);
        if self.aborting {
            let reason = if self.is_gone(target) {
                reason
            } else {
                ABORTED
            };
            self.soaking.remove(&slot);
            return self.abandon(target, phase, reason.to_owned());
        }
        if self.is_changed(target, phase) {
            let times = self.made_anew.entry(slot).or_default();
            if *times == MAX_ANEW {
                let reason = format!(
                    "its node was deleted or made anew {MAX_ANEW} times while it was upgraded"
                );
                if self.is_gone(target) {
                    self.abandon(target, phase, reason);
                    return self.canary_through(target, false);
                }
                let skip = self.layout.then == OnDeadline::Skip;
                return self.give_up(target, phase, skip, reason);
            }
            *times += 1;
        }
        self.put_back(slot, phase, reason);
    }

    fn put_back(&mut self, slot: u32, phase: Phase, reason: &str) {
        let target = self.layout.members + slot;
        self.release(slot);
        // Where its node was made anew its replacement is still there.
        let keeps_replacement =
            self.is_behind_replacement(slot) && phase != Phase::Provision && !self.is_gone(target);
        if self.soaking.remove(&slot).is_some() {
            // It has left before, and others waited for it alone.
            self.mark_all_dirty();
        } else if phase != Phase::Confirm && !keeps_replacement {
            self.leave_flight(target);
        }
        self.attempts[target as usize] = 0;
        self.tried_before.remove(&target);
        if self.is_gone(target) {
            self.reasons.insert(target, reason.to_owned());
            self.withdraw(slot, State::Gone);
        } else if keeps_replacement {
            self.wait_behind_replacement(slot);
        } else {
            self.enqueue(slot);
        }
    }
}
