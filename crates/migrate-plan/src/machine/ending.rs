//! How actions end, and what follows: the next phase, another attempt, giving
//! up, a stop.

use std::cmp::Reverse;
use std::time::Duration;

use migrate_core::{OnDeadline, Phase};

use super::{ABORTED, Cause, Emit, Halt, Machine, Mode, NODE_GONE, State, next_phase};

/// How often an action is tried before it has failed for good.
const MAX_ATTEMPTS: u8 = 3;
/// Wait before the second attempt; doubled before each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// How an action ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// Not begun: these nodes of its pool were seen to be away.
    Deferred {
        away: Vec<u32>,
    },
    /// Not begun: its time was over.
    TooLate,
    /// Not begun: what was drained is not there.
    NotDrained,
    Succeeded,
    Failed {
        retryable: bool,
        reason: String,
    },
    Skipped {
        reason: String,
    },
}

impl Machine {
    /// Takes note of how the running phase of `target` ended; anything else
    /// than the end of what is running is late or repeated and changes nothing.
    pub(crate) fn ended(&mut self, target: u32, phase: Phase, ended: Ended) {
        if self.states[target as usize] != State::Running(phase) {
            return;
        }
        match (ended, self.slot_of(target)) {
            // However it ended, it was not the drain of what is there now.
            (ended, Some(slot))
                if phase == Phase::Drain && self.is_lost(target) && !self.aborting =>
            {
                if let Ended::Deferred { away } = ended {
                    away.into_iter().for_each(|node| self.told_away(node));
                }
                self.moot(slot, phase, NODE_GONE);
            }
            (Ended::NotDrained, Some(slot)) => self.moot(slot, phase, NODE_GONE),
            // Nor did it fail there.
            (Ended::Failed { .. }, Some(slot)) if self.is_made_anew(target, phase) => {
                self.moot(slot, phase, NODE_GONE);
            }
            (ended, _) => self.ended_there(target, phase, ended),
        }
        self.dispatch();
    }

    /// Takes note of an end that is about what is there now.
    fn ended_there(&mut self, target: u32, phase: Phase, ended: Ended) {
        match ended {
            Ended::Deferred { away } => self.deferred(target, phase, &away),
            Ended::Succeeded => self.passed(target, phase),
            Ended::Failed { retryable, reason } => self.failed(target, phase, retryable, reason),
            Ended::Skipped { reason } if self.aborting => self.abandon(target, phase, reason),
            Ended::Skipped { reason } => self.give_up(target, phase, true, reason),
            Ended::TooLate => self.too_late(target, phase),
            // A member or a task is not drained.
            Ended::NotDrained => {
                let reason = "it is not drained, and nothing drains it".to_owned();
                self.failed(target, phase, false, reason);
            }
        }
    }

    pub(super) fn failed(&mut self, target: u32, phase: Phase, retryable: bool, reason: String) {
        let attempts = self.attempts[target as usize];
        let is_left = self.aborting && phase.changes_nothing();
        if retryable && attempts < MAX_ATTEMPTS && !self.is_gone(target) && !is_left {
            let wait = FIRST_RETRY * (1 << attempts.saturating_sub(1));
            self.set(target, State::Backoff(phase));
            self.timers.push(Reverse((self.now + wait, target)));
        } else {
            let skip = self.layout.then == OnDeadline::Skip;
            self.give_up(target, phase, skip, reason);
        }
    }

    /// Puts a slot back into the queue that was admitted and not begun, since
    /// `away` fill its pool.
    ///
    /// Only if they do so by our count too: whoever is put back may begin at
    /// once, and would be deferred for ever by someone who counts differently.
    fn deferred(&mut self, target: u32, phase: Phase, away: &[u32]) {
        for &node in away {
            self.told_away(node);
        }
        let slot = self.slot_of(target);
        let full = |slot: &u32| {
            let pool = self.layout.pool_of(*slot) as usize;
            self.pools[pool].away > self.layout.widths[pool]
        };
        if self.aborting && phase == Phase::Drain {
            return self.abandon(target, phase, ABORTED.to_owned());
        }
        // Behind its replacement it takes nothing of the pool by our count, ever.
        let waits = |slot: &u32| full(slot) && !self.is_behind_replacement(*slot);
        let Some(slot) = slot.filter(|slot| phase == Phase::Drain && waits(slot)) else {
            let reason = "its pool was full when it was to begin".to_owned();
            return self.failed(target, phase, true, reason);
        };
        self.release(slot);
        self.leave_flight(target);
        let attempts = &mut self.attempts[target as usize];
        *attempts = attempts.saturating_sub(1);
        self.enqueue(slot);
    }

    fn passed(&mut self, target: u32, phase: Phase) {
        self.attempts[target as usize] = 0;
        if phase == Phase::Provision {
            return self.provisioned(target - self.layout.members);
        }
        if phase == Phase::Drain {
            self.release(target - self.layout.members);
            if self.aborting {
                self.abandon(target, phase, ABORTED.to_owned());
                return;
            }
        }
        if phase != Phase::Drain {
            self.found(target);
        }
        if let Some(next) = next_phase(phase) {
            self.become_due(target, next);
        } else if self.go_on_to_further_node(target) {
            self.become_due(target, phase);
        } else if phase == Phase::Confirm {
            self.soaking.remove(&(target - self.layout.members));
            self.through(target);
            self.mark_all_dirty();
        } else {
            let soaking = self.slot_of(target).filter(|slot| self.soaks(*slot));
            match soaking {
                // There is nothing to be confirmed.
                Some(slot) if self.is_planned(slot) && self.is_gone(target) => {
                    self.moot(slot, phase, NODE_GONE);
                }
                Some(slot) => {
                    self.leave_flight(target);
                    self.soak(slot);
                }
                None => {
                    self.leave_flight(target);
                    self.through(target);
                }
            }
        }
    }

    fn soaks(&self, slot: u32) -> bool {
        self.is_canary(slot) && !self.layout.canary_soak.is_zero() && !self.aborting
    }

    fn through(&mut self, target: u32) {
        self.set(target, State::Done);
        if let Some(slot) = self.slot_of(target).filter(|slot| !self.is_canary(*slot)) {
            self.pools[self.layout.pool_of(slot) as usize].verified += 1;
        }
        self.canary_through(target, true);
    }

    /// Leaves a verified canary alone for a while.
    fn soak(&mut self, slot: u32) {
        let target = self.layout.members + slot;
        let until = self.now + self.layout.canary_soak;
        self.set(target, State::Soaking);
        self.soaking.insert(slot, until);
        self.timers.push(Reverse((until, target)));
    }

    /// Gives up on `target` in `phase`: skips it or stops the rollout.
    ///
    /// Without a member the skew policy keeps every node where it is, workers
    /// wait for control-plane nodes, and a canary that failed after its drain
    /// says that the others would too: these stop the rollout, whatever policy
    /// says.
    pub(super) fn give_up(&mut self, target: u32, phase: Phase, skip: bool, reason: String) {
        let slot = self.slot_of(target);
        let canary = slot.is_some_and(|slot| self.is_canary(slot));
        let changed = !phase.changes_nothing();
        if self.aborting {
            match changed {
                false => self.abandon(target, phase, ABORTED.to_owned()),
                true if self.is_gone(target) => self.abandon(target, phase, reason),
                true => self.set(target, State::Failed(phase)),
            }
            return;
        }
        let gone = self.is_gone(target) && !(canary && changed);
        // Everything after it waits for the whole control plane.
        let first = slot.is_none_or(|slot| self.layout.is_control_plane(slot));
        let allowed = self.layout.max_failed;
        let cause = if canary && changed {
            Some(Cause::Canary)
        } else if !gone && (first || !skip) {
            Some(Cause::Policy)
        } else {
            (!gone && self.failed >= allowed).then_some(Cause::TooMany { allowed })
        };
        if let Some(cause) = cause {
            self.set(target, State::Failed(phase));
            self.halt(Halt::Failed {
                target,
                phase,
                cause,
                reason,
            });
            return;
        }
        // Left out until it comes back, if it does.
        if let Some(slot) = slot.filter(|slot| gone && self.is_planned(*slot)) {
            return self.moot(slot, phase, &reason);
        }
        self.failed += u32::from(!gone);
        self.abandon(target, phase, reason);
        self.canary_through(target, false);
    }

    /// Leaves a target out that had begun, and gives back what it held.
    pub(super) fn abandon(&mut self, target: u32, phase: Phase, reason: String) {
        if let Some(slot) = self.slot_of(target) {
            if phase == Phase::Drain {
                self.release(slot);
            }
            // A canary that is confirmed has left before.
            if phase != Phase::Confirm {
                match self.is_behind_replacement(slot) {
                    true => self.keep_surge(slot),
                    false => self.leave_flight(target),
                }
            }
            self.suspect(self.slot_nodes[slot as usize]);
        }
        self.reasons.insert(target, reason);
        self.set(target, State::Skipped);
    }

    pub(super) fn halt(&mut self, halt: Halt) {
        if matches!(self.mode, Mode::Idle | Mode::Running) {
            self.mode = Mode::Stopped(halt.clone());
            self.moves();
            self.out.push_back(Emit::Stop(halt));
        }
    }

    /// What happens at [`wake_at`](Self::wake_at), one thing at a time.
    pub(super) fn fire(&mut self) {
        if self.target_timer_at().is_some_and(|at| at <= self.now) {
            if let Some(Reverse((_, target))) = self.timers.pop() {
                match self.states[target as usize] {
                    State::Backoff(phase) => self.become_due(target, phase),
                    State::Soaking => self.become_due(target, Phase::Confirm),
                    _ => {}
                }
            }
            return;
        }
        if self.window_opens_at().is_some_and(|at| at <= self.now) {
            self.open_window();
            return;
        }
        if self.pace_ends_at().is_some_and(|at| at <= self.now) {
            self.paced_until = None;
            return;
        }
        self.moves();
        // Listed first: a canary that is given up sends the next one.
        let stuck: Vec<u32> = (0..self.slots())
            .filter(|slot| {
                let state = self.states[(self.layout.members + slot) as usize];
                state.is_candidate() || matches!(state, State::NotReady | State::TooLong)
            })
            .collect();
        let is_first = |slot: &u32| self.layout.is_control_plane(*slot);
        // Without one, a member or a task is.
        let stops = self.layout.then == OnDeadline::Stop || stuck.is_empty();
        if stops || stuck.iter().any(is_first) {
            self.halt(Halt::Stalled);
            return;
        }
        for slot in stuck {
            let reason = "it could not begin for as long as policy waits".to_owned();
            self.reasons.insert(self.layout.members + slot, reason);
            self.withdraw(slot, State::Skipped);
        }
    }

    pub(super) fn become_due(&mut self, target: u32, phase: Phase) {
        self.set(target, State::Due(phase));
        if let Some(slot) = self.slot_of(target) {
            self.links.push(&mut self.due, slot);
        }
    }
}
