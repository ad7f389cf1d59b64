//! The scheduler's picture of the nodes and of the pods on them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::requirements::{Amount, PodTerm, anti_affinity_of};
use crate::object::{bool_at, is_finished, is_terminating, items_at, label, str_at};
use crate::store::Object;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Nodes and what is used of them, kept up to date change by change.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<String, Node>,
    /// Pods that hold a place, by namespace and name.
    placed: BTreeMap<String, BTreeMap<String, Placed>>,
    /// How many placed pods of one owner each zone has.
    zones: FxHashMap<(String, String), i64>,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The object; none while pods name a node that is not there.
    pub(super) object: Option<Arc<Object>>,
    pub(super) allocatable: Amount,
    pub(super) used: Amount,
    /// How many pods of one owner the node has.
    owners: FxHashMap<String, i64>,
}

/// A pod with a place on a node.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) node: String,
    pub(super) pod: Arc<Object>,
    amount: Amount,
    zone: String,
    pub(super) anti_affinity: Vec<PodTerm>,
}

impl Nodes {
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Nodes that exist, from `start` around to `start`.
    pub(super) fn from(&self, start: &str) -> impl Iterator<Item = (&str, &Node)> {
        let tail = self
            .nodes
            .range::<str, _>((Bound::Included(start), Bound::Unbounded));
        let head = self
            .nodes
            .range::<str, _>((Bound::Unbounded, Bound::Excluded(start)));
        tail.chain(head)
            .filter(|(_, node)| node.object.is_some())
            .map(|(name, node)| (name.as_str(), node))
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Pods of a namespace that hold a place.
    pub(super) fn placed_in(&self, namespace: &str) -> impl Iterator<Item = &Placed> {
        self.placed
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// A label of a node.
    pub(super) fn label_of(&self, node: &str, key: &str) -> Option<&str> {
        label(&self.nodes.get(node)?.object.as_ref()?.json, key)
    }

    /// How many pods of an owner are on a node and in its zone.
    pub(super) fn siblings(&self, owner: &str, node: &Node) -> (i64, i64) {
        let on_node = node.owners.get(owner).copied().unwrap_or_default();
        let zone = node
            .object
            .as_ref()
            .and_then(|object| label(&object.json, ZONE))
            .unwrap_or_default();
        let in_zone = self
            .zones
            .get(&(owner.to_owned(), zone.to_owned()))
            .copied()
            .unwrap_or_default();
        (on_node, in_zone)
    }

    /// Takes a node in, or out. Returns whether a pod may fit now that did not before.
    pub(super) fn node_changed(&mut self, object: &Arc<Object>, is_gone: bool) -> bool {
        let node = self.nodes.entry(object.name.clone()).or_default();
        if is_gone {
            node.object = None;
            if node.used.pods == 0 {
                self.nodes.remove(&object.name);
            }
            return false;
        }
        let allocatable = Amount::of_node(&object.json);
        let is_same = node.allocatable == allocatable
            && node.object.as_ref().is_some_and(|old| {
                old.json["metadata"]["labels"] == object.json["metadata"]["labels"]
                    && old.json["spec"] == object.json["spec"]
            });
        node.allocatable = allocatable;
        node.object = Some(Arc::clone(object));
        !is_same
    }

    /// Takes a pod in, or out. Returns whether a place became free.
    pub(super) fn pod_changed(&mut self, pod: &Arc<Object>, is_gone: bool) -> bool {
        let holds = !is_gone && !pod.node_name().is_empty() && !is_finished(&pod.json);
        if holds {
            let known = self
                .placed
                .get_mut(&pod.namespace)
                .and_then(|all| all.get_mut(&pod.name));
            if let Some(placed) = known.filter(|placed| placed.pod.uid() == pod.uid()) {
                placed.pod = Arc::clone(pod);
                return false;
            }
            self.take(&pod.namespace, &pod.name);
            self.place(pod);
            return false;
        }
        self.take(&pod.namespace, &pod.name)
    }

    fn place(&mut self, pod: &Arc<Object>) {
        let amount = Amount::of_pod(&pod.json);
        let owner = owner_of(pod).to_owned();
        let node = self.nodes.entry(pod.node_name().to_owned()).or_default();
        let zone = node
            .object
            .as_ref()
            .and_then(|object| label(&object.json, ZONE))
            .unwrap_or_default()
            .to_owned();
        node.used.add(amount);
        if !owner.is_empty() {
            *node.owners.entry(owner.clone()).or_default() += 1;
            *self.zones.entry((owner, zone.clone())).or_default() += 1;
        }
        let placed = Placed {
            node: pod.node_name().to_owned(),
            pod: Arc::clone(pod),
            amount,
            zone,
            anti_affinity: anti_affinity_of(&pod.json),
        };
        self.placed
            .entry(pod.namespace.clone())
            .or_default()
            .insert(pod.name.clone(), placed);
    }

    fn take(&mut self, namespace: &str, name: &str) -> bool {
        let Some(placed) = self
            .placed
            .get_mut(namespace)
            .and_then(|all| all.remove(name))
        else {
            return false;
        };
        let owner = owner_of(&placed.pod).to_owned();
        if let Some(node) = self.nodes.get_mut(&placed.node) {
            node.used.subtract(placed.amount);
            decrement(&mut node.owners, &owner);
            if node.object.is_none() && node.used.pods == 0 {
                self.nodes.remove(&placed.node);
            }
        }
        decrement(&mut self.zones, &(owner, placed.zone));
        true
    }
}

impl Node {
    /// Taints that keep new pods away.
    pub(super) fn taints(&self) -> impl Iterator<Item = &Value> {
        let taints = self.object.as_ref().map_or(&[][..], |object| {
            items_at(&object.json, &["spec", "taints"])
        });
        taints
            .iter()
            .filter(|taint| str_at(taint, &["effect"]) != "PreferNoSchedule")
    }

    /// Taints that make a node a worse choice.
    pub(super) fn soft_taints(&self) -> impl Iterator<Item = &Value> {
        let taints = self.object.as_ref().map_or(&[][..], |object| {
            items_at(&object.json, &["spec", "taints"])
        });
        taints
            .iter()
            .filter(|taint| str_at(taint, &["effect"]) == "PreferNoSchedule")
    }

    pub(super) fn is_cordoned(&self) -> bool {
        self.object
            .as_ref()
            .is_some_and(|object| bool_at(&object.json, &["spec", "unschedulable"]))
    }
}

impl Placed {
    /// Whether the pod counts for topology spread: it is not on its way out.
    pub(super) fn counts_for_spread(&self) -> bool {
        !is_terminating(&self.pod.json)
    }
}

/// Uid of the controller of a pod, `""` for a bare one.
pub(super) fn owner_of(pod: &Object) -> &str {
    pod.controller().map_or("", |owner| str_at(owner, &["uid"]))
}

fn decrement<K: Eq + std::hash::Hash>(counts: &mut FxHashMap<K, i64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count <= 0 {
            counts.remove(key);
        }
    }
}
