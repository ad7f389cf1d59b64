//! Which budgets count pods of which nodes, by node and by budget.
//!
//! Pods come in the order of the model, mostly budget by budget, so a list of nodes
//! cut into runs holds all there is to sort. What is added up over all pods of a
//! budget reads its own row, and looks up nodes, of which there are few, instead of
//! budgets, of which there are many.

/// Pods of one node that one budget counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Touch {
    pub(crate) budget: u32,
    pub(crate) pods: u32,
}

/// The same, in the row of the budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Share {
    pub(crate) node: u32,
    pub(crate) pods: u32,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Touches {
    /// By node, which part of `touches` is its own; one longer than the nodes.
    node_starts: Vec<u32>,
    touches: Vec<Touch>,
    /// By budget, which part of `shares` is its own; one longer than the budgets.
    budget_starts: Vec<u32>,
    shares: Vec<Share>,
}

/// Nodes of pods, each with the budget that counts the pod.
#[derive(Debug)]
pub(super) struct Pairs {
    nodes: Vec<u32>,
    /// Budgets, and where the nodes of each end.
    runs: Vec<(u32, usize)>,
}

impl Pairs {
    pub(super) fn with_capacity(pods: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(pods),
            runs: Vec::new(),
        }
    }

    /// One more pod on `node` that `budget` counts.
    pub(super) fn push(&mut self, budget: u32, node: u32) {
        self.nodes.push(node);
        let end = self.nodes.len();
        match self.runs.last_mut() {
            Some((last, at)) if *last == budget => *at = end,
            _ => self.runs.push((budget, end)),
        }
    }

    /// Budgets with the nodes of their pods, one at least.
    fn rows(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let mut from = 0;
        let rows = self.runs.iter().map(move |&(budget, end)| {
            let row = &self.nodes[from..end];
            from = end;
            (budget, row)
        });
        rows.filter(|(_, row)| !row.is_empty())
    }

    /// With one run for each budget, the lowest first.
    fn in_order(self, budgets: usize) -> Self {
        if self.runs.is_sorted_by(|a, b| a.0 < b.0) {
            return self;
        }
        let mut ends = vec![0usize; budgets];
        for (budget, row) in self.rows() {
            ends[budget as usize] += row.len();
        }
        let mut before = 0;
        for end in &mut ends {
            before += std::mem::replace(end, before);
        }
        let mut nodes = vec![0; self.nodes.len()];
        for (budget, row) in self.rows() {
            let from = ends[budget as usize];
            ends[budget as usize] += row.len();
            nodes[from..from + row.len()].copy_from_slice(row);
        }
        Self {
            nodes,
            runs: (0..).zip(ends).collect(),
        }
    }
}

/// What was last met on a node.
#[derive(Clone, Copy)]
struct Met {
    budget: u32,
    share: u32,
}

impl Touches {
    /// Of `nodes` nodes and `budgets` budgets. All budgets of `pairs` are lower than
    /// those of the pairs after them.
    pub(super) fn new(nodes: usize, budgets: usize, pairs: [Pairs; 2]) -> Self {
        let pods = pairs.iter().map(|pairs| pairs.nodes.len()).sum();
        let pairs = pairs.map(|pairs| pairs.in_order(budgets));
        let mut shares: Vec<Share> = Vec::with_capacity(pods);
        let mut budget_starts = Vec::with_capacity(budgets + 1);
        budget_starts.push(0);
        let mut node_starts = vec![0u32; nodes + 1];
        let nobody = Met {
            budget: u32::MAX,
            share: 0,
        };
        let mut met = vec![nobody; nodes];
        for (budget, row) in pairs.iter().flat_map(Pairs::rows) {
            budget_starts.resize(budget as usize + 1, size(shares.len()));
            for &node in row {
                let met = &mut met[node as usize];
                if met.budget == budget {
                    shares[met.share as usize].pods += 1;
                    continue;
                }
                *met = Met {
                    budget,
                    share: size(shares.len()),
                };
                node_starts[node as usize + 1] += 1;
                shares.push(Share { node, pods: 1 });
            }
        }
        drop(pairs);
        budget_starts.resize(budgets + 1, size(shares.len()));
        for node in 0..nodes {
            node_starts[node + 1] += node_starts[node];
        }
        let nothing = Touch { budget: 0, pods: 0 };
        let mut touches = vec![nothing; shares.len()];
        let mut next = node_starts.clone();
        for (budget, row) in (0..).zip(budget_starts.windows(2)) {
            for &Share { node, pods } in &shares[row[0] as usize..row[1] as usize] {
                let place = &mut next[node as usize];
                touches[*place as usize] = Touch { budget, pods };
                *place += 1;
            }
        }
        Self {
            node_starts,
            touches,
            budget_starts,
            shares,
        }
    }

    /// Of one node, by budget.
    pub(super) fn of_node(&self, node: u32) -> &[Touch] {
        let node = node as usize;
        &self.touches[self.node_starts[node] as usize..self.node_starts[node + 1] as usize]
    }

    /// Of one budget, in no particular order.
    pub(super) fn of_budget(&self, budget: usize) -> &[Share] {
        &self.shares[self.budget_starts[budget] as usize..self.budget_starts[budget + 1] as usize]
    }
}

fn size(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In whatever order pods come: both ways round it is what a map would hold.
        #[test]
        fn rows_hold_what_was_told(
            told in prop::collection::vec((0..7u32, 0..5u32), 0..60),
            split in 0..8u32,
        ) {
            let mut counts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
            let mut pairs = [Pairs::with_capacity(0), Pairs::with_capacity(9)];
            for (budget, node) in told {
                *counts.entry((node, budget)).or_default() += 1;
                pairs[usize::from(budget >= split)].push(budget, node);
            }
            let touches = Touches::new(5, 7, pairs);
            let by_node = (0..5).flat_map(|node| {
                let row = touches.of_node(node).iter();
                row.map(move |touch| ((node, touch.budget), touch.pods))
            });
            prop_assert!(by_node.eq(counts.iter().map(|(key, pods)| (*key, *pods))));
            let by_budget = (0..7u32).flat_map(|budget| {
                let row = touches.of_budget(budget as usize).iter();
                row.map(move |share| ((share.node, budget), share.pods))
            });
            let by_budget: BTreeMap<_, _> = by_budget.collect();
            prop_assert_eq!(by_budget, counts);
        }
    }
}
