//! The node that a pod goes to.

use super::NONE;
use super::cells::Access;
use super::pods::{Landscape, count};
use super::room::{Room, Search, Tier};
use super::run::Run;

/// Where pods of a kind have been looked for room for in vain. Only what settles
/// afterwards can have any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    /// On all nodes that settled before this one of the order of settling, and on
    /// all that were settled at the start.
    pub(super) settled: Option<u32>,
    /// On all others.
    pub(super) unsettled: bool,
}

impl Run<'_, '_> {
    /// The node that a pod of kind `id`, which was on node `origin` at the start, goes
    /// to: one that settled, else one that will be drained, in which case it moves
    /// again.
    pub(super) fn home(
        &mut self,
        id: u32,
        search: &Search<'_>,
        origin: u32,
    ) -> Option<(u32, Tier)> {
        let kind = self.land.table.kinds[id as usize];
        let cell = self.land.cells.of_node[origin as usize];
        for tier in [Tier::Settled, Tier::Unsettled] {
            let found = match &self.land.cells.access[kind.class as usize] {
                Access::Nodes(nodes) => {
                    let allows = |node| self.rules.allow(kind.rules, node);
                    self.room.among(tier, nodes, search, allows)
                }
                Access::Cells(cells) if kind.rules == NONE => {
                    self.in_cells(tier, cells, cell, id, search)
                }
                Access::Cells(cells) => {
                    let allows = |node| self.rules.allow(kind.rules, node);
                    let order = || from_own(cells, cell);
                    let likely =
                        order().find_map(|cell| self.room.likely(tier, cell, search, allows));
                    let any = || order().find_map(|cell| self.room.any(tier, cell, search, allows));
                    likely.or_else(any)
                }
            };
            if let Some(node) = found {
                return Some((node, tier));
            }
        }
        None
    }

    /// Without rules about other pods: in the cell where the pod stood at the start, if
    /// that may be, then in the others.
    fn in_cells(
        &mut self,
        tier: Tier,
        cells: &[u32],
        own: u32,
        kind: u32,
        search: &Search<'_>,
    ) -> Option<u32> {
        // Room on nodes that stay open only becomes less, so what has been
        // looked for everywhere is looked for on newly opened nodes alone.
        let tried = self.tried[kind as usize];
        let is_hopeless = match tier {
            Tier::Settled => tried.settled == Some(count(self.settled.len())),
            Tier::Unsettled => tried.unsettled,
        };
        if is_hopeless {
            return None;
        }
        let mut order = from_own(cells, own);
        let likely = order.find_map(|cell| self.room.likely(tier, cell, search, |_| true));
        if likely.is_some() {
            return likely;
        }
        if let (Tier::Settled, Some(from)) = (tier, tried.settled) {
            let newer = &self.settled[from as usize..];
            let fits = |node: &u32| {
                let cell = self.land.cells.of_node[*node as usize];
                self.room.fits(*node, &search.ask) && cells.binary_search(&cell).is_ok()
            };
            let at = newer.iter().position(fits);
            let past = at.unwrap_or(newer.len());
            let found = at.map(|at| newer[at]);
            self.tried[kind as usize].settled = Some(from + count(past));
            return found;
        }
        let mut order = from_own(cells, own);
        let any = order.find_map(|cell| self.room.any(tier, cell, search, |_| true));
        if any.is_none() {
            match tier {
                Tier::Settled => {
                    let settled = count(self.settled.len());
                    self.tried[kind as usize].settled = Some(settled);
                }
                Tier::Unsettled => self.tried[kind as usize].unsettled = true,
            }
        }
        any
    }
}

/// All of `cells`, which are in order: from `own` on, if it is one of them.
fn from_own(cells: &[u32], own: u32) -> impl Iterator<Item = u32> {
    let start = cells.binary_search(&own).unwrap_or(0);
    cells[start..].iter().chain(&cells[..start]).copied()
}

/// In which order kinds go, and the rank of each in it: those that fewer nodes admit
/// first, then the largest.
pub(super) fn ranks(land: &Landscape<'_>, room: &Room) -> (Vec<u32>, Vec<u32>) {
    let kinds = &land.table.kinds;
    let nodes_for = |class: u32| match &land.cells.access[class as usize] {
        Access::Nodes(nodes) => nodes.len(),
        Access::Cells(cells) => {
            let cells = cells.iter();
            cells
                .map(|cell| land.cells.nodes[*cell as usize].len())
                .sum()
        }
    };
    let by_class: Vec<usize> = (0..count(land.cells.access.len())).map(nodes_for).collect();
    let key = |kind: u32| {
        let of_kind = kinds[kind as usize];
        let size = room.size(land.requests.row(of_kind.shape));
        let is_free = of_kind.rules == NONE;
        (
            by_class[of_kind.class as usize],
            is_free,
            u32::MAX - size,
            kind,
        )
    };
    let mut order: Vec<u32> = (0..count(kinds.len())).collect();
    order.sort_by_cached_key(|kind| key(*kind));
    let mut ranks = vec![0; kinds.len()];
    for (rank, kind) in (0..).zip(&order) {
        ranks[*kind as usize] = rank;
    }
    (order, ranks)
}
