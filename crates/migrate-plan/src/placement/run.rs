//! Where pods go while nodes are drained one after the other.

use std::collections::BTreeMap;

use super::NONE;
use super::cells::Access;
use super::home::{Tried, ranks};
use super::pods::{Landscape, Movable, count};
use super::room::{Room, Tier};
use super::rules::Rules;

/// A node is away from the begin of its drain until it is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) node: u32,
    /// In whole milliseconds from the start.
    pub(crate) close: u64,
    /// [`u64::MAX`] for one that does not come back.
    pub(crate) open: u64,
}

/// What becomes of pods.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Pods that are evicted, each counted once.
    pub(crate) pods: u64,
    /// Evictions.
    pub(crate) evictions: u64,
    /// Evictions that no placement does without.
    pub(crate) least: u64,
    /// Pods that had no room at once.
    pub(crate) homeless: Vec<Homeless>,
    /// Every new home, in the order of moves.
    pub(crate) hops: Vec<Hop>,
    /// Workloads that stood on several nodes and end on one.
    pub(crate) crowded: Vec<u32>,
}

/// A pod that waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Homeless {
    pub(crate) pod: u32,
    pub(crate) from: u32,
    pub(crate) since: u64,
    /// [`u64::MAX`] if it never finds any.
    pub(crate) until: u64,
}

/// A pod that goes to another node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hop {
    pub(crate) pod: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) at: u64,
}

/// The cluster while it is drained.
pub(super) struct Run<'l, 'm> {
    pub(super) land: &'l Landscape<'m>,
    pub(super) room: Room<'l>,
    pub(super) rules: Rules,
    /// By pod: the next one on its node.
    next: Vec<u32>,
    /// By node: the first pod there that moves.
    heads: Vec<u32>,
    /// By kind: smaller goes first within a node.
    ranks: Vec<u32>,
    /// By kind.
    pub(super) tried: Vec<Tried>,
    /// Nodes in the order in which they settled.
    pub(super) settled: Vec<u32>,
    moved: Vec<bool>,
    /// Pods without a home by rank and kind, the first that came first.
    waiting: BTreeMap<(u32, u32), Vec<u32>>,
    moves: Moves,
    keeps_hops: bool,
    batch: Vec<u64>,
}

/// Where the pods of a workload are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stand {
    Nowhere,
    One(u32),
    Apart,
}

impl Stand {
    fn add(&mut self, node: u32) {
        *self = match *self {
            Self::Nowhere => Self::One(node),
            Self::One(other) if other == node => *self,
            _ => Self::Apart,
        };
    }
}

impl Landscape<'_> {
    /// Carries out `stops`, which are in the order of their closes. `available`
    /// says which nodes take pods at the start.
    pub(crate) fn run(
        &self,
        stops: &[Stop],
        available: impl Fn(u32) -> bool,
        keeps_hops: bool,
    ) -> Moves {
        let mut run = Run::new(self, stops, available, keeps_hops);
        let mut opens: Vec<(u64, u32)> = (stops.iter())
            .filter(|stop| stop.open < u64::MAX)
            .map(|stop| (stop.open, stop.node))
            .collect();
        opens.sort_unstable();
        let mut opens = opens.into_iter().peekable();
        for together in stops.chunk_by(|a, b| a.close == b.close) {
            let now = together.first().map_or(0, |stop| stop.close);
            while let Some((at, node)) = opens.next_if(|(at, _)| *at <= now) {
                run.open(node, at);
            }
            // None of them takes pods of another.
            for stop in together {
                run.room.close(stop.node);
            }
            for stop in together {
                run.drain(stop.node, now);
            }
        }
        for (at, node) in opens {
            run.open(node, at);
        }
        run.moves.crowded = run.crowded();
        run.moves
    }
}

impl<'l, 'm> Run<'l, 'm> {
    fn new(
        land: &'l Landscape<'m>,
        stops: &[Stop],
        available: impl Fn(u32) -> bool,
        keeps_hops: bool,
    ) -> Self {
        let table = &land.table;
        let nodes = land.cells.of_node.len();
        let mut room = Room::new(&land.usable, &land.cells.of_node, land.cells.nodes.len());
        let mut next = vec![NONE; table.pods.len()];
        let mut heads = vec![NONE; nodes];
        for pod in (0..count(table.pods.len())).rev() {
            let movable = &table.pods[pod as usize];
            let head = &mut heads[movable.node as usize];
            next[pod as usize] = std::mem::replace(head, pod);
            let request = land.requests.row(table.kinds[movable.kind as usize].shape);
            room.free.take(movable.node, request);
            room.hosted[movable.node as usize] |= bit_of(movable);
        }
        let mut stops_at = vec![false; nodes];
        for stop in stops {
            stops_at[stop.node as usize] = true;
        }
        for node in 0..count(nodes) {
            room.free.take(node, land.ending.row(node));
            if available(node) {
                let tier = match stops_at[node as usize] {
                    true => Tier::Unsettled,
                    false => Tier::Settled,
                };
                room.open(node, tier);
            }
        }
        Self {
            ranks: ranks(land, &room),
            land,
            room,
            rules: land.rules.clone(),
            next,
            heads,
            tried: vec![Tried::default(); table.kinds.len()],
            settled: Vec::with_capacity(stops.len()),
            moved: vec![false; table.pods.len()],
            waiting: BTreeMap::new(),
            moves: Moves::default(),
            keeps_hops,
            batch: Vec::new(),
        }
    }

    /// Moves all pods off `node`, which is closed: those that few nodes admit first, then the
    /// largest first.
    fn drain(&mut self, node: u32, now: u64) {
        let mut batch = std::mem::take(&mut self.batch);
        let mut pod = std::mem::replace(&mut self.heads[node as usize], NONE);
        while pod != NONE {
            let kind = self.land.table.pods[pod as usize].kind;
            batch.push(u64::from(self.ranks[kind as usize]) << 32 | u64::from(pod));
            pod = std::mem::replace(&mut self.next[pod as usize], NONE);
        }
        batch.sort_unstable();
        self.room.free.set(node, self.land.usable.row(node));
        self.room.hosted[node as usize] = 0;
        for key in batch.drain(..) {
            let pod = (key & u64::from(u32::MAX)) as u32;
            self.evict(pod, node, now);
        }
        self.batch = batch;
    }

    fn evict(&mut self, pod: u32, node: u32, now: u64) {
        let movable = self.land.table.pods[pod as usize];
        let kind = self.land.table.kinds[movable.kind as usize];
        self.moves.evictions += 1;
        let is_first = !std::mem::replace(&mut self.moved[pod as usize], true);
        self.moves.pods += u64::from(is_first);
        self.moves.least += u64::from(is_first);
        self.rules.remove(kind.rules, node);
        if movable.is_bare {
            return;
        }
        if !self.land.cells.admits_others(kind.class, node) {
            // It comes back with its node.
            self.rules.add(kind.rules, node);
            let request = self.land.requests.row(kind.shape);
            self.room.free.take(node, request);
            self.room.hosted[node as usize] |= bit_of(&movable);
            self.put(pod, node);
            return;
        }
        match self.home(movable) {
            Some((to, tier)) => {
                if is_first && tier == Tier::Unsettled && !self.has_settled(kind.class) {
                    self.moves.least += 1;
                }
                self.settle(Hop {
                    pod,
                    from: node,
                    to,
                    at: now,
                });
            }
            None => {
                let key = (self.ranks[movable.kind as usize], movable.kind);
                let at = count(self.moves.homeless.len());
                self.moves.homeless.push(Homeless {
                    pod,
                    from: node,
                    since: now,
                    until: u64::MAX,
                });
                self.waiting.entry(key).or_default().push(at);
            }
        }
    }

    /// `node` is verified and takes pods: first those that wait.
    fn open(&mut self, node: u32, now: u64) {
        self.room.open(node, Tier::Settled);
        self.settled.push(node);
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        for pods in waiting.values_mut() {
            let mut placed = 0;
            for &at in pods.iter() {
                let Homeless { pod, from, .. } = self.moves.homeless[at as usize];
                let movable = self.land.table.pods[pod as usize];
                let kind = self.land.table.kinds[movable.kind as usize];
                let request = self.land.requests.row(kind.shape);
                let fits = self.admits(kind.class, node)
                    && self.room.free.fits(node, request)
                    && self.rules.allow(kind.rules, node);
                if !fits {
                    break;
                }
                self.moves.homeless[at as usize].until = now;
                self.settle(Hop {
                    pod,
                    from,
                    to: node,
                    at: now,
                });
                placed += 1;
            }
            pods.drain(..placed);
        }
        waiting.retain(|_, pods| !pods.is_empty());
        self.waiting = waiting;
    }

    /// Workloads of which two or more pods stood on several nodes and all stand on
    /// one, though others may host them.
    fn crowded(&self) -> Vec<u32> {
        let table = &self.land.table;
        let mut before = vec![Stand::Nowhere; table.workloads.len()];
        let mut after = before.clone();
        for movable in &table.pods {
            if let Some(stand) = before.get_mut(movable.workload as usize) {
                stand.add(movable.node);
            }
        }
        for (node, head) in (0..).zip(&self.heads) {
            let mut pod = *head;
            while pod != NONE {
                let workload = table.pods[pod as usize].workload;
                if let Some(stand) = after.get_mut(workload as usize) {
                    stand.add(node);
                }
                pod = self.next[pod as usize];
            }
        }
        // One that waits for room has been on its way, not crowded.
        for pod in self.waiting.values().flatten() {
            let pod = self.moves.homeless[*pod as usize].pod;
            let workload = table.pods[pod as usize].workload;
            if let Some(stand) = after.get_mut(workload as usize) {
                *stand = Stand::Apart;
            }
        }
        let both = before.iter().zip(&after);
        let crowded = (0..).zip(both).filter(|(_, (before, after))| {
            **before == Stand::Apart && matches!(after, Stand::One(_))
        });
        crowded.map(|(workload, _)| workload).collect()
    }

    fn admits(&self, class: u32, node: u32) -> bool {
        match &self.land.cells.access[class as usize] {
            Access::Cells(cells) => {
                let cell = self.land.cells.of_node[node as usize];
                cells.binary_search(&cell).is_ok()
            }
            Access::Nodes(nodes) => nodes.binary_search(&node).is_ok(),
        }
    }

    /// Whether a node is open that takes such pods, full or not, and is not
    /// drained any more.
    fn has_settled(&self, class: u32) -> bool {
        match &self.land.cells.access[class as usize] {
            Access::Cells(cells) => {
                let mut cells = cells.iter();
                cells.any(|cell| self.room.has_open(Tier::Settled, *cell))
            }
            Access::Nodes(nodes) => {
                let mut nodes = nodes.iter();
                nodes.any(|node| self.room.tier_of(*node) == Some(Tier::Settled))
            }
        }
    }

    fn settle(&mut self, hop: Hop) {
        let movable = self.land.table.pods[hop.pod as usize];
        let kind = self.land.table.kinds[movable.kind as usize];
        let request = self.land.requests.row(kind.shape);
        self.room.take(hop.to, request, bit_of(&movable));
        self.rules.add(kind.rules, hop.to);
        self.put(hop.pod, hop.to);
        if self.keeps_hops {
            self.moves.hops.push(hop);
        }
    }

    fn put(&mut self, pod: u32, node: u32) {
        let head = std::mem::replace(&mut self.heads[node as usize], pod);
        self.next[pod as usize] = head;
    }
}

pub(super) fn bit_of(movable: &Movable) -> u64 {
    match movable.workload {
        NONE => 0,
        workload => 1 << (workload.wrapping_mul(0x9e37_79b9) >> 26),
    }
}
