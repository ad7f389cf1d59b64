//! How much room there is to spare, and whether it is enough for nodes that may be away.
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

    /// By pool: what its nodes in `set` offer of `resource`, the largest first, if there is too
    /// little for as many of them to be away as `widths` say, whichever those are. `pools` gives
    /// the pool of each node that is drained, [`NONE`] of others.
    pub(crate) fn scarce(
        &self,
        set: &Slack,
        resource: usize,
        pools: &[u32],
        widths: &[u32],
    ) -> Option<BTreeMap<u32, Vec<u64>>> {
        let slack = set.slack[resource];
        // By pool: how many nodes it has, and the largest offer. Where there is plenty,
        // all fits even if each node offered as much.
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
        if away.fold(0u64, u64::saturating_add) <= slack {
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
        for of_pool in offers.values_mut() {
            of_pool.sort_unstable_by(|a, b| b.cmp(a));
        }
        let away = offers.iter().flat_map(|(pool, offers)| {
            let width = widths[*pool as usize] as usize;
            offers.iter().take(width)
        });
        let away = away.fold(0u64, |sum, offer| sum.saturating_add(*offer));
        (away > slack).then_some(offers)
    }

    /// How resource `at` is called.
    pub(crate) fn resource(&self, at: usize) -> &str {
        self.dimensions.name(at)
    }
}

fn add(sum: &mut [u64], more: &[u64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}
