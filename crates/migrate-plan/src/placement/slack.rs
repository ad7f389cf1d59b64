//! How much room there is to spare, and how many nodes may be away with it.
//!
//! For a set of nodes that some pods cannot leave, and each resource: whatever
//! is away, those pods have to fit on the others,
//!
//! ```text
//! Σ Cᵢ of nodes away  ≤  slack = Σ Cᵢ of all − Σ what those pods ask for
//! ```
//!
//! with *C* what a node offers, less what stays there. It is necessary, not enough:
//! pods cannot be cut.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::NONE;
use super::cells::Access;
use super::pods::{Landscape, count};

/// How many sets of nodes are looked at: those that most pods are tied to.
const SETS: usize = 64;

/// Nodes that some pods cannot leave.
#[derive(Debug)]
pub(crate) struct Slack {
    /// In ascending order.
    pub(crate) nodes: Vec<u32>,
    /// By resource.
    pub(crate) slack: Vec<u64>,
}

/// Why a pool is narrower than policy asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Narrowed {
    pub(crate) width: u32,
    /// The resource that is scarce.
    pub(crate) resource: usize,
    /// How many nodes share what is left of it.
    pub(crate) among: u32,
    /// Not even one node of each pool that shares it has room to be away.
    pub(crate) is_too_little: bool,
}

impl Landscape<'_> {
    /// The sets of nodes that pods are tied to, and what they have to spare.
    /// `takes` says which nodes take pods, now or once they are done.
    pub(crate) fn slacks(&self, takes: impl Fn(u32) -> bool) -> Vec<Slack> {
        let width = self.usable.width();
        let takes: Vec<bool> = (0..count(self.cells.of_node.len())).map(takes).collect();
        let takes = |node: u32| takes[node as usize];
        let mut pods_of_kind = vec![0u64; self.table.kinds.len()];
        for movable in &self.table.pods {
            let counts = takes(movable.node) && self.leaves(movable);
            pods_of_kind[movable.kind as usize] += u64::from(counts);
        }
        // By class: what its pods ask for, and how many there are.
        let mut asked = vec![(0u64, vec![0u64; width]); self.cells.access.len()];
        for (kind, pods) in self.table.kinds.iter().zip(pods_of_kind) {
            let (all, sum) = &mut asked[kind.class as usize];
            *all += pods;
            for (sum, of_one) in sum.iter_mut().zip(self.requests.row(kind.shape)) {
                *sum = sum.saturating_add(of_one.saturating_mul(pods));
            }
        }
        let mut sets: BTreeMap<Vec<u32>, (u64, Vec<u64>)> = BTreeMap::new();
        let of_class = self.cells.access.iter().zip(asked);
        for (access, (pods, sum)) in of_class.filter(|(_, (pods, _))| *pods > 0) {
            let cells = match access {
                Access::Cells(cells) => cells.clone(),
                Access::Nodes(nodes) => {
                    let cells = nodes.iter().map(|node| self.cells.of_node[*node as usize]);
                    let mut cells: Vec<u32> = cells.collect();
                    cells.sort_unstable();
                    cells.dedup();
                    cells
                }
            };
            let (all, total) = sets.entry(cells).or_insert_with(|| (0, vec![0; width]));
            *all += pods;
            add(total, &sum);
        }
        // Pods that may use different parts of the same pools share these.
        let closures: Vec<Vec<u32>> = sets.keys().map(|cells| self.closure(cells)).collect();
        for closure in closures {
            sets.entry(closure).or_insert_with(|| (0, vec![0; width]));
        }
        let mut sets: Vec<_> = sets.into_iter().collect();
        let rank = |set: &(Vec<u32>, (u64, Vec<u64>))| {
            let is_closed = self.closure(&set.0) == set.0;
            (!is_closed, Reverse(set.1.0))
        };
        sets.sort_by_cached_key(|set| (rank(set), set.0.clone()));
        sets.truncate(SETS);
        let slack = |cells: &Vec<u32>| {
            let within = sets.iter().filter(|(other, _)| {
                let mut other = other.iter();
                other.all(|cell| cells.binary_search(cell).is_ok())
            });
            let mut demand = vec![0; width];
            for (_, (_, sum)) in within {
                add(&mut demand, sum);
            }
            let nodes = cells
                .iter()
                .flat_map(|cell| &self.cells.nodes[*cell as usize]);
            let mut nodes: Vec<u32> = nodes.copied().filter(|node| takes(*node)).collect();
            nodes.sort_unstable();
            let mut slack = vec![0u64; width];
            for node in &nodes {
                add(&mut slack, self.leavable.row(*node));
            }
            for (left, asked) in slack.iter_mut().zip(demand) {
                *left = left.saturating_sub(asked);
            }
            Slack { nodes, slack }
        };
        sets.iter().map(|(cells, _)| slack(cells)).collect()
    }

    /// All cells of the pools that have one of `cells`.
    fn closure(&self, cells: &[u32]) -> Vec<u32> {
        let pool = |cell: &u32| self.cells.pools[*cell as usize];
        let pools: BTreeSet<u32> = cells.iter().map(pool).collect();
        let all = 0..count(self.cells.pools.len());
        all.filter(|cell| pools.contains(&pool(cell))).collect()
    }

    /// By pool: the width that leaves room wherever its nodes are, if that is
    /// less than `widths`, and 1 at least. `pools` gives the pool of each node that
    /// is drained, [`NONE`] of others.
    ///
    /// The pools that share too little room are narrowed in proportion. The worst
    /// case counts: those nodes of each pool away that offer most.
    pub(crate) fn narrowed(
        &self,
        slacks: &[Slack],
        pools: &[u32],
        widths: &[u32],
    ) -> Vec<Option<Narrowed>> {
        let mut narrowed: Vec<Option<Narrowed>> = vec![None; widths.len()];
        for set in slacks {
            for (resource, &slack) in set.slack.iter().enumerate() {
                let sharing = self.sharing(set, resource, pools, widths);
                let found = sharing.and_then(|sharing| sharing.highest_that_fits(slack));
                let Some((level, is_too_little, sharing)) = found else {
                    continue;
                };
                for &pool in sharing.offers.keys() {
                    let found = Narrowed {
                        width: sharing.width(pool, level),
                        resource,
                        among: count(set.nodes.len()),
                        is_too_little,
                    };
                    let known = &mut narrowed[pool as usize];
                    let rank = |of: Narrowed| (of.width, !of.is_too_little);
                    let is_worse = known.is_none_or(|known| rank(found) < rank(known));
                    if is_worse && (found.width < widths[pool as usize] || is_too_little) {
                        *known = Some(found);
                    }
                }
            }
        }
        narrowed
    }

    /// Whether `widths` leave room for the pods of `set`, whichever nodes are away.
    pub(crate) fn holds(
        &self,
        set: &Slack,
        resource: usize,
        pools: &[u32],
        widths: &[u32],
    ) -> bool {
        let sharing = self.sharing(set, resource, pools, widths);
        let found = sharing.and_then(|sharing| sharing.highest_that_fits(set.slack[resource]));
        found.is_none()
    }

    /// The pools that share what there is of `resource`; `None` where all fits even if
    /// each node offered as much as the largest of its pool, as it does where there is
    /// plenty.
    fn sharing<'w>(
        &self,
        set: &Slack,
        resource: usize,
        pools: &[u32],
        widths: &'w [u32],
    ) -> Option<Sharing<'w>> {
        // By pool: how many nodes it has, and the largest offer.
        let mut most = vec![(0u64, 0u64); widths.len()];
        for &node in &set.nodes {
            if let Some((nodes, largest)) = most.get_mut(pools[node as usize] as usize) {
                *nodes += 1;
                *largest = self.leavable.row(node)[resource].max(*largest);
            }
        }
        let away = most.into_iter().zip(widths);
        let away = away.map(|((nodes, largest), width)| {
            let nodes = nodes.min((*width).into());
            largest.saturating_mul(nodes)
        });
        if away.fold(0u64, u64::saturating_add) <= set.slack[resource] {
            return None;
        }
        let mut offers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for &node in &set.nodes {
            let pool = pools[node as usize];
            if pool != NONE {
                let offer = self.leavable.row(node)[resource];
                offers.entry(pool).or_default().push(offer);
            }
        }
        Some(Sharing::new(offers, widths))
    }

    /// How resource `at` is called.
    pub(crate) fn resource(&self, at: usize) -> &str {
        self.dimensions.name(at)
    }
}

/// Pools that share the room of one set of nodes, as wide as a *level* says: the
/// width of the widest, the others in proportion, 1 at least.
struct Sharing<'w> {
    /// What the nodes of each pool offer.
    offers: BTreeMap<u32, Vec<u64>>,
    widths: &'w [u32],
    widest: u32,
}

impl<'w> Sharing<'w> {
    fn new(offers: BTreeMap<u32, Vec<u64>>, widths: &'w [u32]) -> Self {
        let of_pools = offers.keys().map(|pool| widths[*pool as usize]);
        Self {
            widest: of_pools.max().unwrap_or(0),
            offers,
            widths,
        }
    }

    fn width(&self, pool: u32, level: u32) -> u32 {
        let width = u64::from(self.widths[pool as usize]);
        let part = width * u64::from(level) / u64::from(self.widest.max(1));
        u32::try_from(part).unwrap_or(NONE).max(1)
    }

    fn fits(&self, level: u32, slack: u64) -> bool {
        let away = self.offers.iter().map(|(pool, offers)| {
            let most = offers.iter().take(self.width(*pool, level) as usize);
            most.fold(0u64, |sum, offer| sum.saturating_add(*offer))
        });
        away.fold(0u64, u64::saturating_add) <= slack
    }

    /// The highest level that fits, whether not even the lowest does, and who shares;
    /// `None` if there is room for all that is asked for.
    fn highest_that_fits(mut self, slack: u64) -> Option<(u32, bool, Self)> {
        for of_pool in self.offers.values_mut() {
            of_pool.sort_unstable_by(|a, b| b.cmp(a));
        }
        if self.fits(self.widest, slack) {
            return None;
        }
        let (mut low, mut high) = (1, self.widest);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.fits(middle, slack) {
                true => low = middle,
                false => high = middle,
            }
        }
        let is_too_little = !self.fits(low, slack);
        Some((low, is_too_little, self))
    }
}

fn add(sum: &mut [u64], more: &[u64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}
