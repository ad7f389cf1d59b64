//! Where a pod may run: tolerations, affinities, spread.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use migrate_core::LabelSelector;
use migrate_core::model::{self, AntiAffinityTerm, NodeRequirement, SpreadConstraint};
use serde::{Deserialize, Serialize};

use super::node::effect;
use super::{PodSpec, meta};

/// A toleration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// Key; empty with `Exists` tolerates every taint.
    pub key: String,
    /// `Exists` or `Equal`; empty is `Equal`.
    pub operator: String,
    /// Value compared by `Equal`.
    pub value: String,
    /// Effect; empty tolerates every effect.
    pub effect: String,
}

/// What is read of a pod's affinity: the required node affinity and pod
/// anti-affinity.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Affinity {
    /// Node affinity.
    pub node_affinity: Option<NodeAffinity>,
    /// Pod anti-affinity.
    pub pod_anti_affinity: Option<PodAntiAffinity>,
}

/// Required node affinity.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct NodeAffinity {
    /// `requiredDuringSchedulingIgnoredDuringExecution`.
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
}

/// Alternatives, one of which a node must match.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    /// The alternatives.
    #[serde(deserialize_with = "meta::nullable")]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

/// Requirements that must all hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelectorTerm {
    /// On labels.
    #[serde(deserialize_with = "meta::nullable")]
    pub match_expressions: Vec<NodeRequirement>,
    /// On fields; the API knows only `metadata.name`.
    #[serde(deserialize_with = "meta::nullable")]
    pub match_fields: Vec<NodeRequirement>,
}

/// Required pod anti-affinity.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct PodAntiAffinity {
    /// `requiredDuringSchedulingIgnoredDuringExecution`.
    #[serde(
        rename = "requiredDuringSchedulingIgnoredDuringExecution",
        deserialize_with = "meta::nullable"
    )]
    pub required: Vec<PodAffinityTerm>,
}

/// Pods to stay away from.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodAffinityTerm {
    /// Which pods; absent matches none.
    pub label_selector: Option<LabelSelector>,
    /// Label that names the domain.
    pub topology_key: String,
    /// Namespaces by name.
    #[serde(deserialize_with = "meta::nullable")]
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selector: Option<LabelSelector>,
}

/// A topology spread constraint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopologySpreadConstraint {
    /// Pods counted; absent counts none.
    pub label_selector: Option<LabelSelector>,
    /// Labels of the pod itself that are added to the selector.
    #[serde(deserialize_with = "meta::nullable")]
    pub match_label_keys: Vec<String>,
    /// Largest difference between domains.
    pub max_skew: u32,
    /// Label that names the domain.
    pub topology_key: String,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    pub when_unsatisfiable: String,
}

/// Everything in `spec` that restricts where the pod with this metadata may
/// run, without its volumes.
///
/// What the model has no words for is left out where leaving it out makes the
/// pod look freer (anti-affinity to other namespaces), since "only this node
/// can host it" has to be proven; except a toleration with an unknown operator,
/// which is left out because it would tolerate what it may not.
pub(super) fn placement(metadata: &ObjectMeta, spec: &PodSpec) -> model::Placement {
    let mut placement = model::Placement::default();
    placement.node_selector.clone_from(&spec.node_selector);
    placement.tolerations = spec
        .tolerations
        .iter()
        .filter_map(Toleration::to_model)
        .collect();
    placement.spread = spec
        .topology_spread_constraints
        .iter()
        .filter_map(|constraint| constraint.to_model(metadata))
        .collect();
    let Some(affinity) = &spec.affinity else {
        return placement;
    };
    if let Some(required) = affinity
        .node_affinity
        .as_ref()
        .and_then(|a| a.required.as_ref())
    {
        placement.node_affinity = required.to_model();
    }
    if let Some(anti) = &affinity.pod_anti_affinity {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        placement.anti_affinity = anti
            .required
            .iter()
            .filter(|term| term.concerns(namespace))
            .filter_map(PodAffinityTerm::to_model)
            .collect();
    }
    placement
}

impl Toleration {
    fn to_model(&self) -> Option<model::Toleration> {
        let exists = match self.operator.as_str() {
            "" | "Equal" => false,
            "Exists" => true,
            _ => return None,
        };
        let mut toleration = model::Toleration::default();
        toleration.key = (!self.key.is_empty()).then(|| self.key.clone());
        toleration.exists = exists;
        toleration.value.clone_from(&self.value);
        toleration.effect = (!self.effect.is_empty()).then(|| effect(&self.effect));
        Some(toleration)
    }
}

impl NodeSelector {
    pub(super) fn to_model(&self) -> Vec<model::NodeSelectorTerm> {
        let term = |term: &NodeSelectorTerm| {
            let all = term.match_expressions.iter().chain(&term.match_fields);
            model::NodeSelectorTerm(all.cloned().collect())
        };
        self.node_selector_terms.iter().map(term).collect()
    }
}

impl PodAffinityTerm {
    /// Whether pods of the pod's own namespace are meant, for certain.
    fn concerns(&self, own: &str) -> bool {
        let by_name = self.namespaces.iter().any(|namespace| namespace == own);
        match &self.namespace_selector {
            None => self.namespaces.is_empty() || by_name,
            Some(selector) => selector.is_empty() || by_name,
        }
    }

    fn to_model(&self) -> Option<AntiAffinityTerm> {
        Some(AntiAffinityTerm {
            selector: self.label_selector.clone()?,
            topology_key: self.topology_key.clone(),
        })
    }
}

impl TopologySpreadConstraint {
    fn to_model(&self, metadata: &ObjectMeta) -> Option<SpreadConstraint> {
        if self.when_unsatisfiable == "ScheduleAnyway" {
            return None;
        }
        let mut selector = self.label_selector.clone()?;
        for key in &self.match_label_keys {
            if let Some(value) = metadata.labels.as_ref().and_then(|labels| labels.get(key)) {
                selector = selector.with_label(key, value);
            }
        }
        Some(SpreadConstraint {
            selector,
            topology_key: self.topology_key.clone(),
            max_skew: self.max_skew,
        })
    }
}
