//! Where pods go while nodes are drained one after the other.

use std::collections::BTreeMap;

use super::NONE;
use super::cells::Access;
use super::home::{Tried, ranks};
use super::pods::{Kind, Landscape, count};
use super::room::{Ask, Room, Search, Tier};
use super::rules::Rules;
use super::stands::{Leaving, Mark, Stands};

/// A node is away from the begin of its drain until it is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) node: u32,
    /// In whole milliseconds from the start.
    pub(crate) close: u64,
    /// [`u64::MAX`] for one that does not come back.
    pub(crate) open: u64,
    /// A replacement that is alike stands in for it from the begin of its drain on.
    pub(crate) is_replaced: bool,
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
    pub(super) room: Room,
    pub(super) rules: Rules,
    stands: Stands,
    /// By kind: smaller goes first within a node.
    ranks: Vec<u32>,
    /// By rank.
    kinds: Vec<u32>,
    /// By pod.
    marks: Vec<Mark>,
    /// By kind.
    asks: Vec<Ask<'l>>,
    /// By kind.
    pub(super) tried: Vec<Tried>,
    /// Nodes in the order in which they settled.
    pub(super) settled: Vec<u32>,
    /// Pods without a home by rank and kind, the first that came first.
    waiting: BTreeMap<(u32, u32), Vec<u32>>,
    moves: Moves,
    keeps_hops: bool,
    batch: Vec<Leaving>,
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
            .filter(|stop| stop.open < u64::MAX && !stop.is_replaced)
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
                run.drain(stop, now);
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
        let (kinds, ranks) = ranks(land, &room);
        let stands = Stands::new(&table.pods, &ranks, nodes);
        let marks: Vec<Mark> = table.pods.iter().map(Mark::of).collect();
        let asks = table.kinds.iter().map(|kind| land.requests.row(kind.shape));
        let asks: Vec<Ask<'_>> = asks.map(|request| room.ask(request)).collect();
        for node in 0..count(nodes) {
            let search = |(rank, pod): (u32, u32)| Search {
                ask: asks[kinds[rank as usize] as usize],
                bit: marks[pod as usize].bit(),
            };
            room.fill(node, stands.first_on(node).map(search));
        }
        let mut stops_at = vec![false; nodes];
        for stop in stops {
            stops_at[stop.node as usize] = true;
        }
        for node in 0..count(nodes) {
            room.take_closed(node, land.ending.row(node));
            if available(node) {
                let tier = match stops_at[node as usize] {
                    true => Tier::Unsettled,
                    false => Tier::Settled,
                };
                room.open(node, tier);
            }
        }
        Self {
            stands,
            ranks,
            kinds,
            marks,
            asks,
            land,
            room,
            rules: land.rules.clone(),
            tried: vec![Tried::default(); table.kinds.len()],
            settled: Vec::with_capacity(stops.len()),
            waiting: BTreeMap::new(),
            moves: Moves::default(),
            keeps_hops,
            batch: Vec::new(),
        }
    }

    /// Moves all pods off a node, which is closed: those that few nodes admit first, then the
    /// largest first. Its replacement has its number, and is open before.
    fn drain(&mut self, stop: &Stop, now: u64) {
        let node = stop.node;
        let mut batch = std::mem::take(&mut self.batch);
        let pods = &self.land.table.pods;
        self.stands.leave(node, pods, &self.ranks, &mut batch);
        self.room.empty(node, self.land.usable.row(node));
        if stop.is_replaced {
            self.room.open(node, Tier::Settled);
            self.settled.push(node);
        }
        let first = batch.iter().filter(|leaving| leaving.is_first).count() as u64;
        self.moves.evictions += batch.len() as u64;
        self.moves.pods += first;
        self.moves.least += first;
        for leaving in batch.drain(..) {
            self.evict(leaving, stop, now);
        }
        self.batch = batch;
        if stop.is_replaced {
            self.seat_waiting(node, now);
        }
    }

    fn evict(&mut self, leaving: Leaving, stop: &Stop, now: u64) {
        let node = stop.node;
        let Leaving {
            rank,
            pod,
            is_first,
        } = leaving;
        let mark = self.marks[pod as usize];
        let id = self.kinds[rank as usize];
        let kind = self.land.table.kinds[id as usize];
        if kind.rules != NONE {
            self.rules.remove(kind.rules, node);
        }
        if mark.is_bare() {
            self.stands.nowhere(pod);
            return;
        }
        if !stop.is_replaced && !self.land.cells.admits_others(kind.class, node) {
            // It comes back with its node.
            self.rules.add(kind.rules, node);
            let request = self.land.requests.row(kind.shape);
            self.room.take_closed(node, request);
            self.room.host(node, mark.bit());
            self.stands.put(pod, node);
            return;
        }
        let origin = match is_first {
            true => node,
            false => self.land.table.pods[pod as usize].node,
        };
        let search = Search {
            ask: self.asks[id as usize],
            bit: mark.bit(),
        };
        match self.home(id, &search, origin) {
            Some((to, tier)) => {
                if is_first && tier == Tier::Unsettled && !self.has_settled(kind.class) {
                    self.moves.least += 1;
                }
                let hop = Hop {
                    pod,
                    from: node,
                    to,
                    at: now,
                };
                self.settle(hop, kind, &search);
            }
            None => {
                self.stands.nowhere(pod);
                let key = (rank, id);
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
        self.seat_waiting(node, now);
    }

    /// Gives what room `node` has to those that wait for some.
    fn seat_waiting(&mut self, node: u32, now: u64) {
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
                let search = Search {
                    ask: self.asks[movable.kind as usize],
                    bit: Mark::of(&movable).bit(),
                };
                let fits = self.land.cells.admits(kind.class, node)
                    && self.room.fits(node, &search.ask)
                    && self.rules.allow(kind.rules, node);
                if !fits {
                    break;
                }
                self.moves.homeless[at as usize].until = now;
                let hop = Hop {
                    pod,
                    from,
                    to: node,
                    at: now,
                };
                self.settle(hop, kind, &search);
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
        for (movable, node) in table.pods.iter().zip(self.stands.nodes()) {
            let stand = after.get_mut(movable.workload as usize);
            if let Some(stand) = stand.filter(|_| *node != NONE) {
                stand.add(*node);
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

    fn settle(&mut self, hop: Hop, kind: Kind, search: &Search<'_>) {
        self.room.take(hop.to, search);
        if kind.rules != NONE {
            self.rules.add(kind.rules, hop.to);
        }
        self.stands.put(hop.pod, hop.to);
        if self.keeps_hops {
            self.moves.hops.push(hop);
        }
    }
}
