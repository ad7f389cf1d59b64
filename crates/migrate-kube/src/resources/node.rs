//! Nodes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ClusterResourceScope;
use migrate_core::model::{self, Resources, Role};
use serde::{Deserialize, Serialize};

use super::{Condition, Quantity, is_true, meta, resource};
use crate::{ApiCall, Error};

/// Label of control-plane nodes.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// `v1 Node`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Node {
    /// Metadata.
    #[serde(deserialize_with = "meta::slim")]
    pub metadata: ObjectMeta,
    /// Spec.
    pub spec: NodeSpec,
    /// Status.
    pub status: NodeStatus,
}

/// What is read of a Node's spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Cordoned.
    pub unschedulable: bool,
    /// Taints.
    #[serde(deserialize_with = "meta::nullable")]
    pub taints: Vec<Taint>,
    /// Identity at the cloud provider.
    #[serde(rename = "providerID")]
    pub provider_id: Option<String>,
}

/// What is read of a Node's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Conditions.
    #[serde(deserialize_with = "meta::nullable")]
    pub conditions: Vec<Condition>,
    /// What its kubelet says of itself.
    pub node_info: NodeInfo,
    /// What pods may use.
    #[serde(deserialize_with = "meta::nullable")]
    pub allocatable: BTreeMap<String, Quantity>,
    /// Volumes attached to it.
    #[serde(deserialize_with = "meta::nullable")]
    pub volumes_attached: Vec<AttachedVolume>,
}

/// What a kubelet says of itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// Its version; empty until it has first reported.
    pub kubelet_version: String,
    /// The container runtime and its version.
    pub container_runtime_version: String,
    /// The operating system.
    pub os_image: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// The machine's boot.
    #[serde(rename = "bootID")]
    pub boot_id: String,
}

/// A volume attached to a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachedVolume {
    /// The attachment's name.
    pub name: String,
}

/// A taint.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Effect.
    pub effect: String,
    /// When it was set; only some have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

resource!(Node, "", "v1", "nodes", ClusterResourceScope);

impl Node {
    /// Whether its kubelet has ever reported. One that has not runs nothing.
    pub fn has_reported(&self) -> bool {
        !self.status.node_info.kubelet_version.is_empty()
    }

    /// Whether its Ready condition is True.
    pub fn is_ready(&self) -> bool {
        is_true(&self.status.conditions, "Ready")
    }

    /// The node as decisions see it.
    ///
    /// A taint with an effect this version does not know counts as
    /// `NoSchedule`: it keeps pods away in some manner.
    ///
    /// # Errors
    /// [`Error::Decode`] if the kubelet's version cannot be read, as that of
    /// one that has not reported yet; see [`has_reported`](Self::has_reported).
    pub fn to_model(&self) -> Result<model::Node, Error> {
        let name = meta::name_of(&self.metadata);
        let version = &self.status.node_info.kubelet_version;
        let version = version.parse().map_err(|error| Error::Decode {
            call: ApiCall::new::<Self>("get").named(&name),
            message: format!("the version of its kubelet: {error}"),
        })?;
        let mut node = model::Node::new(name, version);
        node.uid = meta::uid_of(&self.metadata);
        node.labels = self.metadata.labels.clone().unwrap_or_default();
        if node.labels.contains_key(CONTROL_PLANE_LABEL) {
            node.role = Role::ControlPlane;
        }
        // What a run of ours prefers is no property of the node.
        let taints = self.spec.taints.iter().filter(|taint| !taint.is_ours());
        node.taints = taints.map(Taint::to_model).collect();
        node.unschedulable = self.spec.unschedulable;
        node.marked = crate::CordonMark::of(self).is_some();
        node.ready = self.is_ready();
        node.allocatable = resources(&self.status.allocatable);
        Ok(node)
    }
}

impl Taint {
    /// Whether a run of ours has set it.
    pub(crate) fn is_ours(&self) -> bool {
        self.key == crate::TO_BE_UPGRADED
    }

    fn to_model(&self) -> model::Taint {
        model::Taint {
            key: self.key.clone(),
            value: self.value.clone(),
            effect: effect(&self.effect),
        }
    }
}

pub(super) fn effect(text: &str) -> model::TaintEffect {
    match text {
        "NoExecute" => model::TaintEffect::NoExecute,
        "PreferNoSchedule" => model::TaintEffect::PreferNoSchedule,
        _ => model::TaintEffect::NoSchedule,
    }
}

/// Amounts by resource name as the model holds them. Zeros are left out of the
/// extended ones.
pub(super) fn resources(amounts: &BTreeMap<String, Quantity>) -> Resources {
    let mut resources = Resources::default();
    for (name, amount) in amounts {
        match name.as_str() {
            "cpu" => resources.cpu_milli = amount.milli(),
            "memory" => resources.memory_bytes = amount.units(),
            "pods" => resources.pods = amount.units(),
            _ if amount.units() == 0 => {}
            _ => {
                resources.extended.insert(name.clone(), amount.units());
            }
        }
    }
    resources
}
