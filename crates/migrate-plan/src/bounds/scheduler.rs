//! Bound of the rate at which the scheduler places displaced pods.

use std::time::Duration;

/// Sums over the drains of nodes that go beside each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedulerLoad {
    per_pod: Duration,
    /// Some drain of the schedule waits for the scheduler.
    pub(crate) is_queued: bool,
    pods: u64,
    /// The least that follows a drain with pods, in milliseconds.
    rest: Option<u64>,
}

impl SchedulerLoad {
    /// Without pods, of which each takes `per_pod`.
    pub(crate) const fn new(per_pod: Duration, is_queued: bool) -> Self {
        Self {
            per_pod,
            is_queued,
            pods: 0,
            rest: None,
        }
    }

    /// One more drain, of a node that takes `rest` after it.
    pub(crate) fn add(&mut self, pods: u32, rest: u64) {
        if pods > 0 {
            self.pods = self.pods.saturating_add(pods.into());
            self.rest = Some(self.rest.map_or(rest, |least| least.min(rest)));
        }
    }

    /// B5, scheduler: with *r* pods a second, *pᵢ* pods and *eᵢ* what follows the drain of
    /// node *i*. The drain that begins last ends when the pods of all have been placed:
    ///
    /// ```text
    /// M / r + least eᵢ,   M = Σ pᵢ
    /// ```
    ///
    /// `None` where no pods wait for it.
    pub(crate) fn bound(self) -> Option<u64> {
        let rest = self.rest.filter(|_| !self.per_pod.is_zero())?;
        let nanos = self.per_pod.as_nanos().saturating_mul(self.pods.into());
        let millis = u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX);
        Some(millis.saturating_add(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduler_bound_is_all_pods_over_the_rate_and_what_follows_a_drain() {
        let bound = |micros: u64, drains: &[(u32, u64)]| {
            let mut load = SchedulerLoad::new(Duration::from_micros(micros), false);
            for &(pods, rest) in drains {
                load.add(pods, rest);
            }
            load.bound()
        };
        assert_eq!(bound(6250, &[]), None);
        // A node without pods waits for nobody.
        assert_eq!(bound(6250, &[(0, 5)]), None);
        assert_eq!(bound(0, &[(160, 5)]), None);
        assert_eq!(bound(6250, &[(160, 300), (320, 200), (0, 5)]), Some(3200));
        // Never more than it is.
        assert_eq!(bound(6250, &[(1, 0)]), Some(6));
        assert_eq!(bound(u64::MAX, &[(u32::MAX, 9)]), Some(u64::MAX));
    }
}
