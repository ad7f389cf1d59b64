//! Who may begin now.
//!
//! A slot that may not begin waits for exactly one thing: a slot of its pool,
//! one budget (in the lane of its pool at that budget), or its own node. It is
//! looked at again only when that very thing has become free *and* its pool
//! has a slot, so a release costs as many tests as it lets begin, plus those
//! that turn out to need something else as well.

use std::cmp::Reverse;
use std::time::Duration;

use migrate_core::{Phase, Point};

use super::lost::NODE_GONE;
use super::queue::NONE;
use super::{Emit, Gate, Halt, Machine, Mode, Stage, State};

impl Machine {
    /// Begins whatever may begin, then looks whether anything is left.
    pub(super) fn dispatch(&mut self) {
        if self.mode == Mode::Running && !self.paused {
            self.dispatch_stages();
            while self.mode == Mode::Running
                && let Some(slot) = self.links.pop(&mut self.due)
            {
                let target = self.layout.members + slot;
                match self.states[target as usize] {
                    State::Due(phase) if self.is_moot(target, phase) => {
                        self.moot(slot, phase, NODE_GONE);
                        // The workers may have waited for it.
                        self.dispatch_stages();
                    }
                    State::Due(phase) => self.begin(target, phase),
                    _ => {}
                }
            }
            self.wake_runner();
            while self.mode == Mode::Running
                && self.stage != Stage::Members
                && self.is_window_open()
                && self.paced().is_none()
                && let Some(pool) = self.next_dirty()
            {
                self.pools[pool as usize].dirty = false;
                if self.may_begin(pool) {
                    self.dispatch_pool(pool);
                }
            }
        }
        self.settle();
    }

    /// Notices the end, and the begin of a standstill.
    fn settle(&mut self) {
        if self.mode != Mode::Running {
            return;
        }
        if self.aborting {
            self.moves();
            if self.busy == 0 {
                self.halt(Halt::Aborted);
            }
        } else if self.remaining == 0 {
            self.mode = Mode::Finished;
            self.moves();
            self.out.push_back(Emit::Finished);
        } else if self.busy > 0 || self.paused || self.waits_for_pace() {
            self.moves();
        } else if !self.waits_for_window() {
            self.stalled_since.get_or_insert(self.now);
            self.still_from.get_or_insert(self.now);
        } else {
            self.hold_standstill();
        }
    }

    /// Waiting for a window is no standstill, nor is the time it is closed.
    pub(super) fn hold_standstill(&mut self) {
        if let Some(since) = self.stalled_since.take() {
            self.stalled_for += self.now.min(self.window_closes_at()).since(since);
        }
    }

    /// It does not stand still, or not any more.
    pub(super) fn moves(&mut self) {
        self.stalled_since = None;
        self.still_from = None;
        self.stalled_for = Duration::ZERO;
    }

    /// One member or task at a time, each to the end of its last phase.
    fn dispatch_stages(&mut self) {
        // A node that came back meanwhile does not break it off.
        if self.is_task_in_work() {
            self.dispatch_tasks(Point::AfterAll);
            return;
        }
        if !self.dispatch_tasks(Point::BeforeControlPlane) {
            return;
        }
        while self.member < self.layout.members {
            let state = self.states[self.member as usize];
            match state {
                State::Gated if self.members_fit() => self.begin(self.member, Phase::Upgrade),
                State::Due(phase) => self.begin(self.member, phase),
                State::Done => {
                    self.member += 1;
                    continue;
                }
                _ => {}
            }
            return;
        }
        if self.stage == Stage::Members {
            self.stage = Stage::ControlPlane;
            if let Some(pool) = self.layout.control_plane {
                self.open_pool(pool);
            }
        }
        if self.stage == Stage::ControlPlane
            && self.control_plane_left == 0
            && self.dispatch_tasks(Point::BeforeWorkers)
        {
            self.open_workers();
        }
        self.dispatch_last_tasks();
    }

    fn open_workers(&mut self) {
        self.stage = Stage::Workers;
        for pool in 0..u32::try_from(self.layout.widths.len()).unwrap_or(NONE) {
            if self.layout.control_plane != Some(pool) {
                self.open_pool(pool);
            }
        }
    }

    /// Whether slots of `pool` have left their gate, but for its canary.
    pub(super) fn is_open(&self, pool: u32) -> bool {
        match self.stage {
            Stage::Members => false,
            Stage::ControlPlane => self.layout.control_plane == Some(pool),
            Stage::Workers => true,
        }
    }

    /// Looks at every pool again.
    pub(super) fn mark_all_dirty(&mut self) {
        for pool in 0..u32::try_from(self.pools.len()).unwrap_or(NONE) {
            self.mark_dirty(pool);
        }
    }

    /// Whether slots of `pool` may begin as far as other pools go.
    pub(super) fn may_begin(&self, pool: u32) -> bool {
        if self.is_task_in_work() || self.runner_in_work(pool).is_some() {
            return false;
        }
        let held = self.control_plane_left > 0 || !self.soaking.is_empty();
        !held || self.layout.control_plane == Some(pool)
    }

    fn open_pool(&mut self, pool: u32) {
        let layout = self.layout.clone();
        let planned = layout
            .slots_of(pool)
            .iter()
            .find(|slot| layout.slots[**slot as usize].canary);
        match planned {
            None => self.lift_gate(pool),
            // It goes last, also where it was planned to go first.
            Some(&slot) if self.runner == Some(slot) => self.send_next_canary(pool),
            Some(&slot) if self.states[(layout.members + slot) as usize] == State::Gated => {
                self.send_canary(pool, slot);
            }
            Some(_) => self.send_next_canary(pool),
        }
    }

    pub(super) fn send_canary(&mut self, pool: u32, slot: u32) {
        self.pools[pool as usize].gate = Gate::Canary(slot);
        self.enqueue(slot);
    }

    pub(super) fn send_next_canary(&mut self, pool: u32) {
        let layout = self.layout.clone();
        let is_gated =
            |slot: &&u32| self.states[(layout.members + **slot) as usize] == State::Gated;
        let gated = || layout.slots_of(pool).iter().filter(is_gated);
        let other = gated().find(|slot| self.runner != Some(**slot));
        match other.or_else(|| gated().next()) {
            Some(&slot) => self.send_canary(pool, slot),
            None => self.pools[pool as usize].gate = Gate::Wanted,
        }
    }

    fn lift_gate(&mut self, pool: u32) {
        self.pools[pool as usize].gate = Gate::Open;
        let layout = self.layout.clone();
        for &slot in layout.slots_of(pool) {
            if self.states[(layout.members + slot) as usize] == State::Gated {
                self.enqueue(slot);
            }
        }
    }

    /// After the end of a canary: the others follow if it was verified, else
    /// the next one of its pool goes in its place.
    pub(super) fn canary_through(&mut self, target: u32, verified: bool) {
        let Some(slot) = self.slot_of(target) else {
            return;
        };
        if !self.is_canary(slot) {
            return;
        }
        let pool = self.layout.pool_of(slot);
        if verified {
            self.lift_gate(pool);
        } else {
            self.send_next_canary(pool);
        }
    }

    /// Puts a slot into the queue of its pool.
    pub(super) fn enqueue(&mut self, slot: u32) {
        let pool = self.layout.pool_of(slot);
        self.links.push(&mut self.pools[pool as usize].ready, slot);
        self.set(self.layout.members + slot, State::Queued);
        self.mark_dirty(pool);
    }

    /// Takes a slot that has not begun out of whatever it waits in.
    pub(super) fn unqueue(&mut self, slot: u32) {
        match self.states[(self.layout.members + slot) as usize] {
            State::Queued => {
                let pool = &mut self.pools[self.layout.pool_of(slot) as usize];
                // Only a head knows its queue, as below.
                let is_head = |queue: &super::Queue| queue.first() == Some(slot);
                let queue = if is_head(&pool.later) {
                    &mut pool.later
                } else if is_head(&pool.elsewhere) {
                    &mut pool.elsewhere
                } else {
                    &mut pool.ready
                };
                self.links.remove(queue, slot);
            }
            State::Parked { lane } => {
                let lane = &mut self.lanes[lane as usize];
                // Only a head knows its queue. What hung below a slot of either
                // goes to `waiting`: a test too many is harmless.
                let queue = if lane.tried.first() == Some(slot) {
                    &mut lane.tried
                } else {
                    &mut lane.waiting
                };
                self.links.remove(queue, slot);
            }
            _ => {}
        }
    }

    /// Ends the wait of a slot that has not begun.
    pub(super) fn withdraw(&mut self, slot: u32, to: State) {
        self.unqueue(slot);
        let target = self.layout.members + slot;
        self.set(target, to);
        self.end_surge(slot, to);
        self.canary_through(target, false);
    }

    pub(super) fn mark_dirty(&mut self, pool: u32) {
        if !std::mem::replace(&mut self.pools[pool as usize].dirty, true) {
            self.dirty.push(Reverse(pool));
        }
    }

    fn dispatch_pool(&mut self, pool: u32) {
        self.dispatch_slots(pool);
        if self.paced().is_some() {
            self.mark_dirty(pool);
        }
    }

    fn dispatch_slots(&mut self, pool: u32) {
        let mut from = 0;
        while let Some(&slot) = self.pools[pool as usize].cordoned.range(from..).next() {
            from = slot + 1;
            if !self.needs_no_room(slot) {
                continue;
            }
            if self.waits_as_runner(slot) {
                self.unqueue(slot);
                self.set(self.layout.members + slot, State::HostsRunner);
                continue;
            }
            if self.is_elsewhere(slot) {
                continue;
            }
            if !self.slot_fits(slot) {
                self.unqueue(slot);
                self.lay_aside(slot);
                continue;
            }
            match self.blocking(slot) {
                None => {
                    self.unqueue(slot);
                    self.begin(self.layout.members + slot, Phase::Drain);
                    if self.paced().is_some() {
                        return;
                    }
                }
                Some(need) => {
                    self.unqueue(slot);
                    self.park(slot, need);
                }
            }
        }
        // Only what begins takes any of it.
        let mut has_room = self.has_room(pool);
        while has_room {
            let Some(slot) = self.next_candidate(pool) else {
                break;
            };
            let target = self.layout.members + slot;
            if self.waits_as_runner(slot) {
                self.set(target, State::HostsRunner);
            } else if !self.is_ready(slot) {
                self.set(target, State::NotReady);
            } else if self.is_elsewhere(slot) {
                self.put_elsewhere(slot);
            } else if !self.slot_fits(slot) {
                self.lay_aside(slot);
            } else if let Some(need) = self.blocking(slot) {
                self.park(slot, need);
            } else {
                self.begin(target, self.begins_with(slot));
                if self.paced().is_some() {
                    return;
                }
                has_room = self.has_room(pool);
            }
        }
    }

    /// Begins `phase` of `target`, which must be in no queue.
    pub(super) fn begin(&mut self, target: u32, phase: Phase) {
        if let Some(slot) = self.slot_of(target)
            && self.states[target as usize].is_untouched()
        {
            if phase == Phase::Provision {
                self.go_behind_replacement(slot);
            } else {
                self.hold(slot);
                match self.is_behind_replacement(slot) {
                    true => self.drain_behind_replacement(slot),
                    false => self.enter_flight(slot),
                }
                self.displace(slot);
            }
        }
        if matches!(phase, Phase::Provision | Phase::Drain) {
            self.found(target);
        }
        self.attempts[target as usize] += 1;
        self.set(target, State::Running(phase));
        self.out.push_back(Emit::Begin { target, phase });
    }
}
