//! Which pods stand on which node.
//!
//! Most pods move once, in the order of nodes and not in their own. So what a drain
//! has to know of those that were there from the start lies node by node, and what
//! it looks up of each is a byte.

use std::ops::Range;

use super::NONE;
use super::pods::Movable;

/// A pod that has to leave a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// Of its kind: smaller goes first within a node.
    pub(super) rank: u32,
    pub(super) pod: u32,
    /// It has stood there from the start.
    pub(super) is_first: bool,
}

/// What a drain has to know of a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u8);

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Stands {
    /// As all stood at the start, node by node: the rank of each, then the pod.
    first: Vec<u64>,
    /// By node, which part of `first` is still there.
    rows: Vec<Range<u32>>,
    /// By node: the last that came, in `came`.
    heads: Vec<u32>,
    /// A pod that came to a node, and which came there before it.
    came: Vec<(u32, u32)>,
    /// By pod: where it is, [`NONE`] if on no node.
    at: Vec<u32>,
    /// Those of the node that is drained which came there later.
    later: Vec<u64>,
}

impl Mark {
    /// As many workloads share a bit as there have to be.
    const BITS: u8 = 63;
    const NO_WORKLOAD: u8 = 1 << 6;
    const BARE: u8 = 1 << 7;

    pub(super) fn of(movable: &Movable) -> Self {
        let workload = match movable.workload {
            NONE => Self::NO_WORKLOAD,
            workload => (workload.wrapping_mul(0x9e37_79b9) >> 26) as u8,
        };
        let bare = if movable.is_bare { Self::BARE } else { 0 };
        Self(workload | bare)
    }

    /// Nothing starts it again.
    pub(super) fn is_bare(self) -> bool {
        self.0 & Self::BARE != 0
    }

    /// The bit of its workload, if it has one.
    pub(super) fn bit(self) -> u64 {
        u64::from(self.0 & Self::NO_WORKLOAD == 0) << (self.0 & Self::BITS)
    }
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
        let mut first = vec![0; pods.len()];
        for (pod, movable) in (0..).zip(pods) {
            let end = &mut rows[movable.node as usize].end;
            first[*end as usize] = key(ranks[movable.kind as usize], pod);
            *end += 1;
        }
        Self {
            first,
            rows,
            heads: vec![NONE; nodes],
            came: Vec::new(),
            at: pods.iter().map(|movable| movable.node).collect(),
            later: Vec::new(),
        }
    }

    /// Those that have been on `node` from the start: the rank and number of each.
    pub(super) fn first_on(&self, node: u32) -> impl Iterator<Item = (u32, u32)> {
        let row = &self.rows[node as usize];
        let row = &self.first[row.start as usize..row.end as usize];
        row.iter().map(|key| parts(*key))
    }

    /// Puts all pods of `node` into `leaving`, in the order in which they go. They are
    /// there no more: who does not [put](Self::put) one elsewhere says so
    /// ([`nowhere`](Self::nowhere)).
    pub(super) fn leave(
        &mut self,
        node: u32,
        pods: &[Movable],
        ranks: &[u32],
        leaving: &mut Vec<Leaving>,
    ) {
        let row = std::mem::take(&mut self.rows[node as usize]);
        let first = &mut self.first[row.start as usize..row.end as usize];
        first.sort_unstable();
        self.later.clear();
        let mut head = std::mem::replace(&mut self.heads[node as usize], NONE);
        while let Some(&(pod, next)) = self.came.get(head as usize) {
            let rank = ranks[pods[pod as usize].kind as usize];
            self.later.push(key(rank, pod));
            head = next;
        }
        self.later.sort_unstable();
        let mut later = self.later.iter().peekable();
        let one = |key: u64, is_first: bool| {
            let (rank, pod) = parts(key);
            Leaving {
                rank,
                pod,
                is_first,
            }
        };
        for &mut first in first {
            while let Some(key) = later.next_if(|later| **later < first) {
                leaving.push(one(*key, false));
            }
            leaving.push(one(first, true));
        }
        leaving.extend(later.map(|key| one(*key, false)));
    }

    /// `pod` is on no node.
    pub(super) fn nowhere(&mut self, pod: u32) {
        self.at[pod as usize] = NONE;
    }

    /// `pod` is on `node`.
    pub(super) fn put(&mut self, pod: u32, node: u32) {
        let came = u32::try_from(self.came.len()).unwrap_or(NONE);
        let next = std::mem::replace(&mut self.heads[node as usize], came);
        self.came.push((pod, next));
        self.at[pod as usize] = node;
    }

    /// By pod: where it is, [`NONE`] if on no node.
    pub(super) fn nodes(&self) -> &[u32] {
        &self.at
    }
}

fn key(rank: u32, pod: u32) -> u64 {
    u64::from(rank) << 32 | u64::from(pod)
}

fn parts(key: u64) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}
