//! The scheduler, whom the pods of all drains wait for.
//!
//! A rollout does not ask it: what a run begins never waits for it. But a drain is not
//! over before its pods are placed, and the scheduler places pods one after the other, so
//! that many drains at once last longer than each of them alone.

use std::time::Duration;

use migrate_core::Moment;

use super::Planner;
use super::times::whole_millis;

/// A queue of pods, those of the drain that began first before all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheduler {
    per_pod: Duration,
    /// When it will have placed all that were displaced so far. Finer than moments are.
    free: (Moment, Duration),
}

impl Planner<'_> {
    /// The cluster's scheduler, before anything begins.
    pub(super) fn scheduler(&self) -> Scheduler {
        Scheduler::new(self.durations.schedule)
    }
}

impl Scheduler {
    /// With nothing to do; each pod takes `per_pod`.
    const fn new(per_pod: Duration) -> Self {
        Self {
            per_pod,
            free: (Moment::EPOCH, Duration::ZERO),
        }
    }

    pub(super) const fn per_pod(&self) -> Duration {
        self.per_pod
    }

    /// How long a drain of `pods` lasts that begins at `now` and would last `alone` if
    /// nobody else had any: no shorter than that, and than it takes to place these pods
    /// and all that were displaced before. In whole milliseconds, rounded up.
    ///
    /// Pods are taken to come as the drain begins, and what is left to do for the last one
    /// once it is placed is not added: with an idle scheduler a drain lasts as long as it
    /// did alone, unless it has more pods than are placed meanwhile.
    pub(super) fn drain(&mut self, now: Moment, pods: u32, alone: Duration) -> Duration {
        if pods == 0 || self.per_pod.is_zero() {
            return alone;
        }
        let (since, queued) = self.free;
        let queued = queued.saturating_sub(now.since(since));
        let queued = queued.saturating_add(self.per_pod.saturating_mul(pods));
        self.free = (now, queued);
        alone.max(whole_millis(queued))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn drains_wait_for_the_pods_of_those_before_them() {
        let mut scheduler = Scheduler::new(Duration::from_micros(6250));
        let mut drain = |at: u64, pods: u32| {
            let took = scheduler.drain(Moment::from_millis(at), pods, MILLIS(1000));
            took.as_millis()
        };
        assert_eq!(drain(0, 30), 1000);
        assert_eq!(drain(0, 160), 1188);
        // Nobody waits who has no pods.
        assert_eq!(drain(0, 0), 1000);
        assert_eq!(drain(100, 160), 2088);
        // It was idle for a while.
        assert_eq!(drain(9000, 320), 2000);
        let mut free = Scheduler::new(Duration::ZERO);
        assert_eq!(free.drain(Moment::EPOCH, u32::MAX, MILLIS(7)), MILLIS(7));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Within any time no more pods are placed than the rate allows, and none is
        /// placed later than that makes necessary.
        #[test]
        fn a_drain_ends_when_all_pods_up_to_its_own_may_have_been_placed(
            drains in prop::collection::vec((0..500u64, 0..200u32), 1..30),
            micros in 1..20_000u64,
        ) {
            let mut scheduler = Scheduler::new(Duration::from_micros(micros));
            let (mut at, mut begun) = (0, Vec::new());
            for (after, pods) in drains {
                at += after;
                let took = scheduler.drain(Moment::from_millis(at), pods, Duration::ZERO);
                begun.push((at * 1000, u64::from(pods) * micros));
                if pods == 0 {
                    prop_assert!(took.is_zero());
                    continue;
                }
                // From the begin of any drain on, all that came since has to be placed.
                let work = |from: usize| -> u64 {
                    begun[from..].iter().map(|(_, work)| work).sum()
                };
                let ends = (0..begun.len()).map(|from| begun[from].0 + work(from));
                let end = ends.max().unwrap_or(0) - at * 1000;
                prop_assert_eq!(took, MILLIS(end.div_ceil(1000)));
            }
        }
    }
}
