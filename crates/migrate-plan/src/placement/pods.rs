//! Pods as numbers: what each asks for, where it may go, whose it is.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::model::Resources;
use migrate_core::{ClusterModel, Node, ObjectName, Placement, Pod, WorkloadId};
use rustc_hash::FxHashMap;

use super::NONE;
use super::amounts::{Amounts, Dimensions};
use super::cells::Cells;
use super::classes::{Classes, as_written};
use super::rules::Rules;
use crate::intern::{Fate, Visited};

/// Pods that drains move, and what else takes room on nodes.
#[derive(Debug)]
pub(crate) struct PodTable<'m> {
    pub(super) model: &'m ClusterModel,
    pub(super) pods: Vec<Movable>,
    pub(super) kinds: Vec<Kind>,
    kind_of: FxHashMap<Kind, u32>,
    shapes: Vec<&'m Resources>,
    shape_of: FxHashMap<ShapeKey<'m>, u32>,
    classes: Classes<'m>,
    pub(super) workloads: Vec<&'m WorkloadId>,
    /// By place in the model: the number of each workload that has a pod, or [`NONE`].
    numbers: Vec<u32>,
    /// Of those that the model does not have.
    workload_of: FxHashMap<&'m WorkloadId, u32>,
    /// Pods that drains do not move: their nodes, what they ask for, and
    /// whether they end when their node is drained.
    others: Vec<(u32, &'m Resources, bool)>,
    /// Kinds of the pods that have no node and want one.
    pub(super) waiting: Vec<u32>,
    /// Namespaces with pods that have anti-affinity or spread constraints.
    pub(super) ruled: BTreeSet<&'m str>,
    last: Option<(&'m Pod, Movable)>,
}

/// A pod that is evicted when its node is drained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Movable {
    /// Where it is at the start.
    pub(super) node: u32,
    pub(super) kind: u32,
    /// [`NONE`] for one that belongs to none.
    pub(super) workload: u32,
    /// Its place in the model.
    pub(super) source: u32,
    /// Nothing starts it again.
    pub(super) is_bare: bool,
}

/// Pods that are the same to whoever places them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Kind {
    pub(super) shape: u32,
    pub(super) class: u32,
    /// [`NONE`] where no other pod matters.
    pub(super) rules: u32,
}

/// CPU, memory, pods, extended resources.
type ShapeKey<'m> = (u64, u64, u64, &'m BTreeMap<String, u64>);

/// The table, completed: with what nodes offer and which of them are alike.
#[derive(Debug)]
pub(crate) struct Landscape<'m> {
    pub(super) table: PodTable<'m>,
    pub(super) dimensions: Dimensions<'m>,
    /// By shape.
    pub(super) requests: Amounts,
    /// By node: what it offers, less what stays there whatever happens.
    pub(crate) usable: Amounts,
    /// The same, less what pods ask for that no other node admits or that do not
    /// come back: what is missing while the node is away.
    pub(crate) leavable: Amounts,
    /// By node: what is taken until its drain by pods that then end.
    pub(super) ending: Amounts,
    pub(super) cells: Cells,
    pub(super) rules: Rules,
}

impl<'m> PodTable<'m> {
    pub(crate) fn new(model: &'m ClusterModel) -> Self {
        Self {
            model,
            pods: Vec::with_capacity(model.pods.len()),
            kinds: Vec::new(),
            kind_of: FxHashMap::default(),
            shapes: Vec::new(),
            shape_of: FxHashMap::default(),
            classes: Classes::default(),
            workloads: Vec::new(),
            numbers: vec![NONE; model.workloads.len()],
            workload_of: FxHashMap::default(),
            others: Vec::new(),
            waiting: Vec::new(),
            ruled: BTreeSet::new(),
            last: None,
        }
    }

    /// Takes a pod. Called in the order of the model.
    pub(crate) fn add(&mut self, visited: Visited<'m>) {
        let Visited {
            source,
            pod,
            node,
            owner,
            fate,
            is_like_last,
        } = visited;
        let Some(node) = node else {
            return self.add_waiting(pod, fate);
        };
        let source = u32::try_from(source).unwrap_or(NONE);
        let like = self.last.filter(|_| is_like_last && fate.leaves());
        if let Some((_, like)) = like {
            self.pods.push(Movable {
                node,
                source,
                ..like
            });
            return;
        }
        let placement = &pod.placement;
        let is_ruled = !placement.anti_affinity.is_empty() || !placement.spread.is_empty();
        if is_ruled && !is_like_last {
            self.ruled.insert(&pod.id.namespace);
        }
        if !fate.leaves() {
            let ends = fate == Fate::Ends;
            self.others.push((node, &pod.requests, ends));
            return;
        }
        let like = self.last.filter(|(last, _)| is_like(last, pod));
        let movable = match like {
            Some((_, movable)) => Movable {
                node,
                source,
                ..movable
            },
            None => {
                let kind = Kind {
                    shape: self.shape(&pod.requests),
                    class: self.class(placement),
                    rules: NONE,
                };
                Movable {
                    node,
                    source,
                    kind: self.kind(kind),
                    workload: self.workload(pod.workload.as_deref(), owner),
                    is_bare: pod.controller.is_none(),
                }
            }
        };
        self.last = Some((pod, movable));
        self.pods.push(movable);
    }

    /// Takes a pod that is on no node.
    fn add_waiting(&mut self, pod: &'m Pod, fate: Fate) {
        if fate.leaves() && pod.controller.is_some() {
            let kind = Kind {
                shape: self.shape(&pod.requests),
                class: self.class(&pod.placement),
                rules: NONE,
            };
            let kind = self.kind(kind);
            self.waiting.push(kind);
        }
    }

    /// Whether `node` offers as much as a pod of `kind` asks for.
    pub(super) fn fits(&self, kind: Kind, node: u32) -> bool {
        let asked = self.shapes[kind.shape as usize];
        let offered = &self.model.nodes[node as usize].allocatable;
        asked.cpu_milli <= offered.cpu_milli
            && asked.memory_bytes <= offered.memory_bytes
            && asked.pods <= offered.pods
            && (asked.extended.iter())
                .all(|(name, amount)| offered.extended.get(name).is_some_and(|it| amount <= it))
    }

    pub(super) fn kind(&mut self, kind: Kind) -> u32 {
        let next = count(self.kinds.len());
        let id = *self.kind_of.entry(kind).or_insert(next);
        if id == next {
            self.kinds.push(kind);
        }
        id
    }

    fn shape(&mut self, request: &'m Resources) -> u32 {
        let next = count(self.shapes.len());
        let key = (
            request.cpu_milli,
            request.memory_bytes,
            request.pods,
            &request.extended,
        );
        let id = *self.shape_of.entry(key).or_insert(next);
        if id == next {
            self.shapes.push(request);
        }
        id
    }

    fn class(&mut self, placement: &'m Placement) -> u32 {
        if let Some((last, movable)) = self.last.as_ref()
            && (std::ptr::eq(&*last.placement, placement)
                || as_written(&last.placement) == as_written(placement))
        {
            return self.kinds[movable.kind as usize].class;
        }
        self.classes.number(placement)
    }

    /// The number of the workload `id`, whose place in the model is `owner`: they are
    /// numbered as they come.
    fn workload(&mut self, id: Option<&'m WorkloadId>, owner: Option<u32>) -> u32 {
        let Some(id) = id else {
            return NONE;
        };
        let next = count(self.workloads.len());
        let known = owner.and_then(|owner| self.numbers.get_mut(owner as usize));
        let number = match known {
            Some(number) => number,
            None => self.workload_of.entry(id).or_insert(NONE),
        };
        if *number == NONE {
            *number = next;
        }
        let at = *number;
        if at == next {
            self.workloads.push(id);
        }
        at
    }

    /// What a finding about pod `pod` names: its workload, or itself.
    pub(super) fn object(&self, pod: u32) -> ObjectName {
        let movable = self.pods[pod as usize];
        match self.workloads.get(movable.workload as usize) {
            Some(id) => named(id),
            None => {
                let id = &self.model.pods[movable.source as usize].id;
                ObjectName::namespaced("Pod", &id.namespace, &id.name)
            }
        }
    }

    /// Whether `node` says what it offers.
    pub(super) fn says(&self, node: u32) -> bool {
        says(&self.model.nodes[node as usize])
    }

    /// With the nodes. `None` where no node says what it offers: nothing is
    /// known of room then. `pool` gives each node's pool.
    pub(crate) fn complete(mut self, pool: impl Fn(u32) -> u32) -> Option<Landscape<'m>> {
        let model = self.model;
        if !model.nodes.iter().any(says) {
            return None;
        }
        let others = self.others.iter().map(|(_, request, _)| *request);
        let dimensions = Dimensions::of(self.shapes.iter().copied().chain(others));
        let requests = Amounts::of_requests(&dimensions, self.shapes.iter().copied());
        let offers = model.nodes.iter().map(|node| &node.allocatable);
        let mut usable = Amounts::of_offers(&dimensions, offers);
        let mut ending = Amounts::zero(&dimensions, model.nodes.len());
        let taken = self.others.iter().map(|(_, request, _)| *request);
        let taken = Amounts::of_requests(&dimensions, taken);
        for (at, (node, _, ends)) in (0..).zip(&self.others) {
            match ends {
                true => ending.add(*node, taken.row(at)),
                false => usable.take(*node, taken.row(at)),
            }
        }
        let cells = Cells::new(model, self.classes.all(), pool);
        let rules = Rules::new(model, &mut self, &cells);
        let mut land = Landscape {
            table: self,
            dimensions,
            requests,
            leavable: usable.clone(),
            usable,
            ending,
            cells,
            rules,
        };
        let staying = land.table.pods.iter().filter(|pod| !land.leaves(pod));
        let staying: Vec<Movable> = staying.copied().collect();
        for movable in staying {
            let shape = land.table.kinds[movable.kind as usize].shape;
            land.leavable.take(movable.node, land.requests.row(shape));
        }
        Some(land)
    }
}

impl Landscape<'_> {
    /// Whether another node takes it in while its own is away.
    pub(super) fn leaves(&self, movable: &Movable) -> bool {
        let class = self.table.kinds[movable.kind as usize].class;
        !movable.is_bare && self.cells.admits_others(class, movable.node)
    }
}

/// Whether it says what it offers.
fn says(node: &Node) -> bool {
    node.allocatable.pods > 0
}

/// Whether two pods are the same to whoever places them, but for other pods.
fn is_like(a: &Pod, b: &Pod) -> bool {
    a.workload == b.workload
        && a.controller.is_none() == b.controller.is_none()
        && a.requests == b.requests
        && (a.placement.is_same(&b.placement)
            || as_written(&a.placement) == as_written(&b.placement))
}

pub(super) fn named(workload: &WorkloadId) -> ObjectName {
    ObjectName::namespaced(&workload.kind, &workload.namespace, &workload.name)
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(NONE)
}
