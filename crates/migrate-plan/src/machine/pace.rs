//! How fast pods are displaced: the next drain begins when the pods of the one before
//! have had their time.
//!
//! A rate is a resource that time gives back. With *r* pods a minute a drain that
//! displaces *p* keeps every other from beginning for *p / r* minutes, so that those
//! which begin within any time *t* displace no more than *r · t* and the pods of the
//! last one.

use std::cmp::Reverse;
use std::time::Duration;

use migrate_core::Moment;

use super::{Machine, Mode};

/// How long `pods` keep the next drain waiting at `per_minute`, in whole milliseconds
/// rounded up; none without a rate.
pub(crate) fn time_of(pods: u32, per_minute: u32) -> Duration {
    let millis = u64::from(pods).saturating_mul(60_000);
    let millis = match per_minute {
        0 => 0,
        rate => millis.div_ceil(rate.into()),
    };
    Duration::from_millis(millis)
}

impl Machine {
    /// Takes note that the drain of `slot` begins now.
    pub(super) fn displace(&mut self, slot: u32) {
        let pods = self.layout.displaced[slot as usize];
        let time = time_of(pods, self.layout.displaced_per_minute);
        self.paced_until = (!time.is_zero()).then(|| self.now + time);
        self.turn = self.layout.pool_of(slot).saturating_add(1);
    }

    /// Until when no drain may begin, if that is later than now.
    pub(super) fn paced(&self) -> Option<Moment> {
        self.paced_until.filter(|at| *at > self.now)
    }

    /// When the next drain may begin, if a pool may have one.
    pub(super) fn pace_ends_at(&self) -> Option<Moment> {
        let matters = self.mode == Mode::Running && !self.dirty.is_empty();
        self.paced_until.filter(|_| matters)
    }

    /// Whether a pool waits for that time to end, which is no standstill.
    pub(super) fn waits_for_pace(&self) -> bool {
        self.paced().is_some() && !self.dirty.is_empty()
    }

    /// The pool to be looked at next. Where drains begin one after the other, pools
    /// take turns: the first would keep a narrow one waiting to its own end.
    pub(super) fn next_dirty(&mut self) -> Option<u32> {
        if self.layout.displaced_per_minute == 0 {
            return self.dirty.pop().map(|Reverse(pool)| pool);
        }
        let is_due = |pool: &&Reverse<u32>| pool.0 >= self.turn;
        let due = self.dirty.iter().filter(is_due).map(|pool| pool.0).min();
        let next = due.or_else(|| self.dirty.peek().map(|pool| pool.0))?;
        self.dirty.retain(|pool| pool.0 != next);
        Some(next)
    }
}
