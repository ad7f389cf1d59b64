//! Which pods would have to leave, and whether another node can take them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ClusterModel, Disposition, Node, Pod, Policy, Wait, disposition, only_host};

/// The pods of the nodes to be drained.
pub(super) struct Movers<'a> {
    /// Pods to be evicted, once a person has agreed where that is needed.
    pub(super) leaving: Vec<Mover<'a>>,
    /// Pods whose Job is waited for.
    pub(super) jobs: Vec<&'a Pod>,
}

/// A pod to be evicted.
pub(super) struct Mover<'a> {
    pub(super) pod: &'a Pod,
    /// [`Disposition::Evict`] or [`Disposition::NeedsConsent`].
    pub(super) disposition: Disposition,
    /// Why no other node can host it, agreed or not.
    pub(super) only_host: Option<String>,
}

impl<'a> Movers<'a> {
    pub(super) fn of(
        model: &'a ClusterModel,
        policy: &Policy,
        drains: impl Fn(&Node) -> bool,
    ) -> Self {
        let nodes: BTreeSet<&str> = model
            .nodes
            .iter()
            .filter(|node| drains(node))
            .map(|node| node.name.as_str())
            .collect();
        let mut hosts = Hosts::of(model);
        let mut movers = Self {
            leaving: Vec::new(),
            jobs: Vec::new(),
        };
        for pod in &model.pods {
            let is_there = pod.node.as_deref().is_some_and(|node| nodes.contains(node));
            if is_there {
                movers.add(pod, policy, &mut hosts);
            }
        }
        movers
    }

    fn add(&mut self, pod: &'a Pod, policy: &Policy, hosts: &mut Hosts<'a>) {
        match disposition(pod, &policy.consent, None) {
            Disposition::Evict | Disposition::NeedsConsent(_) => {
                let only_host = hosts.only_host(pod);
                self.leaving.push(Mover {
                    pod,
                    disposition: disposition(pod, &policy.consent, only_host.as_deref()),
                    only_host,
                });
            }
            Disposition::Wait(Wait::Job) => self.jobs.push(pod),
            Disposition::Leave(_) | Disposition::Wait(Wait::Terminating) => {}
        }
    }
}

/// Answers [`only_host`] for all pods of a model.
///
/// Asked of the whole model, each answer costs all nodes and, with
/// anti-affinity, all pods. Most pods fit on the node that took the pod before
/// them, and neighbours are of one namespace.
struct Hosts<'a> {
    model: &'a ClusterModel,
    by_namespace: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// Every node, and the pods of `namespace`.
    view: ClusterModel,
    namespace: Option<&'a str>,
    /// The node that could take the last pod.
    taker: usize,
}

impl<'a> Hosts<'a> {
    fn of(model: &'a ClusterModel) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in &model.pods {
            by_namespace.entry(&pod.id.namespace).or_default().push(pod);
        }
        let mut view = ClusterModel::new(model.cluster.clone(), model.taken_at);
        view.nodes.clone_from(&model.nodes);
        Self {
            model,
            by_namespace,
            view,
            namespace: None,
            taker: 0,
        }
    }

    fn only_host(&mut self, pod: &'a Pod) -> Option<String> {
        let own = pod.node.as_deref()?;
        if pod.placement.anti_affinity.is_empty() {
            let (before, from) = self.model.nodes.split_at(self.taker);
            let takes = |node: &Node| node.name != own && pod.placement.admits(node);
            let steps = from.iter().chain(before).position(takes);
            if let Some(steps) = steps {
                self.taker = (self.taker + steps) % self.model.nodes.len();
                return None;
            }
        } else if self.namespace != Some(&pod.id.namespace) {
            let pods = self.by_namespace.get(pod.id.namespace.as_str());
            self.view.pods = pods.into_iter().flatten().map(|&pod| pod.clone()).collect();
            self.namespace = Some(&pod.id.namespace);
        }
        only_host(&self.view, pod)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::AntiAffinityTerm;
    use crate::{ClusterId, LabelSelector, Moment, PodId};

    fn node(index: usize) -> Node {
        let mut node = Node::new(format!("n{index}"), "v1.36.0".parse().unwrap());
        node.labels.insert("zone".into(), format!("z{}", index % 2));
        node.labels.insert("host".into(), node.name.clone());
        node
    }

    proptest! {
        #[test]
        fn hosts_answer_as_the_whole_model_does(
            nodes in 1usize..5,
            pods in proptest::collection::vec((0usize..5, 0usize..2, 0u8..4, 0u8..3), 1..12),
        ) {
            let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
            model.nodes = (0..nodes).map(node).collect();
            for (index, (host, namespace, selector, apart)) in pods.into_iter().enumerate() {
                let id = PodId::new(format!("ns{namespace}"), format!("p{index}"), format!("u{index}"));
                let mut pod = Pod::new(id, format!("n{}", host % nodes));
                if selector < 3 {
                    pod.placement.node_selector.insert("zone".into(), format!("z{selector}"));
                }
                if apart > 0 {
                    let key = if apart == 1 { "host" } else { "zone" };
                    pod.placement.anti_affinity = vec![AntiAffinityTerm {
                        selector: LabelSelector::default(),
                        topology_key: key.into(),
                    }];
                }
                model.pods.push(pod);
            }
            model.sort();
            let mut hosts = Hosts::of(&model);
            for pod in &model.pods {
                prop_assert_eq!(hosts.only_host(pod), only_host(&model, pod), "{}", pod.id);
            }
        }
    }
}
