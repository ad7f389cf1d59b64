//! One pool: its slots, and its zones where one of them is in work at a time.

use super::Lengths;

/// A pool with something to do.
#[derive(Debug)]
pub(crate) struct PoolSlots<'a> {
    pub(crate) name: &'a str,
    /// How many of its nodes may be away, as policy says.
    pub(crate) width: u32,
    /// How many of these are of no use: away for good (not Ready, or cordoned and not
    /// to be upgraded), or kept for failures.
    pub(crate) lost: u32,
    pub(crate) lengths: Lengths,
    /// Those of each zone, where one is in work at a time.
    pub(crate) zones: Vec<Lengths>,
    /// Its longest node.
    pub(crate) longest: &'a str,
    /// Whose lengths they are.
    pub(crate) slots: &'a [usize],
}

impl PoolSlots<'_> {
    /// The width that is really there.
    pub(super) fn left(&self) -> u32 {
        self.width.saturating_sub(self.lost).max(1)
    }

    /// Its bound with `width` slots, and whether its zones make it.
    pub(super) fn bound(&self, width: u32) -> (u64, bool) {
        let slots = self.lengths.slot_bound(width);
        let zones = self.zone_bound(width);
        (slots.max(zones), zones > slots)
    }

    /// B7, zones: times in which nodes of one zone are in work are none in which those
    /// of another are, so the bounds of the zones' slots add up; one of them has the
    /// canary, whichever makes it least:
    ///
    /// ```text
    /// Σ B1(zone)          least over zones: Σ B1(others) + B1(zone with the canary)
    /// ```
    pub(super) fn zone_bound(&self, width: u32) -> u64 {
        let bounds = self.zones.iter().map(|zone| {
            let alone = zone.slot_bound(width);
            let without = zone.without_canary(width);
            (without, alone.saturating_sub(without))
        });
        let mut sum = 0u64;
        let mut least: Option<u64> = None;
        for (without, more) in bounds {
            sum = sum.saturating_add(without);
            least = Some(least.map_or(more, |least| least.min(more)));
        }
        sum.saturating_add(least.unwrap_or(0))
    }

    /// The smallest width whose bound, as `time` has it, is at most `limit`. A wider pool is never slower, so it is found by
    /// halving.
    pub(super) fn useful_width(&self, limit: u64, time: impl Fn(u64) -> u64) -> u32 {
        let all = u32::try_from(self.slots.len()).unwrap_or(u32::MAX).max(1);
        let (mut low, mut high) = (1, all);
        while low < high {
            let middle = low + (high - low) / 2;
            if time(self.bound(middle).0) <= limit {
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

    fn pool(lengths: &[&[u64]], canary: Option<u64>, slots: &[usize]) -> u64 {
        let all = lengths.concat();
        let zones = match lengths {
            [_] => Vec::new(),
            zones => zones
                .iter()
                .map(|z| Lengths::new(z.to_vec(), canary))
                .collect(),
        };
        let lengths = Lengths::new(all, canary);
        let (name, longest, width, lost) = ("p", "n", 5, 0);
        let pool = PoolSlots {
            name,
            width,
            lost,
            lengths,
            zones,
            longest,
            slots,
        };
        pool.zone_bound(5)
    }

    #[test]
    fn zone_bound_adds_up_and_has_the_canary_where_it_costs_least() {
        assert_eq!(pool(&[&[10; 12]], None, &[]), 0);
        // Three rounds and one.
        assert_eq!(pool(&[&[10; 12], &[10; 3]], None, &[]), 40);
        // The canary of the first zone is one more round there; of the second too, but
        // its others may begin at 7.
        assert_eq!(pool(&[&[10; 12], &[10; 3]], Some(7), &[]), 57);
        // Alone in its zone it costs its soak.
        assert_eq!(pool(&[&[10; 12], &[10]], Some(7), &[]), 47);
    }

    #[test]
    fn useful_width_is_the_smallest_that_keeps_the_limit() {
        let slots: Vec<usize> = (0..12).collect();
        let pool = PoolSlots {
            name: "p",
            width: 1,
            lost: 0,
            lengths: Lengths::new(vec![10; 12], None),
            zones: Vec::new(),
            longest: "n",
            slots: &slots,
        };
        assert_eq!(pool.useful_width(30, |bound| bound), 4);
        assert_eq!(pool.useful_width(29, |bound| bound), 6);
        assert_eq!(pool.useful_width(5, |bound| bound), 12);
        assert_eq!(pool.useful_width(1000, |bound| bound), 1);
    }
}
