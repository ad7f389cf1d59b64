//! Ending a rollout for good: what was changed is brought to its end, and the
//! rest is left as it was.

use migrate_core::Phase;

use super::{Machine, Mode, State};

/// Why a target was left out.
pub(crate) const ABORTED: &str = "the run was aborted";

impl Machine {
    /// Begins to end, wherever it stands.
    ///
    /// A drain changes no component, so whoever is not past it is left out: at
    /// once, or when the drain that runs has ended. A target whose upgrade was
    /// begun goes on to the end of its verification, for between versions it is
    /// worst off. What failed stays so, and one more failure stops nothing.
    pub(crate) fn abort(&mut self) {
        if std::mem::replace(&mut self.aborting, true) {
            return;
        }
        self.mode = Mode::Running;
        for target in 0..self.targets() {
            match self.states[target as usize] {
                state if state.is_untouched() => self.leave_untouched(target),
                State::Due(phase) if !self.is_changed(target, phase) => {
                    if let Some(slot) = self.slot_of(target) {
                        self.links.remove(&mut self.due, slot);
                    }
                    self.abandon(target, phase, ABORTED.to_owned());
                }
                State::Backoff(phase) if phase.changes_nothing() => {
                    self.abandon(target, phase, ABORTED.to_owned());
                }
                State::Soaking => {
                    self.soaking.remove(&(target - self.layout.members));
                    self.set(target, State::Done);
                }
                _ => {}
            }
        }
        self.dispatch();
    }

    /// Withdraws a target without sending another in its place.
    fn leave_untouched(&mut self, target: u32) {
        if let Some(slot) = self.slot_of(target) {
            self.unqueue(slot);
        }
        self.reasons.insert(target, ABORTED.to_owned());
        self.set(target, State::Skipped);
    }

    /// Whether the upgrade of a target that is to begin `phase` has been tried.
    pub(super) fn is_changed(&self, target: u32, phase: Phase) -> bool {
        match phase {
            Phase::Provision | Phase::Drain | Phase::BackUp => false,
            Phase::Upgrade => {
                self.attempts[target as usize] > 0 || self.tried_before.contains(&target)
            }
            _ => true,
        }
    }
}
