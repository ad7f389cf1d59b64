//! The proof that only one node can host a pod.
//!
//! [`only_host`] is the rule, for one pod. [`Hosts`] gives the same answers for
//! all pods of a model without looking at all nodes and neighbours for each.

mod admitting;
mod labelled;

use std::collections::BTreeMap;

pub use self::admitting::Admitting;
use self::labelled::{Demand, Labelled};
use super::{AntiAffinityTerm, ClusterModel, Node, Placement, Pod};

const TIED_BY_VOLUME: &str = "its volume is bound to this node";
const TIED_BY_PLACEMENT: &str = "its node selector, affinity and tolerations match no other node";
const TIED_BY_NEIGHBOURS: &str = "its anti-affinity leaves no other node";

/// Why only the node it runs on can host `pod`, if `nodes` and `pods`, all there
/// are in the cluster or in the pod's namespace, prove it.
///
/// A pod without a node, and one that another of the nodes could take, give
/// `None`. Capacity and cordons are not judged: both change during a run.
/// Cost: the nodes, and for each anti-affinity term the pods.
pub fn only_host<'a>(
    pod: &'a Pod,
    nodes: impl Iterator<Item = &'a Node> + Clone,
    pods: impl Iterator<Item = &'a Pod> + Clone,
) -> Option<String> {
    let own = pod.node.as_deref()?;
    let placement = &pod.placement;
    let is_other = |node: &&Node| node.name != own && placement.admits(node);
    if !nodes.clone().any(|node| is_other(&node)) {
        return Some(not_admitted(placement));
    }
    let is_tied = hosts_among(pod, nodes.clone(), nodes, pods)
        .next()
        .is_none();
    is_tied.then(|| TIED_BY_NEIGHBOURS.to_owned())
}

/// Those of `candidates` that could host `pod`, other than the node it is on, as
/// [`only_host`] judges it; `nodes` and `pods` are all there are in the cluster or
/// in the pod's namespace. A pod that is on no node is asked about like any other.
///
/// Cost: as far as the answer is read, the candidates; with anti-affinity the
/// nodes and, for each term, the pods.
pub fn hosts_among<'a, 'b, 'n>(
    pod: &'a Pod,
    candidates: impl Iterator<Item = &'n Node>,
    nodes: impl Iterator<Item = &'a Node>,
    pods: impl Iterator<Item = &'b Pod> + Clone,
) -> impl Iterator<Item = &'n Node> {
    let placement = &pod.placement;
    let by_name: BTreeMap<&str, &Node> = match placement.anti_affinity.is_empty() {
        true => BTreeMap::new(),
        false => nodes.map(|node| (node.name.as_str(), node)).collect(),
    };
    let neighbours =
        pods.filter(|other| other.id.namespace == pod.id.namespace && other.id.uid != pod.id.uid);
    let crowds: Vec<Crowd<'_>> = placement
        .anti_affinity
        .iter()
        .map(|term| Crowd::of(term, neighbours.clone(), |name| by_name.get(name).copied()))
        .collect();
    candidates.filter(move |node| {
        pod.node.as_ref() != Some(&node.name)
            && placement.admits(node)
            && crowds.iter().all(|crowd| crowd.near(node) == 0)
    })
}

fn not_admitted(placement: &Placement) -> String {
    let reason = if placement.volume_affinity.is_empty() {
        TIED_BY_PLACEMENT
    } else {
        TIED_BY_VOLUME
    };
    reason.to_owned()
}

/// The pods that an anti-affinity term stays away from, counted by domain.
struct Crowd<'a> {
    term: &'a AntiAffinityTerm,
    domains: BTreeMap<&'a str, u32>,
}

impl<'a> Crowd<'a> {
    fn of<'p>(
        term: &'a AntiAffinityTerm,
        pods: impl Iterator<Item = &'p Pod>,
        node: impl Fn(&str) -> Option<&'a Node>,
    ) -> Self {
        let mut domains = BTreeMap::new();
        for pod in pods.filter(|pod| is_kept_away_from(term, pod)) {
            let host = pod.node.as_deref().and_then(&node);
            if let Some(domain) = host.and_then(|host| host.labels.get(&term.topology_key)) {
                *domains.entry(domain.as_str()).or_default() += 1;
            }
        }
        Self { term, domains }
    }

    /// How many are in the domain of `node`.
    fn near(&self, node: &Node) -> u32 {
        let domain = node.labels.get(&self.term.topology_key);
        let count = domain.and_then(|domain| self.domains.get(domain.as_str()));
        count.copied().unwrap_or(0)
    }

    /// The domain of `host` if `pod`, which runs there, is one of the crowd.
    fn counted<'n>(&self, pod: &Pod, host: &'n Node) -> Option<&'n str> {
        let domain = host.labels.get(&self.term.topology_key)?;
        is_kept_away_from(self.term, pod).then_some(domain.as_str())
    }
}

fn is_kept_away_from(term: &AntiAffinityTerm, pod: &Pod) -> bool {
    !pod.is_finished() && term.selector.matches(&pod.labels)
}

/// Answers [`only_host`] for all pods of a sorted model.
///
/// Pods that may run in the same places, as all of one workload, are asked for
/// together. Cost: for each pod a logarithm; for each different placement the
/// nodes with its rarest label, or any until two take it, and the pods that its
/// anti-affinity is about; for each anti-affinity term the nodes once more.
pub struct Hosts<'a> {
    model: &'a ClusterModel,
    nodes: Labelled<'a, Node>,
    /// By namespace; made when the first pod with anti-affinity is asked about.
    pods: Option<BTreeMap<&'a str, Labelled<'a, Pod>>>,
    /// By placement, and by namespace where neighbours matter.
    groups: BTreeMap<(&'a str, &'a Placement), Group<'a>>,
}

/// Pods with one placement.
struct Group<'a> {
    /// Nodes that admit them: two, if there are two.
    admitting: Vec<&'a Node>,
    /// Nodes among those that admit them where no pod is that they stay away
    /// from: two, if there are two.
    free: Vec<&'a Node>,
    crowds: Vec<Crowd<'a>>,
}

impl<'a> Hosts<'a> {
    /// Ready to be asked about the pods of `model`.
    pub fn of(model: &'a ClusterModel) -> Self {
        Self {
            model,
            nodes: Labelled::new(&model.nodes, |node, key| {
                node.selectable(key).map(String::as_str)
            }),
            pods: None,
            groups: BTreeMap::new(),
        }
    }

    /// Why only the node it runs on can host `pod`, which is of the model.
    pub fn only_host(&mut self, pod: &'a Pod) -> Option<String> {
        let own = pod.node.as_deref()?;
        let placement: &Placement = &pod.placement;
        let namespace = match placement.anti_affinity.is_empty() {
            true => "",
            false => pod.id.namespace.as_str(),
        };
        let key = (namespace, placement);
        if !self.groups.contains_key(&key) {
            let group = self.group(namespace, placement);
            self.groups.insert(key, group);
        }
        let group = self.groups.get(&key)?;
        let is_other = |node: &Node| node.name != own;
        if !group.admitting.iter().any(|node| is_other(node)) {
            return Some(not_admitted(placement));
        }
        if group.free.iter().any(|node| is_other(node)) {
            return None;
        }
        // Only a domain where it is alone can be free for it and not for all.
        let host = self.model.node(own);
        let own_domains: Vec<Option<&str>> = group
            .crowds
            .iter()
            .map(|crowd| host.and_then(|host| crowd.counted(pod, host)))
            .collect();
        let is_free = |node: &Node| {
            group.crowds.iter().zip(&own_domains).all(|(crowd, own)| {
                let domain = node.labels.get(&crowd.term.topology_key);
                let is_with_it = own.is_some() && domain.map(String::as_str) == *own;
                crowd.near(node) == u32::from(is_with_it)
            })
        };
        for (crowd, domain) in group.crowds.iter().zip(&own_domains) {
            let Some(domain) = domain.filter(|domain| crowd.domains.get(domain) == Some(&1)) else {
                continue;
            };
            let key = crowd.term.topology_key.as_str();
            let mut there = self.nodes.with(key, domain).iter();
            if there.any(|node| is_other(node) && placement.admits(node) && is_free(node)) {
                return None;
            }
        }
        Some(TIED_BY_NEIGHBOURS.to_owned())
    }

    fn group(&mut self, namespace: &'a str, placement: &'a Placement) -> Group<'a> {
        let crowds = self.crowds(namespace, placement);
        let candidates = self.nodes.candidates(Demand::of_placement(placement));
        let mut group = Group {
            admitting: Vec::new(),
            free: Vec::new(),
            crowds,
        };
        for node in candidates {
            if group.free.len() == 2 {
                break;
            }
            if !placement.admits(node) {
                continue;
            }
            add(&mut group.admitting, node);
            if group.crowds.iter().all(|crowd| crowd.near(node) == 0) {
                add(&mut group.free, node);
            }
        }
        group
    }

    fn crowds(&mut self, namespace: &'a str, placement: &'a Placement) -> Vec<Crowd<'a>> {
        if placement.anti_affinity.is_empty() {
            return Vec::new();
        }
        let model = self.model;
        let pods = self.pods.get_or_insert_with(|| by_namespace(model));
        let Some(pods) = pods.get_mut(namespace) else {
            return Vec::new();
        };
        let crowds = placement.anti_affinity.iter().map(|term| {
            let matching = pods.candidates(Demand::of_selector(&term.selector));
            Crowd::of(term, matching, |name| model.node(name))
        });
        crowds.collect()
    }
}

/// Keeps the first two, each once.
fn add<'a>(nodes: &mut Vec<&'a Node>, node: &'a Node) {
    if nodes.len() < 2 && nodes.iter().all(|known| known.name != node.name) {
        nodes.push(node);
    }
}

fn by_namespace(model: &ClusterModel) -> BTreeMap<&str, Labelled<'_, Pod>> {
    let of_namespace = model.pods.chunk_by(|a, b| a.id.namespace == b.id.namespace);
    of_namespace
        .filter_map(|pods| {
            let namespace = pods.first()?.id.namespace.as_str();
            Some((namespace, Labelled::new(pods, label_of)))
        })
        .collect()
}

fn label_of<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.labels.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests;
