//! Nodes that are alike to whoever places pods.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::model::{Admitting, Node, Taint, TaintEffect};
use migrate_core::{ClusterModel, Placement};

use super::pods::count;

/// The label that names a node's zone.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// A label with more values than this tells nodes apart, not groups of them.
const MANY_VALUES: usize = 128;

/// Cells: nodes of one pool and zone, with the same taints and the same values
/// of every label that a placement asks about, so that a class of pods is
/// admitted by all of a cell or by none.
#[derive(Debug)]
pub(crate) struct Cells {
    /// By node.
    pub(super) of_node: Vec<u32>,
    /// By cell, its nodes in the order of the model.
    pub(super) nodes: Vec<Vec<u32>>,
    /// By cell.
    pub(super) pools: Vec<u32>,
    /// By class.
    pub(super) access: Vec<Access>,
    /// By class.
    reach: Vec<Reach>,
}

/// How many nodes admit a class of pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    None,
    One(u32),
    Several,
}

/// Which nodes admit a class of pods.
#[derive(Debug)]
pub(super) enum Access {
    /// All of these cells, in ascending order.
    Cells(Vec<u32>),
    /// Just these nodes, in ascending order: a label that many values has asks
    /// for them, as the volumes of a node do.
    Nodes(Vec<u32>),
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Signature<'m> {
    pool: u32,
    zone: Option<&'m str>,
    taints: Vec<&'m Taint>,
    values: Vec<Option<&'m String>>,
}

impl Cells {
    pub(super) fn new<'m>(
        model: &'m ClusterModel,
        classes: &[&'m Placement],
        pool: impl Fn(u32) -> u32,
    ) -> Self {
        let asked: BTreeSet<&str> = classes.iter().flat_map(|class| keys(class)).collect();
        let (fine, coarse): (Vec<&str>, Vec<&str>) = asked
            .into_iter()
            .partition(|key| has_many_values(&model.nodes, key));
        let mut ids: BTreeMap<Signature<'_>, u32> = BTreeMap::new();
        let mut cells = Self {
            of_node: Vec::with_capacity(model.nodes.len()),
            nodes: Vec::new(),
            pools: Vec::new(),
            access: Vec::new(),
            reach: Vec::new(),
        };
        for (at, node) in (0..).zip(&model.nodes) {
            let signature = Signature {
                pool: pool(at),
                zone: node.labels.get(ZONE).map(String::as_str),
                taints: hard_taints(node),
                values: coarse.iter().map(|key| node.selectable(key)).collect(),
            };
            let next = count(cells.nodes.len());
            let cell = *ids.entry(signature).or_insert(next);
            if cell == next {
                cells.nodes.push(Vec::new());
                cells.pools.push(pool(at));
            }
            cells.of_node.push(cell);
            cells.nodes[cell as usize].push(at);
        }
        let mut admitting = Admitting::among(&model.nodes);
        let access = classes.iter().map(|class| {
            if keys(class).any(|key| fine.binary_search(&key).is_ok()) {
                let nodes = admitting.nodes(class).into_iter();
                let position = |node: &Node| {
                    let by_name = |other: &Node| other.name.cmp(&node.name);
                    model.nodes.binary_search_by(by_name).ok().map(count)
                };
                return Access::Nodes(nodes.filter_map(position).collect());
            }
            Access::Cells(cells.where_all(model, |node| class.admits(node)))
        });
        let access: Vec<Access> = access.collect();
        cells.reach = access.iter().map(|access| cells.reach(access)).collect();
        cells.access = access;
        cells
    }

    fn reach(&self, access: &Access) -> Reach {
        match access {
            Access::Nodes(nodes) => Reach::of(nodes.iter()),
            Access::Cells(cells) => {
                Reach::of(cells.iter().flat_map(|cell| &self.nodes[*cell as usize]))
            }
        }
    }

    /// The cells whose nodes, told by their first, are `such`.
    pub(super) fn where_all(&self, model: &ClusterModel, such: impl Fn(&Node) -> bool) -> Vec<u32> {
        let firsts = self.nodes.iter().map(|nodes| nodes.first());
        let is_such =
            |first: Option<&u32>| first.is_some_and(|first| such(&model.nodes[*first as usize]));
        let cells = (0..).zip(firsts).filter(|(_, first)| is_such(*first));
        cells.map(|(cell, _)| cell).collect()
    }

    /// Whether `class` may run on `node`.
    pub(super) fn admits(&self, class: u32, node: u32) -> bool {
        match &self.access[class as usize] {
            Access::Cells(cells) => {
                let cell = self.of_node[node as usize];
                cells.binary_search(&cell).is_ok()
            }
            Access::Nodes(nodes) => nodes.binary_search(&node).is_ok(),
        }
    }

    /// Whether `class` may run on another node than `node`.
    pub(super) fn admits_others(&self, class: u32, node: u32) -> bool {
        match self.reach[class as usize] {
            Reach::None => false,
            Reach::One(only) => only != node,
            Reach::Several => true,
        }
    }
}

impl Reach {
    fn of<'n>(mut nodes: impl Iterator<Item = &'n u32>) -> Self {
        match nodes.next() {
            None => Self::None,
            Some(&first) => match nodes.any(|other| *other != first) {
                true => Self::Several,
                false => Self::One(first),
            },
        }
    }
}

/// The labels that `placement` asks about.
fn keys(placement: &Placement) -> impl Iterator<Item = &str> {
    let terms = placement.node_affinity.iter();
    let terms = terms.chain(placement.volume_affinity.iter().flatten());
    let asked = terms.flat_map(|term| &term.0);
    let asked = asked.map(|requirement| requirement.key.as_str());
    let selected = placement.node_selector.keys().map(String::as_str);
    selected.chain(asked)
}

fn has_many_values(nodes: &[Node], key: &str) -> bool {
    let mut values = BTreeSet::new();
    let mut of_nodes = nodes.iter().map(|node| node.selectable(key));
    of_nodes.any(|value| {
        values.insert(value);
        values.len() > MANY_VALUES
    })
}

/// Those that keep pods away, but for the cordon's.
fn hard_taints(node: &Node) -> Vec<&Taint> {
    let taints = node.taints.iter();
    let hard = taints.filter(|taint| {
        taint.effect != TaintEffect::PreferNoSchedule
            && taint.key != "node.kubernetes.io/unschedulable"
    });
    let mut hard: Vec<&Taint> = hard.collect();
    hard.sort_unstable();
    hard
}
