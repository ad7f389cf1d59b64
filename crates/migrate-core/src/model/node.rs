//! Nodes and control-plane members.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::KubeVersion;

/// The node label that names its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What a node is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Carries the label `node-role.kubernetes.io/control-plane`.
    ControlPlane,
    /// Any other node.
    #[default]
    Worker,
}

/// One API server instance.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneMember {
    /// The node's name, or `control-plane` where members are not visible.
    pub name: String,
    /// The version it serves.
    pub version: KubeVersion,
    /// Whether it is ready to serve.
    pub ready: bool,
}

impl ControlPlaneMember {
    /// A ready member.
    pub fn new(name: impl Into<String>, version: KubeVersion) -> Self {
        Self {
            name: name.into(),
            version,
            ready: true,
        }
    }
}

/// What a node offers or a pod asks for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Pods (a node's limit; 1 for a pod).
    pub pods: u64,
    /// Extended resources by name, in their own unit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extended: BTreeMap<String, u64>,
}

impl Resources {
    /// CPU in thousandths of a core, memory in bytes, and a number of pods.
    pub fn new(cpu_milli: u64, memory_bytes: u64, pods: u64) -> Self {
        Self {
            cpu_milli,
            memory_bytes,
            pods,
            extended: BTreeMap::new(),
        }
    }
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
pub enum TaintEffect {
    /// They are not scheduled here and running ones are evicted.
    NoExecute,
    /// They are not scheduled here.
    NoSchedule,
    /// The scheduler tries other nodes first.
    PreferNoSchedule,
}

/// A taint.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value, empty when absent.
    #[serde(default)]
    pub value: String,
    /// Effect.
    pub effect: TaintEffect,
}

/// A node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Role.
    #[serde(default)]
    pub role: Role,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// `spec.unschedulable`: cordoned, by whomever.
    #[serde(default)]
    pub unschedulable: bool,
    /// A run, or a drain by hand, has left its mark on it: the cordon is one that
    /// is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    /// The kubelet's version.
    pub kubelet_version: KubeVersion,
    /// Whether its Ready condition is True.
    pub ready: bool,
    /// What pods may use.
    #[serde(default)]
    pub allocatable: Resources,
}

impl Node {
    /// Whether its kubelet is changed on the way to `target`: that of every node
    /// which has not reached it, or of `way_back` alone if one node goes back.
    pub fn is_to_change(&self, target: &KubeVersion, way_back: Option<&str>) -> bool {
        match way_back {
            Some(name) => self.name == name,
            None => !self.kubelet_version.has_reached(target),
        }
    }

    /// A ready, schedulable worker without labels or taints.
    pub fn new(name: impl Into<String>, kubelet_version: KubeVersion) -> Self {
        let name = name.into();
        Self {
            uid: format!("uid-{name}"),
            name,
            role: Role::Worker,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            marked: false,
            kubelet_version,
            ready: true,
            allocatable: Resources::default(),
        }
    }

    /// The zone it is in, if its label [`ZONE_LABEL`] says.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE_LABEL).map(String::as_str)
    }

    /// What a node affinity compares under `key`: its name under
    /// `metadata.name`, else its label.
    pub fn selectable(&self, key: &str) -> Option<&String> {
        match key {
            "metadata.name" => Some(&self.name),
            key => self.labels.get(key),
        }
    }
}
