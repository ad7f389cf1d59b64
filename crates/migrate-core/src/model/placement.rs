//! Where a pod may run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Node, TaintEffect};
use crate::LabelSelector;

/// A toleration.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
        let value = node.selectable(&self.key);
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
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct NodeSelectorTerm(pub Vec<NodeRequirement>);

impl NodeSelectorTerm {
    /// Whether `node` meets every requirement.
    pub fn matches(&self, node: &Node) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.matches(node))
    }
}

/// A required pod anti-affinity within the pod's own namespace.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AntiAffinityTerm {
    /// Pods to stay away from.
    pub selector: LabelSelector,
    /// Label that names the domain, e.g. `kubernetes.io/hostname`.
    pub topology_key: String,
}

/// A topology spread constraint with `DoNotSchedule`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
