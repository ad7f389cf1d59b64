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
pub(super) struct Room<'c> {
    cell_of: &'c [u32],
    pub(super) free: Amounts,
    factors: [f64; COMMON],
    /// By node: its list, or [`NONE`] while it is closed.
    list: Vec<u32>,
    next: Vec<u32>,
    before: Vec<u32>,
    heads: Vec<u32>,
    /// By tier and cell: a bit for each level with a node.
    masks: Vec<u64>,
    /// By tier and cell: nodes that are open.
    open: Vec<u32>,
    cells: usize,
    /// By node: a bit for each workload that has a pod there, many sharing one.
    pub(super) hosted: Vec<u64>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'r> {
    pub(super) request: &'r [u64],
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

impl<'c> Room<'c> {
    /// All nodes closed. `usable` is what they can offer at the most.
    pub(super) fn new(usable: &Amounts, cell_of: &'c [u32], cells: usize) -> Self {
        let nodes = cell_of.len();
        let mut factors = [0.0; COMMON];
        for (factor, most) in factors.iter_mut().zip(usable.largest()) {
            if most > 0 {
                *factor = LEVELS as f64 / most as f64;
            }
        }
        Self {
            cell_of,
            free: usable.clone(),
            factors,
            list: vec![NONE; nodes],
            next: vec![NONE; nodes],
            before: vec![NONE; nodes],
            heads: vec![NONE; 2 * cells * LEVELS],
            masks: vec![0; 2 * cells],
            open: vec![0; 2 * cells],
            cells,
            hosted: vec![0; nodes],
        }
    }

    /// The part of the largest node that `amount` is of resource `at`, in
    /// sixty-fourths, rounded down. Monotone, so what has no room by it has none.
    fn part(&self, at: usize, amount: u64) -> usize {
        ((amount as f64 * self.factors[at]) as usize).min(LEVELS - 1)
    }

    fn level(&self, node: u32) -> usize {
        let free = self.free.row(node);
        let parts = (0..COMMON).map(|at| self.part(at, free[at]));
        parts.min().unwrap_or(0)
    }

    /// The level from which on nodes are likely to have room for `request`, and
    /// its size among requests.
    pub(super) fn level_for(&self, request: &[u64]) -> usize {
        let parts = (0..COMMON).map(|at| self.part(at, request[at]));
        parts.max().unwrap_or(0)
    }

    /// How large `request` is: the largest part that it is of the largest node,
    /// finer than levels are.
    pub(super) fn size(&self, request: &[u64]) -> u32 {
        let parts = (0..COMMON).map(|at| request[at] as f64 * self.factors[at]);
        (parts.fold(0.0, f64::max) * 1e6) as u32
    }

    pub(super) fn is_open(&self, node: u32) -> bool {
        self.list[node as usize] != NONE
    }

    pub(super) fn tier_of(&self, node: u32) -> Option<Tier> {
        let list = self.list[node as usize];
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
        if !self.is_open(node) {
            let group = self.group(tier, self.cell_of[node as usize]);
            self.open[group] += 1;
            self.link(node, group);
        }
    }

    pub(super) fn close(&mut self, node: u32) {
        let list = self.list[node as usize];
        if list != NONE {
            self.open[list as usize / LEVELS] -= 1;
            self.unlink(node);
        }
    }

    /// Takes `request` on an open node.
    pub(super) fn take(&mut self, node: u32, request: &[u64], bit: u64) {
        self.free.take(node, request);
        self.hosted[node as usize] |= bit;
        let list = self.list[node as usize] as usize;
        let (group, level) = (list / LEVELS, list % LEVELS);
        if level != self.level(node) {
            self.unlink(node);
            self.link(node, group);
        }
    }

    fn link(&mut self, node: u32, group: usize) {
        let level = self.level(node);
        let list = group * LEVELS + level;
        let head = std::mem::replace(&mut self.heads[list], node);
        if head != NONE {
            self.before[head as usize] = node;
        }
        self.next[node as usize] = head;
        self.before[node as usize] = NONE;
        self.list[node as usize] = list as u32;
        self.masks[group] |= 1 << level;
    }

    fn unlink(&mut self, node: u32) {
        let at = node as usize;
        let list = std::mem::replace(&mut self.list[at], NONE) as usize;
        let (before, next) = (self.before[at], self.next[at]);
        if next != NONE {
            self.before[next as usize] = before;
        }
        if before != NONE {
            self.next[before as usize] = next;
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
        search: Search<'_>,
        allows: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let level = self.level_for(search.request);
        self.scan(tier, cell, u64::MAX << level, LOOKS, search, allows)
    }

    /// The same of all nodes, also those that have less left of what is not
    /// asked for.
    pub(super) fn any(
        &self,
        tier: Tier,
        cell: u32,
        search: Search<'_>,
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
        search: Search<'_>,
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
                if self.free.fits(node, search.request) && allows(node) {
                    self.note(&mut found, node, search.bit);
                    if found.is_enough() {
                        return found.best();
                    }
                } else {
                    missed += 1;
                }
                node = self.next[node as usize];
            }
        }
        found.best()
    }

    /// The same among `nodes`, those of `tier`.
    pub(super) fn among(
        &self,
        tier: Tier,
        nodes: &[u32],
        search: Search<'_>,
        allows: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut found = Found::default();
        for &node in nodes {
            let is_there = self.tier_of(node) == Some(tier);
            if is_there && self.free.fits(node, search.request) && allows(node) {
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
        if self.hosted[node as usize] & bit == 0 {
            found.apart.get_or_insert(node);
        }
    }
}
