//! What is free on open nodes, in lists by how much.

use super::NONE;
use super::amounts::{Amounts, COMMON};

/// How many lists there are for each cell: as many as bits in a mask.
const LEVELS: usize = 64;
/// How many nodes that have room are looked at for one without a pod of the
/// same workload.
const LOOKS: u32 = 4;

/// Nodes that are not drained any more come before those that will be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tier {
    Settled = 0,
    Unsettled = 1,
}

/// Free room by node; open nodes are in the list of their tier, cell and level.
///
/// The level is that of the scarcest of CPU, memory and pods: the part of the
/// largest node that is free, in sixty-fourths.
#[derive(Clone, Debug)]
pub(super) struct Room {
    nodes: Vec<Place>,
    /// What is free of extended resources, if there are any.
    more: Amounts,
    factors: [f64; COMMON],
    /// By level: the least of each resource that is of it.
    least: [[u64; COMMON]; LEVELS],
    heads: Vec<u32>,
    /// By tier and cell: a bit for each level with a node.
    masks: Vec<u64>,
    /// By tier and cell: nodes that are open.
    open: Vec<u32>,
    cells: usize,
}

/// All of a node that a search looks at, in one place.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// What is free of the common resources.
    free: [u64; COMMON],
    /// A bit for each workload that has a pod there, many sharing one.
    hosted: u64,
    cell: u32,
    /// Its list, or [`NONE`] while it is closed.
    list: u32,
    next: u32,
    before: u32,
}

/// What pods of a kind ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'r> {
    common: [u64; COMMON],
    /// Of extended resources; empty where nothing is asked of them.
    more: &'r [u64],
    /// The level from which on nodes are likely to have room for it.
    level: usize,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'r> {
    pub(super) ask: Ask<'r>,
    /// The bit of its workload.
    pub(super) bit: u64,
}

/// The best node so far: one without a pod of the workload ends the search.
#[derive(Debug, Default)]
struct Found {
    any: Option<u32>,
    apart: Option<u32>,
    seen: u32,
}

impl Found {
    fn is_enough(&self) -> bool {
        self.apart.is_some() || self.seen >= LOOKS
    }

    fn best(&self) -> Option<u32> {
        self.apart.or(self.any)
    }
}

impl Room {
    /// All nodes closed. `usable` is what they can offer at the most.
    pub(super) fn new(usable: &Amounts, cell_of: &[u32], cells: usize) -> Self {
        let largest = usable.largest();
        let mut factors = [0.0; COMMON];
        for (factor, &most) in factors.iter_mut().zip(&largest) {
            if most > 0 {
                *factor = LEVELS as f64 / most as f64;
            }
        }
        let mut least = [[0; COMMON]; LEVELS];
        for (at, &most) in largest.iter().enumerate().take(COMMON) {
            let mut so_far = 0;
            for (level, least) in least.iter_mut().enumerate() {
                so_far = least_of_level(factors[at], level, so_far, most);
                least[at] = so_far;
            }
        }
        let place = |(node, &cell): (u32, &u32)| Place {
            free: common(usable.row(node)),
            hosted: 0,
            cell,
            list: NONE,
            next: NONE,
            before: NONE,
        };
        Self {
            nodes: (0..).zip(cell_of).map(place).collect(),
            more: usable.beyond_common(),
            factors,
            least,
            heads: vec![NONE; 2 * cells * LEVELS],
            masks: vec![0; 2 * cells],
            open: vec![0; 2 * cells],
            cells,
        }
    }

    /// What a pod that asks for `request` asks for.
    pub(super) fn ask<'r>(&self, request: &'r [u64]) -> Ask<'r> {
        let (_, more) = request.split_at(COMMON);
        let parts = (0..COMMON).map(|at| part(self.factors[at], request[at]));
        Ask {
            common: common(request),
            more: match more.iter().all(|asked| *asked == 0) {
                true => &[],
                false => more,
            },
            level: parts.max().unwrap_or(0),
        }
    }

    /// How large `request` is: the largest part that it is of the largest node,
    /// finer than levels are.
    pub(super) fn size(&self, request: &[u64]) -> u32 {
        let parts = (0..COMMON).map(|at| request[at] as f64 * self.factors[at]);
        (parts.fold(0.0, f64::max) * 1e6) as u32
    }

    pub(super) fn tier_of(&self, node: u32) -> Option<Tier> {
        let list = self.nodes[node as usize].list;
        match (list, list as usize / LEVELS < self.cells) {
            (NONE, _) => None,
            (_, true) => Some(Tier::Settled),
            (_, false) => Some(Tier::Unsettled),
        }
    }

    /// Whether any node of `cell` is open in `tier`.
    pub(super) fn has_open(&self, tier: Tier, cell: u32) -> bool {
        self.open[self.group(tier, cell)] > 0
    }

    fn group(&self, tier: Tier, cell: u32) -> usize {
        tier as usize * self.cells + cell as usize
    }

    pub(super) fn open(&mut self, node: u32, tier: Tier) {
        let place = &self.nodes[node as usize];
        if place.list == NONE {
            let group = self.group(tier, place.cell);
            self.open[group] += 1;
            self.link(node, group, LEVELS - 1);
        }
    }

    pub(super) fn close(&mut self, node: u32) {
        let list = self.nodes[node as usize].list;
        if list != NONE {
            self.open[list as usize / LEVELS] -= 1;
            self.unlink(node);
        }
    }

    /// Whether `ask` is free on `node`.
    pub(super) fn fits(&self, node: u32, ask: &Ask<'_>) -> bool {
        let free = &self.nodes[node as usize].free;
        let has_common = free[0] >= ask.common[0] && free[1] >= ask.common[1];
        has_common
            && free[2] >= ask.common[2]
            && (ask.more.is_empty() || self.more.fits(node, ask.more))
    }

    /// `node`, which is closed, has no pod any more, and so much free.
    pub(super) fn empty(&mut self, node: u32, free: &[u64]) {
        let (_, more) = free.split_at(COMMON);
        self.more.set(node, more);
        let place = &mut self.nodes[node as usize];
        place.free = common(free);
        place.hosted = 0;
    }

    /// Takes `amount` on `node`, which is closed.
    pub(super) fn take_closed(&mut self, node: u32, amount: &[u64]) {
        let (_, more) = amount.split_at(COMMON);
        self.more.take(node, more);
        let place = &mut self.nodes[node as usize];
        for (free, less) in place.free.iter_mut().zip(amount) {
            *free = free.saturating_sub(*less);
        }
    }

    /// Takes what `pods` ask for on `node`, which is closed.
    pub(super) fn fill<'r>(&mut self, node: u32, pods: impl Iterator<Item = Search<'r>>) {
        let place = &mut self.nodes[node as usize];
        let mut taken = [0u64; COMMON];
        for Search { ask, bit } in pods {
            for (sum, more) in taken.iter_mut().zip(ask.common) {
                *sum = sum.saturating_add(more);
            }
            if !ask.more.is_empty() {
                self.more.take(node, ask.more);
            }
            place.hosted |= bit;
        }
        for (free, less) in place.free.iter_mut().zip(taken) {
            *free = free.saturating_sub(less);
        }
    }

    /// Takes note that `node` has pods of the workloads with these bits.
    pub(super) fn host(&mut self, node: u32, bits: u64) {
        self.nodes[node as usize].hosted |= bits;
    }

    /// Takes what is searched for on an open node.
    pub(super) fn take(&mut self, node: u32, search: &Search<'_>) {
        let Search { ask, bit } = search;
        if !ask.more.is_empty() {
            self.more.take(node, ask.more);
        }
        let place = &mut self.nodes[node as usize];
        place.hosted |= bit;
        for (free, less) in place.free.iter_mut().zip(ask.common) {
            *free = free.saturating_sub(less);
        }
        let list = place.list as usize;
        let level = list % LEVELS;
        // What becomes less does not rise.
        if !is_of(&place.free, &self.least[level]) {
            self.unlink(node);
            self.link(node, list / LEVELS, level);
        }
    }

    /// Puts `node` into the list of its level, which is `highest` at most.
    fn link(&mut self, node: u32, group: usize, highest: usize) {
        let free = &self.nodes[node as usize].free;
        let mut level = highest;
        while level > 0 && !is_of(free, &self.least[level]) {
            level -= 1;
        }
        let list = group * LEVELS + level;
        let head = std::mem::replace(&mut self.heads[list], node);
        if head != NONE {
            self.nodes[head as usize].before = node;
        }
        let place = &mut self.nodes[node as usize];
        place.next = head;
        place.before = NONE;
        place.list = list as u32;
        self.masks[group] |= 1 << level;
    }

    fn unlink(&mut self, node: u32) {
        let place = &mut self.nodes[node as usize];
        let list = std::mem::replace(&mut place.list, NONE) as usize;
        let (before, next) = (place.before, place.next);
        if next != NONE {
            self.nodes[next as usize].before = before;
        }
        if before != NONE {
            self.nodes[before as usize].next = next;
        } else {
            self.heads[list] = next;
            if next == NONE {
                self.masks[list / LEVELS] &= !(1 << (list % LEVELS));
            }
        }
    }

    /// A node of `cell` with room: of those with enough left of everything that
    /// with the least left, best one without a pod of the workload.
    pub(super) fn likely(
        &self,
        tier: Tier,
        cell: u32,
        search: &Search<'_>,
        allows: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let levels = u64::MAX << search.ask.level;
        self.scan(tier, cell, levels, LOOKS, search, allows)
    }

    /// The same of all nodes, also those that have less left of what is not
    /// asked for.
    pub(super) fn any(
        &self,
        tier: Tier,
        cell: u32,
        search: &Search<'_>,
        allows: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        self.scan(tier, cell, u64::MAX, u32::MAX, search, allows)
    }

    /// Looks into the lists of `levels`, at no more than `misses` nodes of each
    /// that have no room.
    fn scan(
        &self,
        tier: Tier,
        cell: u32,
        levels: u64,
        misses: u32,
        search: &Search<'_>,
        allows: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let group = self.group(tier, cell);
        let mut mask = self.masks[group] & levels;
        let mut found = Found::default();
        while mask != 0 {
            let level = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let mut node = self.heads[group * LEVELS + level];
            let mut missed = 0;
            while node != NONE && missed < misses {
                if self.fits(node, &search.ask) && allows(node) {
                    self.note(&mut found, node, search.bit);
                    if found.is_enough() {
                        return found.best();
                    }
                } else {
                    missed += 1;
                }
                node = self.nodes[node as usize].next;
            }
        }
        found.best()
    }

    /// The same among `nodes`, those of `tier`.
    pub(super) fn among(
        &self,
        tier: Tier,
        nodes: &[u32],
        search: &Search<'_>,
        allows: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut found = Found::default();
        for &node in nodes {
            let is_there = self.tier_of(node) == Some(tier);
            if is_there && self.fits(node, &search.ask) && allows(node) {
                self.note(&mut found, node, search.bit);
                if found.is_enough() {
                    break;
                }
            }
        }
        found.best()
    }

    fn note(&self, found: &mut Found, node: u32, bit: u64) {
        found.seen += 1;
        found.any.get_or_insert(node);
        if self.nodes[node as usize].hosted & bit == 0 {
            found.apart.get_or_insert(node);
        }
    }
}

/// The first of a row of amounts, which has as many at least.
fn common(row: &[u64]) -> [u64; COMMON] {
    let mut common = [0; COMMON];
    common.copy_from_slice(&row[..COMMON]);
    common
}

/// Whether so much of each is of the level that `least` is of.
fn is_of(free: &[u64; COMMON], least: &[u64; COMMON]) -> bool {
    free[0] >= least[0] && free[1] >= least[1] && free[2] >= least[2]
}

/// The part of the whole that `amount` is, in sixty-fourths, rounded down, where
/// `factor` is what one unit is.
fn part(factor: f64, amount: u64) -> usize {
    ((amount as f64 * factor) as usize).min(LEVELS - 1)
}

/// The least amount of `level`, which is no less than `from`; [`u64::MAX`] if not
/// even `most` is.
fn least_of_level(factor: f64, level: usize, from: u64, most: u64) -> u64 {
    if part(factor, most) < level {
        return u64::MAX;
    }
    let (mut low, mut high) = (from, most);
    while low < high {
        let middle = low + (high - low) / 2;
        match part(factor, middle) < level {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_amount_of_a_level_is_of_it_and_one_less_is_not() {
        for most in [0, 1, 7, 63, 64, 65, 110, 32_000, 128 << 30, u64::MAX] {
            let factor = match most {
                0 => 0.0,
                most => LEVELS as f64 / most as f64,
            };
            let mut least = 0;
            for level in 0..LEVELS {
                least = least_of_level(factor, level, least, most);
                if least == u64::MAX {
                    assert!(part(factor, most) < level, "{most} {level}");
                    continue;
                }
                assert!(part(factor, least) >= level, "{most} {level}");
                assert!(
                    least == 0 || part(factor, least - 1) < level,
                    "{most} {level}"
                );
            }
        }
    }
}
