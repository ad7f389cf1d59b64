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

use super::cells::Access;
use super::pods::{Kind, Landscape, count};

/// How many sets of nodes are looked at: those that most pods are tied to. What is asked for
/// within these is asked for in all others too.
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
    /// `takes` says which nodes take pods, now or once they are done, and `is_drained`
    /// which of them are emptied before.
    pub(crate) fn slacks(&self, takes: impl Fn(u32) -> bool, is_drained: &[bool]) -> Vec<Slack> {
        let width = self.usable.width();
        let takes: Vec<bool> = (0..count(self.cells.of_node.len())).map(takes).collect();
        let takes = |node: u32| takes[node as usize];
        let mut pods_of_kind = vec![0u64; self.table.kinds.len()];
        for movable in &self.table.pods {
            let counts = takes(movable.node) && self.leaves(movable);
            pods_of_kind[movable.kind as usize] += u64::from(counts);
        }
        let mut waiting = vec![0u64; pods_of_kind.len()];
        for kind in &self.table.waiting {
            waiting[*kind as usize] += 1;
        }
        let kinds = self.table.kinds.iter().zip(waiting);
        for (sum, (kind, pods)) in pods_of_kind.iter_mut().zip(kinds) {
            // What no node could hold waits for something else than room.
            if pods > 0 && self.holds(*kind, takes) {
                *sum += pods;
            }
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
        let nothing = vec![0u64; width];
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
            for &node in &nodes {
                let offered = self.leavable.row(node).iter();
                // Pods that end make way where their node is drained.
                let kept = match is_drained[node as usize] {
                    true => &nothing[..],
                    false => self.ending.row(node),
                };
                for ((sum, offer), kept) in slack.iter_mut().zip(offered).zip(kept) {
                    *sum = sum.saturating_add(offer.saturating_sub(*kept));
                }
            }
            for (left, asked) in slack.iter_mut().zip(demand) {
                *left = left.saturating_sub(asked);
            }
            Slack { nodes, slack }
        };
        let looked_at = sets.iter().take(SETS);
        looked_at.map(|(cells, _)| slack(cells)).collect()
    }

    /// Whether some node that takes pods could hold one of `kind`, if it were empty.
    fn holds(&self, kind: Kind, takes: impl Fn(u32) -> bool) -> bool {
        let holds = |node: &u32| takes(*node) && self.table.fits(kind, *node);
        match &self.cells.access[kind.class as usize] {
            Access::Cells(cells) => {
                let mut nodes = cells
                    .iter()
                    .flat_map(|cell| &self.cells.nodes[*cell as usize]);
                nodes.any(holds)
            }
            Access::Nodes(nodes) => nodes.iter().any(holds),
        }
    }

    /// All cells of the pools that have one of `cells`.
    fn closure(&self, cells: &[u32]) -> Vec<u32> {
        let pool = |cell: &u32| self.cells.pools[*cell as usize];
        let pools: BTreeSet<u32> = cells.iter().map(pool).collect();
        let all = 0..count(self.cells.pools.len());
        all.filter(|cell| pools.contains(&pool(cell))).collect()
    }

    /// What `set` has of `resource` to spare, if that is too little for as many of its nodes
    /// to be away as the pools' widths say, whichever those are.
    pub(crate) fn scarce(
        &self,
        set: &Slack,
        resource: usize,
        pools: &PoolsAway<'_>,
    ) -> Option<Scarcity> {
        let slack = set.slack[resource];
        // By pool: how many nodes it has, and the largest offer. Where there is plenty,
        // all fits even if each node offered as much.
        let mut most = vec![(0u64, 0u64); pools.widths.len()];
        for &node in &set.nodes {
            if let Some((nodes, largest)) = most.get_mut(pools.of[node as usize] as usize) {
                *nodes += 1;
                *largest = self.leavable.row(node)[resource].max(*largest);
            }
        }
        let away = most.into_iter().zip(pools.widths);
        let away = away.map(|((nodes, largest), width)| {
            let nodes = nodes.min((*width).into());
            largest.saturating_mul(nodes)
        });
        if sum(away) <= slack {
            return None;
        }
        // By pool: what each node offers, and whether it is drained.
        let mut offers: BTreeMap<u32, Vec<(u64, bool)>> = BTreeMap::new();
        for &node in &set.nodes {
            let at = node as usize;
            let offer = (self.leavable.row(node)[resource], pools.is_drained[at]);
            offers.entry(pools.of[at]).or_default().push(offer);
        }
        let mut scarcity = Scarcity::default();
        let mut away = 0u64;
        for (pool, mut all) in offers {
            if !all.iter().any(|(_, is_drained)| *is_drained) {
                continue;
            }
            all.sort_unstable_by(|a, b| b.cmp(a));
            let (width, reserve) = (pools.widths[pool as usize], pools.reserves[pool as usize]);
            // Any of them may fail, and those that fail are no more than that.
            let (failed, others) = all.split_at(all.len().min(reserve as usize));
            let kept = sum(failed.iter().map(|(offer, _)| *offer));
            let beside = drained(others).take(width.saturating_sub(reserve) as usize);
            away = away.saturating_add(kept).saturating_add(sum(beside));
            scarcity.kept = scarcity.kept.saturating_add(kept);
            scarcity.offers.insert(pool, drained(&all).collect());
        }
        (away > slack).then_some(scarcity)
    }

    /// How resource `at` is called.
    pub(crate) fn resource(&self, at: usize) -> &str {
        self.dimensions.name(at)
    }
}

/// Which nodes may be away.
#[derive(Debug)]
pub(crate) struct PoolsAway<'r> {
    /// By node: its pool.
    pub(crate) of: &'r [u32],
    /// By node: it is drained beside others of its pool.
    pub(crate) is_drained: &'r [bool],
    /// By pool: how many of its nodes may be away.
    pub(crate) widths: &'r [u32],
    /// By pool: for how many of these that fail there is to be room.
    pub(crate) reserves: &'r [u32],
}

/// Room that is too little for all that may be away.
#[derive(Debug, Default)]
pub(crate) struct Scarcity {
    /// By pool: what its nodes that are drained offer, the largest first.
    pub(crate) offers: BTreeMap<u32, Vec<u64>>,
    /// What is kept for those that fail: what the largest nodes of each pool offer.
    pub(crate) kept: u64,
}

/// What those offer that are drained.
fn drained(offers: &[(u64, bool)]) -> impl Iterator<Item = u64> {
    let drained = offers.iter().filter(|(_, is_drained)| *is_drained);
    drained.map(|(offer, _)| *offer)
}

pub(crate) fn sum(amounts: impl Iterator<Item = u64>) -> u64 {
    amounts.fold(0, u64::saturating_add)
}

fn add(sum: &mut [u64], more: &[u64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}
