//! Windows: what may begin only while one is open, and long enough.
//!
//! The machine knows the opening it is in, and when the next one comes. A slot
//! that does not fit into what is left of an opening is laid aside and looked
//! at again at the next one, so each is tested once in an opening at most.

use std::time::Duration;

use migrate_core::policy::LongestAhead;
use migrate_core::{Moment, Phase};

use super::{ABORTED, Machine, Mode, State};

/// Where the rollout stands in its calendar.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// When this was found out.
    since: Moment,
    /// Something may begin before this.
    open_until: Moment,
    /// When the next one opens, if one does.
    opens_at: Option<Moment>,
    /// The member or task whose turn it is did not fit, and will into another.
    member_waits: bool,
    /// The longest there was in the year after `since`, once somebody has asked.
    longest: Option<Duration>,
    ahead: LongestAhead,
}

impl Window {
    pub(super) const UNSEEN: Self = Self {
        since: Moment::EPOCH,
        open_until: Moment::EPOCH,
        opens_at: None,
        member_waits: false,
        longest: None,
        ahead: LongestAhead::new(),
    };
}

impl Machine {
    /// Finds out where in the calendar it is, and looks again at all that was
    /// laid aside.
    pub(super) fn open_window(&mut self) {
        self.hold_standstill();
        let calendar = &self.layout.calendar;
        let (open_until, opens_at) = match calendar.opening(self.now) {
            Some(opening) if opening.from <= self.now => {
                let next = calendar.opening(opening.until);
                (opening.until, next.map(|next| next.from))
            }
            opening => (Moment::EPOCH, opening.map(|opening| opening.from)),
        };
        self.window = Window {
            since: self.now,
            open_until,
            opens_at,
            ahead: std::mem::take(&mut self.window.ahead),
            ..Window::UNSEEN
        };
        for pool in &mut self.pools {
            self.links.append(&mut pool.ready, &mut pool.later);
        }
        self.mark_all_dirty();
    }

    /// When the next window opens, while that matters.
    pub(super) fn window_opens_at(&self) -> Option<Moment> {
        let matters = self.mode == Mode::Running && self.remaining > 0 && !self.aborting;
        self.window.opens_at.filter(|_| matters)
    }

    /// When nothing may begin any more until another window opens: never for
    /// one after which there is none.
    pub(super) fn window_closes_at(&self) -> Moment {
        match self.window.opens_at {
            Some(_) => self.window.open_until,
            None => Moment::from_millis(u64::MAX),
        }
    }

    pub(super) fn is_window_open(&self) -> bool {
        self.now < self.window.open_until
    }

    /// Whether what lasts for `length` ends in time if it begins now.
    fn fits(&self, length: Duration) -> bool {
        let ends_in_time = || length.is_zero() || self.now + length <= self.window.open_until;
        self.is_window_open() && ends_in_time()
    }

    /// Whether `slot` would end in time.
    pub(super) fn slot_fits(&self, slot: u32) -> bool {
        self.fits(self.length_of(slot))
    }

    /// What is predicted for the members that are left, one by one.
    pub(super) fn members_length(&self) -> Duration {
        let left = self.layout.member_lengths.iter().skip(self.member as usize);
        left.fold(Duration::ZERO, |sum, length| sum.saturating_add(*length))
    }

    /// Whether the members that are left would end in time.
    pub(super) fn members_fit(&mut self) -> bool {
        let length = self.members_length();
        self.fits_alone(length)
    }

    /// Whether the one target whose turn it is, and lasts for `length`, would end
    /// in time.
    pub(super) fn fits_alone(&mut self, length: Duration) -> bool {
        let fits = self.fits(length);
        self.window.member_waits = !fits && length <= self.longest_window();
        fits
    }

    /// How long the longest opening was in the year after this one had come.
    fn longest_window(&mut self) -> Duration {
        let Window {
            since,
            longest,
            ahead,
            ..
        } = &mut self.window;
        *longest.get_or_insert_with(|| ahead.after(&self.layout.calendar, *since))
    }

    /// Lays `slot`, which must be in no queue, aside until the next opening, or
    /// for good if none will do.
    pub(super) fn lay_aside(&mut self, slot: u32) {
        let target = self.layout.members + slot;
        if self.length_of(slot) > self.longest_window() {
            self.set(target, State::TooLong);
            return;
        }
        let pool = self.layout.pool_of(slot) as usize;
        self.links.push(&mut self.pools[pool].later, slot);
        self.set(target, State::Queued);
    }

    /// Whether the next opening may let something begin that waits for it now:
    /// then nothing moving is no standstill.
    pub(super) fn waits_for_window(&self) -> bool {
        if self.window.opens_at.is_none() {
            return false;
        }
        let aside = || self.pools.iter().any(|pool| pool.later.first().is_some());
        !self.is_window_open() || self.window.member_waits || aside()
    }

    /// Whether `phase` of `target`, which was decided and is about to begin, is the
    /// first of it and does not end in time any more: that may be a while after
    /// the decision.
    pub(crate) fn is_late(&self, target: u32, phase: Phase) -> bool {
        let at = target as usize;
        let is_first = self.states[at] == State::Running(phase)
            && self.attempts[at] == 1
            && !self.tried_before.contains(&target)
            && phase == self.first_phase(target);
        is_first && !self.aborting && !self.fits(self.length_from(target))
    }

    /// What is predicted for `target` and what has to follow it.
    fn length_from(&self, target: u32) -> Duration {
        match (self.slot_of(target), self.task_of(target)) {
            (Some(slot), _) => self.length_of(slot),
            (_, Some(_)) => self.task_length(),
            _ => self.members_length(),
        }
    }

    /// Lets a target that was decided and not begun wait for its time once more.
    pub(super) fn too_late(&mut self, target: u32, phase: Phase) {
        if phase != self.first_phase(target) {
            let reason = "it was too late for it to begin".to_owned();
            return self.failed(target, phase, true, reason);
        }
        if self.aborting && phase.changes_nothing() {
            return self.abandon(target, phase, ABORTED.to_owned());
        }
        let attempts = &mut self.attempts[target as usize];
        *attempts = attempts.saturating_sub(1);
        match self.slot_of(target) {
            Some(slot) => {
                self.release(slot);
                if phase == Phase::Drain && self.is_behind_replacement(slot) {
                    return self.wait_behind_replacement(slot);
                }
                self.leave_flight(target);
                self.enqueue(slot);
            }
            None => self.set(target, State::Gated),
        }
    }

    /// When a target that does not fit now is looked at again: `None` if it
    /// fits, or never will.
    pub(super) fn next_window(&self, slot: Option<u32>) -> Option<Option<Moment>> {
        self.window_for(match slot {
            Some(slot) => self.length_of(slot),
            None => self.members_length(),
        })
    }

    pub(super) fn window_for(&self, length: Duration) -> Option<Option<Moment>> {
        let waits = self.mode == Mode::Running && !self.fits(length);
        waits.then_some(self.window.opens_at)
    }
}
