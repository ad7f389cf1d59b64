//! Where a pod may run, and the proof that only one node can host it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClusterModel, Node, Pod, TaintEffect};
use crate::LabelSelector;

/// A toleration.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// Key; absent with `exists` tolerates every taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Operator `Exists` rather than `Equal`.
    pub exists: bool,
    /// Value compared by `Equal`.
    pub value: String,
    /// Effect; absent tolerates every effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

impl Toleration {
    /// Tolerates every taint.
    pub fn everything() -> Self {
        Self {
            exists: true,
            ..Self::default()
        }
    }

    /// Whether it tolerates `taint`.
    pub fn tolerates(&self, taint: &super::Taint) -> bool {
        let key = match &self.key {
            Some(key) => *key == taint.key,
            None => self.exists,
        };
        key && self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.exists || self.value == taint.value)
    }
}

/// Operator of a [`NodeRequirement`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum NodeSelectorOperator {
    /// The label is absent.
    DoesNotExist,
    /// The label is present.
    Exists,
    /// The label, a number, is greater than the one value.
    Gt,
    /// The label is one of the values.
    In,
    /// The label, a number, is less than the one value.
    Lt,
    /// The label is absent or none of the values.
    NotIn,
}

/// One requirement on a node's labels (or on `metadata.name`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRequirement {
    /// Label key, or `metadata.name`.
    pub key: String,
    /// Operator.
    pub operator: NodeSelectorOperator,
    /// Values.
    #[serde(default)]
    pub values: Vec<String>,
}

impl NodeRequirement {
    /// Whether `node` meets it.
    pub fn matches(&self, node: &Node) -> bool {
        let value = match self.key.as_str() {
            "metadata.name" => Some(&node.name),
            key => node.labels.get(key),
        };
        let compare = |greater: bool| {
            let label = value.and_then(|v| v.parse::<i64>().ok());
            let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
            matches!((label, bound), (Some(l), Some(b)) if if greater { l > b } else { l < b })
        };
        match self.operator {
            NodeSelectorOperator::DoesNotExist => value.is_none(),
            NodeSelectorOperator::Exists => value.is_some(),
            NodeSelectorOperator::Gt => compare(true),
            NodeSelectorOperator::In => value.is_some_and(|v| self.values.contains(v)),
            NodeSelectorOperator::Lt => compare(false),
            NodeSelectorOperator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
        }
    }
}

/// Requirements that must all hold. One without requirements matches nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NodeSelectorTerm(pub Vec<NodeRequirement>);

impl NodeSelectorTerm {
    /// Whether `node` meets every requirement.
    pub fn matches(&self, node: &Node) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.matches(node))
    }
}

/// A required pod anti-affinity within the pod's own namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AntiAffinityTerm {
    /// Pods to stay away from.
    pub selector: LabelSelector,
    /// Label that names the domain, e.g. `kubernetes.io/hostname`.
    pub topology_key: String,
}

/// A topology spread constraint with `DoNotSchedule`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpreadConstraint {
    /// Pods counted.
    pub selector: LabelSelector,
    /// Label that names the domain.
    pub topology_key: String,
    /// Largest difference between domains.
    pub max_skew: u32,
}

/// Everything that restricts where a pod may run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    /// `nodeSelector`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity: one of the terms must match; empty = anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_affinity: Vec<NodeSelectorTerm>,
    /// Node affinity of each bound volume: for each, one of its terms must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_affinity: Vec<Vec<NodeSelectorTerm>>,
    /// Required anti-affinity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anti_affinity: Vec<AntiAffinityTerm>,
    /// Hard spread constraints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spread: Vec<SpreadConstraint>,
    /// Tolerations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

impl Placement {
    /// Whether `node`'s labels, name and taints admit the pod, whatever runs
    /// there and whether or not it is cordoned: a cordon is temporary.
    pub fn admits(&self, node: &Node) -> bool {
        let any = |terms: &[NodeSelectorTerm]| terms.iter().any(|term| term.matches(node));
        let selected = self
            .node_selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value));
        let tolerated = node.taints.iter().all(|taint| {
            taint.effect == TaintEffect::PreferNoSchedule
                || taint.key == "node.kubernetes.io/unschedulable"
                || self.tolerations.iter().any(|t| t.tolerates(taint))
        });
        selected
            && tolerated
            && (self.node_affinity.is_empty() || any(&self.node_affinity))
            && self.volume_affinity.iter().all(|terms| any(terms))
    }
}

/// Why only the node it runs on can host `pod`, if the model proves it.
///
/// A pod without a node, and one that another node of the model could take,
/// give `None`. Capacity and cordons are not judged: both change during a run.
/// Cost: nodes + pods of the namespace when the pod has anti-affinity.
pub fn only_host(model: &ClusterModel, pod: &Pod) -> Option<String> {
    let own = pod.node.as_deref()?;
    let placement = &pod.placement;
    let candidates: Vec<&Node> = model
        .nodes
        .iter()
        .filter(|node| node.name != own && placement.admits(node))
        .collect();
    if candidates.is_empty() {
        let reason = if placement.volume_affinity.is_empty() {
            "its node selector, affinity and tolerations match no other node"
        } else {
            "its volume is bound to this node"
        };
        return Some(reason.to_owned());
    }
    if placement.anti_affinity.is_empty() {
        return None;
    }
    let neighbours: Vec<&Pod> = model
        .pods
        .iter()
        .filter(|other| {
            other.id.namespace == pod.id.namespace
                && other.id.uid != pod.id.uid
                && other.node.is_some()
                && !other.is_finished()
        })
        .collect();
    let blocked = |node: &Node| {
        placement.anti_affinity.iter().any(|term| {
            let domain = node.labels.get(&term.topology_key);
            domain.is_some()
                && neighbours.iter().any(|other| {
                    term.selector.matches(&other.labels)
                        && other
                            .node
                            .as_deref()
                            .and_then(|name| model.node(name))
                            .is_some_and(|host| host.labels.get(&term.topology_key) == domain)
                })
        })
    };
    candidates
        .iter()
        .all(|node| blocked(node))
        .then(|| "its anti-affinity leaves no other node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterId, PodId, Taint};
    use super::*;
    use crate::Moment;

    fn model(names: &[&str]) -> ClusterModel {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        model.nodes = names
            .iter()
            .map(|name| {
                let mut node = Node::new(*name, "v1.36.3".parse().unwrap());
                node.labels
                    .insert("kubernetes.io/hostname".into(), (*name).into());
                node
            })
            .collect();
        model
    }

    fn term(key: &str, value: &str) -> NodeSelectorTerm {
        NodeSelectorTerm(vec![NodeRequirement {
            key: key.into(),
            operator: NodeSelectorOperator::In,
            values: vec![value.into()],
        }])
    }

    #[test]
    fn a_local_volume_ties_a_pod_to_its_node() {
        let model = model(&["a", "b"]);
        let mut pod = Pod::new(PodId::new("ns", "db-0", "1"), "a");
        assert_eq!(only_host(&model, &pod), None);
        pod.placement.volume_affinity = vec![vec![term("kubernetes.io/hostname", "a")]];
        assert!(only_host(&model, &pod).unwrap().contains("volume"));
    }

    #[test]
    fn anti_affinity_with_a_pod_on_every_other_node_ties_it_too() {
        let mut model = model(&["a", "b"]);
        let selector = LabelSelector::default();
        let mut pod = Pod::new(PodId::new("ns", "x-0", "1"), "a");
        pod.placement.anti_affinity = vec![AntiAffinityTerm {
            selector,
            topology_key: "kubernetes.io/hostname".into(),
        }];
        model.pods = vec![pod.clone(), Pod::new(PodId::new("ns", "x-1", "2"), "b")];
        assert!(only_host(&model, &pod).unwrap().contains("anti-affinity"));
        model.pods.pop();
        assert_eq!(only_host(&model, &pod), None);
    }

    #[test]
    fn taints_close_a_node_unless_tolerated() {
        let mut model = model(&["a", "b"]);
        model.nodes[1].taints.push(Taint {
            key: "gpu".into(),
            value: String::new(),
            effect: TaintEffect::NoSchedule,
        });
        let mut pod = Pod::new(PodId::new("ns", "x", "1"), "a");
        assert!(only_host(&model, &pod).is_some());
        pod.placement.tolerations = vec![Toleration::everything()];
        assert_eq!(only_host(&model, &pod), None);
    }
}
