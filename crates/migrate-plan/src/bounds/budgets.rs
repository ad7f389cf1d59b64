//! Bounds of budgets: a renewable resource that drains hold for a while.

/// What a drain takes of one budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    /// Pods of it on the node.
    pub(crate) pods: u32,
    /// How long the drain holds what it takes.
    pub(crate) drain: u64,
    /// What the node still has before it when the drain has ended.
    pub(crate) rest: u64,
}

/// Sums over the drains that take something of one budget, pool by pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetLoad {
    /// Disruptions it allows at once.
    allowed: u32,
    all: Sums,
    /// The greatest of each pool, of which one may be the canary's.
    canaries: Sums,
    /// The greatest of the pool that is being added.
    greatest: Sums,
    pool: u32,
    shortest: u64,
    least: u32,
    rest: u64,
    /// The shortest wait for the canary of a pool.
    head: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Σ of what is held times how long.
    work: u64,
    /// Σ of the drains of which no two fit beside each other.
    exclusive: u64,
    drains: u64,
}

impl BudgetLoad {
    pub(crate) const fn new(allowed: u32) -> Self {
        Self {
            allowed,
            all: Sums::NONE,
            canaries: Sums::NONE,
            greatest: Sums::NONE,
            pool: u32::MAX,
            shortest: u64::MAX,
            least: u32::MAX,
            rest: u64::MAX,
            head: u64::MAX,
        }
    }

    /// One more drain, of a node of `pool` whose canary keeps others waiting for
    /// `head`. Drains of one pool come one after the other.
    pub(crate) fn add(&mut self, pool: u32, head: u64, hold: Hold) {
        if self.pool != pool {
            self.close_pool();
            self.pool = pool;
        }
        let share = hold.pods.min(self.allowed.max(1));
        let is_exclusive = u64::from(share) * 2 > u64::from(self.allowed);
        let one = Sums {
            work: u64::from(share).saturating_mul(hold.drain),
            exclusive: if is_exclusive { hold.drain } else { 0 },
            drains: 1,
        };
        self.all.add(one);
        self.greatest.work = self.greatest.work.max(one.work);
        self.greatest.exclusive = self.greatest.exclusive.max(one.exclusive);
        self.greatest.drains = 1;
        self.shortest = self.shortest.min(hold.drain);
        self.least = self.least.min(share);
        self.rest = self.rest.min(hold.rest);
        self.head = self.head.min(head);
    }

    fn close_pool(&mut self) {
        self.canaries
            .add(std::mem::replace(&mut self.greatest, Sums::NONE));
    }

    /// Whether nothing holds it.
    pub(crate) const fn is_idle(&self) -> bool {
        self.all.drains == 0
    }

    /// B2, budget *j*: with *aⱼ* pods that may be away at once, a drain that
    /// lasts *hᵢ* and takes *nᵢⱼ* of them (all there are, at most *aⱼ*):
    ///
    /// ```text
    /// max( Σ nᵢⱼ · hᵢ / aⱼ
    ///    , Σ hᵢ of those that take more than half: no two at once
    ///    , ⌈drains / ⌊aⱼ / least nᵢⱼ⌋⌉ · shortest hᵢ ) + the shortest rest of a node
    /// ```
    ///
    /// The rest is what a node has before it after its drain. Behind canaries
    /// there is a second one: the shortest wait for a canary, then the same over
    /// all drains but the greatest of each pool, which may be the canary's.
    pub(crate) fn bound(mut self) -> u64 {
        if self.is_idle() {
            return 0;
        }
        self.close_pool();
        let from_start = self.share(self.all).saturating_add(self.rest);
        let others = self.all.without(self.canaries);
        if self.head == 0 || others.drains == 0 {
            return from_start;
        }
        let behind = self.share(others).saturating_add(self.rest);
        from_start.max(self.head.saturating_add(behind))
    }

    /// What [`bound`](Self::bound) is not above. Told of drains in any order.
    pub(crate) fn most(&self) -> u64 {
        if self.is_idle() {
            return 0;
        }
        let from_start = self.share(self.all).saturating_add(self.rest);
        from_start.saturating_add(self.head)
    }

    fn share(&self, sums: Sums) -> u64 {
        let allowed = self.allowed.max(1);
        let shared = sums.work.div_ceil(allowed.into());
        let beside = u64::from((allowed / self.least.max(1)).max(1));
        let rounds = sums.drains.div_ceil(beside);
        shared
            .max(sums.exclusive)
            .max(rounds.saturating_mul(self.shortest))
    }
}

impl Sums {
    const NONE: Self = Self {
        work: 0,
        exclusive: 0,
        drains: 0,
    };

    fn add(&mut self, other: Self) {
        self.work = self.work.saturating_add(other.work);
        self.exclusive = self.exclusive.saturating_add(other.exclusive);
        self.drains = self.drains.saturating_add(other.drains);
    }

    fn without(self, other: Self) -> Self {
        Self {
            work: self.work.saturating_sub(other.work),
            exclusive: self.exclusive.saturating_sub(other.exclusive),
            drains: self.drains.saturating_sub(other.drains),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(allowed: u32, head: u64, holds: &[(u32, u64)]) -> u64 {
        let mut load = BudgetLoad::new(allowed);
        for &(pods, drain) in holds {
            let rest = 100;
            load.add(0, head, Hold { pods, drain, rest });
        }
        load.bound()
    }

    #[test]
    fn bound_is_what_is_held_over_what_is_allowed() {
        assert_eq!(load(1, 0, &[(1, 10); 9]), 190);
        assert_eq!(load(3, 0, &[(1, 10); 9]), 130);
        assert_eq!(load(3, 0, &[]), 0);
        // A drain takes no more than there is, for as long as its turns last.
        assert_eq!(load(2, 0, &[(8, 40)]), 140);
    }

    #[test]
    fn bound_counts_rounds_and_drains_that_exclude_each_other() {
        // 9 by 4 would be 22.5.
        assert_eq!(load(4, 0, &[(1, 10); 9]), 130);
        // 3 of 5 each: no two fit, although the work alone would be 36.
        assert_eq!(load(5, 0, &[(3, 10); 6]), 160);
    }

    #[test]
    fn bound_behind_a_canary_leaves_out_the_greatest() {
        // From the start 30 + 100; behind the canary 50 + 20 + 100.
        assert_eq!(load(1, 50, &[(1, 10); 3]), 170);
        assert_eq!(load(1, 50, &[(1, 10)]), 110);
        // Two pools, two canaries.
        let mut load = BudgetLoad::new(1);
        for pool in 0..2 {
            let hold = Hold {
                pods: 1,
                drain: 10,
                rest: 100,
            };
            load.add(pool, 50, hold);
            load.add(pool, 40 + u64::from(pool), hold);
        }
        assert_eq!(load.bound(), 40 + 20 + 100);
    }

    /// Drains of three pools, some of which have a canary: in order, and in turns.
    #[test]
    fn no_bound_is_above_what_it_may_be_at_most() {
        for allowed in 1..9 {
            for heads in [[0, 0, 0], [50, 60, 70], [0, 9, 900]] {
                let mut drains: Vec<(u32, u64, Hold)> = (0..12u32)
                    .map(|n| {
                        let pool = n / 4;
                        let (pods, drain) = (1 + n * 7 % 5, 10 + u64::from(n * 13 % 11));
                        let hold = Hold {
                            pods,
                            drain,
                            rest: 100 + drain,
                        };
                        (pool, heads[pool as usize], hold)
                    })
                    .collect();
                let mut load = BudgetLoad::new(allowed);
                for &(pool, head, hold) in &drains {
                    load.add(pool, head, hold);
                }
                drains.sort_by_key(|(.., hold)| hold.drain);
                let mut turned = BudgetLoad::new(allowed);
                for &(pool, head, hold) in &drains {
                    turned.add(pool, head, hold);
                }
                assert_eq!(load.most(), turned.most());
                assert!(load.bound() <= load.most());
                assert!(load.most() <= load.bound() + 900);
            }
        }
    }

    #[test]
    fn one_more_never_lengthens_it() {
        for allowed in 1..12 {
            for holds in [[(1, 10); 7], [(3, 9); 7], [(20, 31); 7]] {
                assert!(load(allowed + 1, 60, &holds) <= load(allowed, 60, &holds));
            }
        }
    }
}
