//! Bounds of one pool: its slots, and the longest way of one of its nodes.

/// Nodes of a pool that go through the same slots.
#[derive(Clone, Debug)]
pub(crate) struct Lengths {
    /// What each node takes, the longest first.
    sorted: Vec<u64>,
    sum: u128,
    /// One of them goes alone, and the others wait so much longer after it.
    canary: Option<u64>,
}

impl Lengths {
    pub(crate) fn new(mut lengths: Vec<u64>, canary: Option<u64>) -> Self {
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            sum: lengths.iter().map(|length| u128::from(*length)).sum(),
            sorted: lengths,
            canary,
        }
    }

    /// The longest node.
    pub(crate) fn longest(&self) -> u64 {
        self.sorted.first().copied().unwrap_or(0)
    }

    /// How long the pool's canary and what follows it keep the others waiting,
    /// whichever it is; 0 without one.
    pub(crate) fn head(&self) -> u64 {
        match (self.canary, self.sorted.last()) {
            (Some(soak), Some(shortest)) => shortest.saturating_add(soak),
            _ => 0,
        }
    }

    /// B1, slots: no `width` slots are through with these nodes sooner than
    ///
    /// ```text
    /// max( Σ dᵢ / w                        the work, shared
    ///    , (k + 1) · d[k·w]  for every k   of the k·w + 1 longest, one slot has k + 1 )
    /// ```
    ///
    /// with the lengths *d* sorted, the longest first. With a canary, one node
    /// goes alone; whichever that is, the shortest takes no longer, and no more
    /// than one of the longest is missing among the others:
    ///
    /// ```text
    /// d[n-1] + soak + max( (Σ dᵢ − d[n-1]) / w , (k + 1) · d[k·w + 1] )
    /// ```
    pub(crate) fn slot_bound(&self, width: u32) -> u64 {
        let width = width.max(1);
        let alone = usize::from(self.canary.is_some());
        let apart = match alone {
            0 => 0,
            _ => self.sorted.last().copied().unwrap_or(0),
        };
        let work = self.sum.saturating_sub(apart.into());
        let shared = work.div_ceil(width.into());
        let step = usize::try_from(width).unwrap_or(usize::MAX);
        let rounds = self.sorted.iter().skip(alone).step_by(step);
        let rounds = (1u64..).zip(rounds).map(|(k, d)| d.saturating_mul(k));
        let shared = u64::try_from(shared).unwrap_or(u64::MAX);
        self.head().saturating_add(rounds.fold(shared, u64::max))
    }

    /// B3, critical path: the longest node, after the canary if that is another
    /// one. If it is the canary itself, another follows it that is no shorter
    /// than the shortest.
    pub(crate) fn chain_bound(&self) -> u64 {
        match self.sorted.len() {
            0 => 0,
            1 => self.longest().saturating_add(self.canary.unwrap_or(0)),
            _ => self.longest().saturating_add(self.head()),
        }
    }

    /// The smallest width whose [`slot_bound`](Self::slot_bound), as `time` has
    /// it, is at most `limit`. A wider pool is never slower, so it is found by
    /// halving.
    pub(crate) fn useful_width(&self, limit: u64, time: impl Fn(u64) -> u64) -> u32 {
        let all = u32::try_from(self.sorted.len()).unwrap_or(u32::MAX).max(1);
        let (mut low, mut high) = (1, all);
        while low < high {
            let middle = low + (high - low) / 2;
            if time(self.slot_bound(middle)) <= limit {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_bound_is_the_shared_work_or_the_rounds() {
        let pool = Lengths::new(vec![10; 12], None);
        // 12 nodes by 5 would be 24 if nodes could be cut.
        assert_eq!(pool.slot_bound(5), 30);
        assert_eq!(pool.slot_bound(4), 30);
        assert_eq!(pool.slot_bound(1), 120);
        assert_eq!(Lengths::new(vec![50, 1, 1, 1], None).slot_bound(2), 50);
        assert_eq!(Lengths::new(vec![9, 9, 9, 1], None).slot_bound(2), 18);
        assert_eq!(Lengths::new(vec![7, 5, 5, 5], None).slot_bound(2), 11);
    }

    #[test]
    fn slot_bound_has_a_canary_alone() {
        // 10 alone, then 11 by 5: three rounds.
        assert_eq!(Lengths::new(vec![10; 12], Some(0)).slot_bound(5), 40);
        assert_eq!(Lengths::new(vec![10; 12], Some(7)).slot_bound(5), 47);
        assert_eq!(Lengths::new(vec![10], Some(7)).slot_bound(5), 17);
        assert_eq!(Lengths::new(Vec::new(), Some(7)).slot_bound(5), 0);
        // Were the long one the canary, 20 would go by two.
        assert_eq!(Lengths::new(vec![30, 10, 10], Some(0)).slot_bound(2), 30);
    }

    #[test]
    fn chain_bound_is_the_longest_node_after_the_canary() {
        assert_eq!(Lengths::new(vec![10, 30, 20], None).chain_bound(), 30);
        assert_eq!(Lengths::new(vec![10, 30, 20], Some(5)).chain_bound(), 45);
        assert_eq!(Lengths::new(vec![30], Some(5)).chain_bound(), 35);
        assert_eq!(Lengths::new(vec![], Some(5)).chain_bound(), 0);
    }

    #[test]
    fn useful_width_is_the_smallest_that_keeps_the_limit() {
        let pool = Lengths::new(vec![10; 12], None);
        assert_eq!(pool.useful_width(30, |bound| bound), 4);
        assert_eq!(pool.useful_width(29, |bound| bound), 6);
        assert_eq!(pool.useful_width(5, |bound| bound), 12);
        assert_eq!(pool.useful_width(1000, |bound| bound), 1);
    }
}
