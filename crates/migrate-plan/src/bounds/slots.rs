//! Bounds of one pool: its slots, and the longest way of one of its nodes.

/// Nodes of a pool that go through the same slots.
#[derive(Clone, Debug)]
pub(crate) struct Lengths {
    /// What each node takes, the longest first.
    sorted: Vec<u64>,
    sum: u128,
    /// One of them goes alone, and the others wait so much longer after it.
    canary: Option<u64>,
    /// Those that are full.
    stages: Vec<Stage>,
}

/// A stage of a ramp.
#[derive(Clone, Copy, Debug)]
struct Stage {
    nodes: usize,
    /// What so many nodes take at least, whichever they are.
    least: u64,
}

impl Lengths {
    pub(crate) fn new(mut lengths: Vec<u64>, canary: Option<u64>) -> Self {
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            sum: lengths.iter().map(|length| u128::from(*length)).sum(),
            sorted: lengths,
            canary,
            stages: Vec::new(),
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

    /// With the stages of a ramp, each as many nodes as it has.
    pub(crate) fn with_ramp(mut self, stages: &[u32]) -> Self {
        let mut done = usize::from(self.canary.is_some());
        for &stage in stages {
            let nodes = usize::try_from(stage).unwrap_or(usize::MAX);
            done = done.saturating_add(nodes);
            // One that is not full holds nobody up.
            if done > self.sorted.len() {
                break;
            }
            if let Some(least) = self.sorted.len().checked_sub(nodes) {
                let least = self.sorted.get(least).copied().unwrap_or(0);
                self.stages.push(Stage { nodes, least });
            }
        }
        self
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
    ///
    /// A stage of *r* nodes that is full takes as long as the longest of them, which
    /// is at least the *r*-th shortest of all, *s(r)*, and by then no more than r of w
    /// slots are of use; it takes *t(r)* = max over k of (k + 1) · s(r − k·w), since of
    /// its k·w + 1 longest one slot has k + 1. With *R* nodes in stages and *c* = 1
    /// behind a canary, else 0:
    ///
    /// ```text
    /// head + max( (Σ dᵢ − c·d[n-1]) / w + Σ s(r) · max(0, 1 − r / w)
    ///           , Σ t(r) + Σ of the n − c − R shortest / w
    ///           , Σ t(r) + (k + 1) · d[k·w + c + R] )
    /// ```
    ///
    /// A wider pool lengthens none: where the first grows, it is less than Σ s(r).
    pub(crate) fn slot_bound(&self, width: u32) -> u64 {
        let wide = u128::from(width.max(1));
        let step = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
        let alone = usize::from(self.canary.is_some());
        let apart = match alone {
            0 => 0,
            _ => self.sorted.last().copied().unwrap_or(0),
        };
        let mut shared = self.sum.saturating_sub(apart.into());
        let (mut stages, mut before) = (0u64, alone);
        for stage in &self.stages {
            stages = stages.saturating_add(self.stage_bound(stage.nodes, step));
            before += stage.nodes;
            let idle = wide.saturating_sub(stage.nodes as u128);
            shared = shared.saturating_add(idle.saturating_mul(stage.least.into()));
        }
        let rest = match self.stages.is_empty() {
            true => 0,
            false => {
                let rest = self.sorted.iter().skip(before);
                let rest: u128 = rest.map(|length| u128::from(*length)).sum();
                u64::try_from(rest.div_ceil(wide)).unwrap_or(u64::MAX)
            }
        };
        let rounds = self.sorted.iter().skip(before).step_by(step);
        let rounds = (1u64..).zip(rounds).map(|(k, d)| d.saturating_mul(k));
        let after = stages.saturating_add(rounds.fold(rest, u64::max));
        let shared = u64::try_from(shared.div_ceil(wide)).unwrap_or(u64::MAX);
        self.head().saturating_add(shared.max(after))
    }

    /// What a stage of so many nodes takes at least by `width` slots.
    fn stage_bound(&self, nodes: usize, width: usize) -> u64 {
        let shortest = |rank: usize| {
            let at = self.sorted.len().checked_sub(rank);
            at.and_then(|at| self.sorted.get(at)).copied().unwrap_or(0)
        };
        let ranks = (1..=nodes).rev().step_by(width);
        let rounds = (1u64..).zip(ranks);
        let rounds = rounds.map(|(k, rank)| shortest(rank).saturating_mul(k));
        rounds.max().unwrap_or(0)
    }

    /// [`slot_bound`](Self::slot_bound), with the canary elsewhere.
    pub(super) fn without_canary(&self, width: u32) -> u64 {
        let others = Self {
            canary: None,
            ..self.clone()
        };
        others.slot_bound(width)
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
    fn slot_bound_has_the_stages_of_a_ramp() {
        let pool = |stages: &[u32]| Lengths::new(vec![10; 12], None).with_ramp(stages);
        // 10 for 1, 10 for 4 at once, then 7 by 5.
        assert_eq!(pool(&[1, 4]).slot_bound(5), 40);
        // One by one a ramp holds nobody up.
        assert_eq!(pool(&[1, 4]).slot_bound(1), 120);
        // A stage that is wider than the pool, 8 by 5, then 4.
        assert_eq!(pool(&[8]).slot_bound(5), 30);
        // One that is not full is none.
        assert_eq!(pool(&[1, 20]).slot_bound(12), 20);
        let behind = Lengths::new(vec![10; 12], Some(7)).with_ramp(&[1, 4]);
        assert_eq!(behind.slot_bound(6), 10 + 7 + 10 + 10 + 10);
        // Whichever go first, the stage of four has one of the long ones.
        let uneven = Lengths::new(vec![100, 100, 1, 1, 1], None).with_ramp(&[4]);
        assert_eq!(uneven.slot_bound(5), 101);
    }

    #[test]
    fn a_wider_pool_is_never_slower_by_its_ramp() {
        let lengths = [
            vec![100, 100, 1, 1, 1],
            vec![9, 8, 7, 6, 5, 4, 3, 2, 1],
            vec![50, 50, 50, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ];
        for lengths in lengths {
            for stages in [vec![4], vec![1, 3], vec![2, 3, 4], vec![1, 2, 9]] {
                for canary in [None, Some(0), Some(30)] {
                    let pool = Lengths::new(lengths.clone(), canary).with_ramp(&stages);
                    for width in 1..14 {
                        assert!(pool.slot_bound(width + 1) <= pool.slot_bound(width));
                    }
                }
            }
        }
    }
}
