//! Bound of the rate at which pods are displaced.

/// Sums over the drains of nodes that go beside each other, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PaceLoad {
    /// Σ of how long each keeps the next waiting.
    sum: u64,
    /// The most that the last one saves: its own pods keep nobody waiting, but it takes
    /// its length.
    saved: Option<i128>,
}

impl PaceLoad {
    /// One more drain whose pods have their time for `time`, of a node that takes
    /// `length`.
    pub(crate) fn add(&mut self, time: u64, length: u64) {
        self.sum = self.sum.saturating_add(time);
        let saved = i128::from(time) - i128::from(length);
        self.saved = self.saved.max(Some(saved));
    }

    /// B5, rate: with *r* pods a minute, *pᵢ* pods and lengths *dᵢ*, whichever is the
    /// last begins after the pods of all others have had their time:
    ///
    /// ```text
    /// least over i: Σ pⱼ / r of all others + dᵢ
    /// ```
    pub(crate) fn bound(self) -> u64 {
        let bound = i128::from(self.sum) - self.saved.unwrap_or(0);
        u64::try_from(bound.max(0)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_is_the_time_of_all_pods_but_those_of_the_last() {
        let load = |drains: &[(u64, u64)]| {
            let mut load = PaceLoad::default();
            for &(time, length) in drains {
                load.add(time, length);
            }
            load.bound()
        };
        assert_eq!(load(&[]), 0);
        assert_eq!(load(&[(30, 100)]), 100);
        assert_eq!(load(&[(30, 100), (30, 100), (30, 100)]), 160);
        // The last is the one with many pods, or the short one.
        assert_eq!(load(&[(30, 100), (90, 100)]), 130);
        assert_eq!(load(&[(30, 10), (90, 100)]), 100);
    }
}
