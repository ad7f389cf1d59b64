//! Pods that no other node takes, whatever else is there.
//!
//! The run says that a pod finds no room as things go. Here is what can be proven of it
//! from requests alone: with all other nodes there, also those that are away now, and
//! with the pods moved about among them in any way.
//!
//! ```text
//! alone   q > C of each other node that admits it
//! sum     Σ q of all pods that cannot leave these nodes  >  Σ C of the others
//! count   how many of them ask for q or more             >  Σ ⌊C / q⌋ of the others
//! ```
//!
//! with *q* what it asks for of a resource and *C* what a node offers, less what stays there
//! or comes back with it. Whichever holds, no drain of its node ends. It is enough and not
//! necessary: of pods that cannot be cut much more may be impossible. Only pods count that a
//! drain waits for, which are healthy ones of a workload, and that none of those in question
//! could take the place of by its priority.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use migrate_core::Pod;

use super::amounts::Amounts;
use super::cells::Access;
use super::pods::{Landscape, Movable};
use super::run::Homeless;

/// How many kinds of pods are looked at: those that most often find no room.
const KINDS: usize = 64;

/// Why a pod fits no node but its own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stuck {
    /// It asks for `asked` of a resource, and no other node that admits it has more than
    /// `most` for it, with nothing else there.
    Large {
        resource: usize,
        asked: u64,
        most: u64,
    },
    /// The same, of no single resource: who has enough of one has too little of another.
    Uneven,
    /// All pods that are tied to these nodes ask for `missing` more of a resource than the
    /// others have.
    Sum { resource: usize, missing: u64 },
    /// So many pods that are tied to these nodes ask for as much of a resource, and the
    /// others have places for so many.
    Count {
        resource: usize,
        pods: u64,
        places: u64,
    },
}

/// What is known of all nodes and pods.
struct Ground {
    /// By node.
    offers: Amounts,
    /// By kind: its pods that leave and count, but for those of nodes which would not take all
    /// that stands on them: these ask for more of the others than they take of their own.
    pods: Vec<u64>,
}

/// What is known of the nodes that admit a kind of pods.
#[derive(Default)]
struct Reach {
    /// The first of those that have room for one, two at most.
    roomy: Vec<u32>,
    /// By resource.
    scarcity: Vec<Scarcity>,
}

/// Of one resource.
#[derive(Clone, Copy, Default)]
struct Scarcity {
    /// The most that a node has, which, and the most that any other has.
    most: (u64, u32),
    second: u64,
    /// What all nodes offer, and what the pods ask for that are tied to them.
    offered: u64,
    asked: u64,
    /// Of these pods, those that ask for as much as this kind, and places for such.
    pods: u64,
    places: u64,
}

impl Landscape<'_> {
    /// Of each of `homeless` why no other node ever takes it, where that is proven.
    pub(crate) fn stuck(&self, homeless: &[Homeless]) -> Vec<Option<Stuck>> {
        if homeless.is_empty() {
            return Vec::new();
        }
        let kind_of = |one: &Homeless| self.table.pods[one.pod as usize].kind;
        let awaited = |one: &Homeless| self.awaited(&self.table.pods[one.pod as usize]);
        let Some(priority) = homeless.iter().filter_map(awaited).max() else {
            return vec![None; homeless.len()];
        };
        let mut times: BTreeMap<u32, usize> = BTreeMap::new();
        for one in homeless {
            *times.entry(kind_of(one)).or_default() += 1;
        }
        let mut kinds: Vec<(u32, usize)> = times.into_iter().collect();
        kinds.sort_by_key(|(kind, times)| (Reverse(*times), *kind));
        kinds.truncate(KINDS);
        let ground = self.ground(priority);
        let reaches = kinds.iter();
        let reaches = reaches.map(|(kind, _)| (*kind, self.reach(*kind, &ground)));
        let reaches: BTreeMap<u32, Option<Reach>> = reaches.collect();
        let nothing = vec![0; self.usable.width()];
        let why = |one: &Homeless| {
            let kind = kind_of(one);
            let class = self.table.kinds[kind as usize].class;
            // It may stand where it would not be put any more.
            let own = match self.cells.admits(class, one.from) {
                true => ground.offers.row(one.from),
                false => &nothing,
            };
            awaited(one)?;
            let reach = reaches.get(&kind)?.as_ref()?;
            reach.why(one.from, own, self.request(kind))
        };
        homeless.iter().map(why).collect()
    }

    /// The priority of a pod that a drain waits for the replacement of.
    fn awaited(&self, pod: &Movable) -> Option<i32> {
        let pod = self.source(pod)?;
        (pod.workload.is_some() && pod.is_healthy()).then_some(pod.priority)
    }

    fn source(&self, pod: &Movable) -> Option<&Pod> {
        self.table.model.pods.get(pod.source as usize)
    }

    /// With the pods of `priority` at least.
    fn ground(&self, priority: i32) -> Ground {
        let mut offers = self.usable.clone();
        let mut left = self.usable.clone();
        let mut is_over = vec![false; self.cells.of_node.len()];
        for pod in &self.table.pods {
            let request = self.request(pod.kind);
            is_over[pod.node as usize] |= !left.fits(pod.node, request);
            left.take(pod.node, request);
            let stays = self.source(pod).is_some_and(|of| of.priority >= priority);
            if stays && self.comes_back(pod) {
                offers.take(pod.node, request);
            }
        }
        let mut pods = vec![0; self.table.kinds.len()];
        for pod in &self.table.pods {
            let class = self.table.kinds[pod.kind as usize].class;
            let counts = !is_over[pod.node as usize] && self.cells.admits(class, pod.node);
            let counts = counts && self.leaves(pod);
            let counts = counts && self.awaited(pod).is_some_and(|of| of >= priority);
            pods[pod.kind as usize] += u64::from(counts);
        }
        Ground { offers, pods }
    }

    /// Whether it is started again, and no other node admits it.
    fn comes_back(&self, pod: &Movable) -> bool {
        let class = self.table.kinds[pod.kind as usize].class;
        !pod.is_bare && !self.cells.admits_others(class, pod.node)
    }

    fn request(&self, kind: u32) -> &[u64] {
        self.requests.row(self.table.kinds[kind as usize].shape)
    }

    /// `None` where a node does not say what it offers.
    fn reach(&self, kind: u32, ground: &Ground) -> Option<Reach> {
        let request = self.request(kind);
        let nodes = self.admitting(self.table.kinds[kind as usize].class);
        if nodes.iter().any(|node| !self.table.says(*node)) {
            return None;
        }
        let mut reach = Reach {
            roomy: Vec::new(),
            scarcity: vec![Scarcity::default(); request.len()],
        };
        for &node in &nodes {
            let offer = ground.offers.row(node);
            if reach.roomy.len() < 2 && ground.offers.fits(node, request) {
                reach.roomy.push(node);
            }
            for (of, (offer, asked)) in reach.scarcity.iter_mut().zip(offer.iter().zip(request)) {
                of.note(node, *offer, *asked);
            }
        }
        let is_tied = self.tied_to(&nodes);
        let tied = (0..).zip(&self.table.kinds);
        let tied = tied.filter(|(_, other)| is_tied[other.class as usize]);
        for (other, _) in tied {
            let pods = ground.pods[other as usize];
            let of_other = self.request(other);
            for (of, (one, asked)) in reach.scarcity.iter_mut().zip(of_other.iter().zip(request)) {
                of.asked = of.asked.saturating_add(one.saturating_mul(pods));
                of.pods += if one >= asked { pods } else { 0 };
            }
        }
        Some(reach)
    }

    /// By class, whether no node but `nodes` admits its pods.
    fn tied_to(&self, nodes: &[u32]) -> Vec<bool> {
        let mut is_inside = vec![false; self.cells.of_node.len()];
        for node in nodes {
            is_inside[*node as usize] = true;
        }
        let are_inside = |nodes: &Vec<u32>| nodes.iter().all(|node| is_inside[*node as usize]);
        let cells: Vec<bool> = self.cells.nodes.iter().map(are_inside).collect();
        let is_tied = |access: &Access| match access {
            Access::Cells(of_class) => of_class.iter().all(|cell| cells[*cell as usize]),
            Access::Nodes(of_class) => are_inside(of_class),
        };
        self.cells.access.iter().map(is_tied).collect()
    }

    /// The nodes that admit a class of pods.
    fn admitting(&self, class: u32) -> Vec<u32> {
        match &self.cells.access[class as usize] {
            Access::Nodes(nodes) => nodes.clone(),
            Access::Cells(cells) => {
                let nodes = cells.iter();
                let nodes = nodes.flat_map(|cell| &self.cells.nodes[*cell as usize]);
                nodes.copied().collect()
            }
        }
    }
}

impl Reach {
    /// Why a pod that is on `node`, which offers `own`, has no place on any other.
    fn why(&self, node: u32, own: &[u64], request: &[u64]) -> Option<Stuck> {
        let asked_for = || {
            let all = self.scarcity.iter().zip(own).zip(request);
            let all = all.map(|((of, own), asked)| (of, *own, *asked));
            (0..).zip(all).filter(|(_, (.., asked))| *asked > 0)
        };
        if self.roomy.iter().all(|roomy| *roomy == node) {
            let large = asked_for().find_map(|(resource, (of, _, asked))| {
                let most = of.most_beside(node);
                (most < asked).then_some(Stuck::Large {
                    resource,
                    asked,
                    most,
                })
            });
            return Some(large.unwrap_or(Stuck::Uneven));
        }
        let sum = asked_for().find_map(|(resource, (of, own, _))| {
            let missing = of.asked.checked_sub(of.offered - own)?;
            (missing > 0).then_some(Stuck::Sum { resource, missing })
        });
        sum.or_else(|| {
            asked_for().find_map(|(resource, (of, own, asked))| {
                let (pods, places) = (of.pods, of.places - own / asked);
                (pods > places).then_some(Stuck::Count {
                    resource,
                    pods,
                    places,
                })
            })
        })
    }
}

impl Scarcity {
    /// That `node`, of which it is told once, offers so much to pods that ask for `asked`.
    fn note(&mut self, node: u32, offer: u64, asked: u64) {
        if offer > self.most.0 {
            self.second = self.most.0;
            self.most = (offer, node);
        } else {
            self.second = self.second.max(offer);
        }
        self.offered = self.offered.saturating_add(offer);
        self.places = self
            .places
            .saturating_add(offer.checked_div(asked).unwrap_or(0));
    }

    fn most_beside(&self, node: u32) -> u64 {
        match self.most.1 == node {
            true => self.second,
            false => self.most.0,
        }
    }
}
