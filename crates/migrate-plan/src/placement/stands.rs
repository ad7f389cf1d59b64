//! Which pods stand on which node.
//!
//! Most pods move once, in the order of nodes and not in their own. So what a drain
//! has to know of those that were there from the start lies node by node, and it
//! looks nowhere else for it.

use std::ops::Range;

use super::NONE;
use super::pods::Movable;

/// A pod that has to leave a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// Of its kind: smaller goes first within a node.
    pub(super) rank: u32,
    pub(super) pod: u32,
    /// [`NONE`] for one that belongs to none.
    pub(super) workload: u32,
    /// Nothing starts it again.
    pub(super) is_bare: bool,
    /// It has stood there from the start.
    pub(super) is_first: bool,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Stands {
    /// As all stood at the start, node by node.
    first: Vec<Leaving>,
    /// By node, which part of `first` is still there.
    rows: Vec<Range<u32>>,
    /// By node: the last pod that came.
    heads: Vec<u32>,
    places: Vec<Place>,
}

/// Where a pod is, [`NONE`] if on no node, and which one came there before it.
#[derive(Clone, Copy, Debug)]
struct Place {
    node: u32,
    next: u32,
}

impl Stands {
    pub(super) fn new(pods: &[Movable], ranks: &[u32], nodes: usize) -> Self {
        let mut rows = vec![0..0; nodes];
        for movable in pods {
            rows[movable.node as usize].end += 1;
        }
        let mut before = 0;
        for row in &mut rows {
            let pods = row.end;
            *row = before..before;
            before += pods;
        }
        let nothing = Leaving {
            rank: 0,
            pod: NONE,
            workload: NONE,
            is_bare: false,
            is_first: true,
        };
        let mut first = vec![nothing; pods.len()];
        for (pod, movable) in (0..).zip(pods) {
            let end = &mut rows[movable.node as usize].end;
            first[*end as usize] = Leaving {
                rank: ranks[movable.kind as usize],
                pod,
                workload: movable.workload,
                is_bare: movable.is_bare,
                is_first: true,
            };
            *end += 1;
        }
        let place = |movable: &Movable| Place {
            node: movable.node,
            next: NONE,
        };
        Self {
            first,
            rows,
            heads: vec![NONE; nodes],
            places: pods.iter().map(place).collect(),
        }
    }

    /// Those that have been on `node` from the start.
    pub(super) fn first_on(&self, node: u32) -> &[Leaving] {
        let row = &self.rows[node as usize];
        &self.first[row.start as usize..row.end as usize]
    }

    /// Puts all pods of `node` into `leaving`, in the order in which they go. From
    /// now on they are on no node.
    pub(super) fn leave(
        &mut self,
        node: u32,
        pods: &[Movable],
        ranks: &[u32],
        leaving: &mut Vec<Leaving>,
    ) {
        leaving.extend(self.first_on(node));
        self.rows[node as usize] = 0..0;
        let mut pod = std::mem::replace(&mut self.heads[node as usize], NONE);
        while pod != NONE {
            let movable = &pods[pod as usize];
            leaving.push(Leaving {
                rank: ranks[movable.kind as usize],
                pod,
                workload: movable.workload,
                is_bare: movable.is_bare,
                is_first: false,
            });
            pod = self.places[pod as usize].next;
        }
        for one in leaving.iter() {
            self.places[one.pod as usize].node = NONE;
        }
        leaving.sort_unstable_by_key(|one| (one.rank, one.pod));
    }

    /// `pod`, which was on no node, is on `node`.
    pub(super) fn put(&mut self, pod: u32, node: u32) {
        let next = std::mem::replace(&mut self.heads[node as usize], pod);
        self.places[pod as usize] = Place { node, next };
    }

    /// By pod: where it is, [`NONE`] if on no node.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|place| place.node)
    }
}
