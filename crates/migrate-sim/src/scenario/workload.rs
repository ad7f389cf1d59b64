//! Workloads of a scenario.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::one;

/// One workload, or several equal ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Workload {
    /// Which kind of object.
    pub kind: WorkloadKind,
    /// Namespace, created when it is not there.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Name; the pods carry the label `app` with it.
    pub name: String,
    /// How many equal workloads; more than one are named `NAME-1`, `NAME-2`, ...
    #[serde(default = "one")]
    pub copies: u32,
    /// Pods of each; without meaning for a daemonset.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Its disruption budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Over what the pods must be spread evenly.
    #[serde(default)]
    pub spread: Spread,
    /// Whether no two pods may be on one node.
    #[serde(default)]
    pub apart: bool,
    /// Image of the one container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Requested cores.
    #[serde(default = "default_cpu")]
    pub cpu: String,
    /// Requested memory.
    #[serde(default = "default_memory")]
    pub memory: String,
    /// Labels that the node must have.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Whether the pods tolerate every taint.
    #[serde(default)]
    pub tolerates_everything: bool,
    /// Whether the pods use the network of their node.
    #[serde(default)]
    pub host_network: bool,
    /// Priority class, such as `system-node-critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Whether a Service stands before the pods.
    #[serde(default)]
    pub service: bool,
    /// A volume for each pod of a statefulset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Whether the pods of a statefulset start and stop all at once.
    #[serde(default)]
    pub parallel: bool,
    /// Grace period of the pods, in seconds.
    #[serde(default = "default_grace")]
    pub grace_seconds: u32,
    /// How long the application takes to stop, in seconds; the cluster's default otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_seconds: Option<u32>,
    /// How long it takes from running to ready, in seconds; the cluster's default otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_seconds: Option<u32>,
    /// How long a job's pod runs, in seconds; the cluster's default otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_seconds: Option<u32>,
}

/// Kind of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A ReplicationController: a controller that an upgrade does not know, like
    /// those of operators.
    ReplicationController,
    /// A Job.
    Job,
    /// Bare pods, without any controller.
    Pod,
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Budget {
    /// Number or percentage of pods that must stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<Value>,
    /// Number or percentage of pods that may be away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Value>,
    /// `IfHealthyBudget` or `AlwaysAllow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_pod_eviction_policy: Option<String>,
}

/// Over what pods must be spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Spread {
    /// Nothing.
    #[default]
    None,
    /// Zones.
    Zone,
    /// Nodes; those that the pods cannot go to do not count.
    Node,
}

/// A volume for each pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Volume {
    /// From where the volume can be used.
    pub reach: VolumeReach,
    /// Its size.
    #[serde(default = "default_size")]
    pub size: String,
}

/// From where a volume can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum VolumeReach {
    /// Any node of one zone, one at a time; it is attached and detached.
    Zone,
    /// One node only: a disk of that node.
    Node,
}

impl Workload {
    /// A Deployment of this many pods.
    pub fn deployment(
        namespace: impl Into<String>,
        name: impl Into<String>,
        replicas: u32,
    ) -> Self {
        Self::new(WorkloadKind::Deployment, namespace, name, replicas)
    }

    /// A StatefulSet of this many pods, without volumes.
    pub fn stateful_set(
        namespace: impl Into<String>,
        name: impl Into<String>,
        replicas: u32,
    ) -> Self {
        Self::new(WorkloadKind::StatefulSet, namespace, name, replicas)
    }

    /// A ReplicationController of this many pods.
    pub fn replication_controller(
        namespace: impl Into<String>,
        name: impl Into<String>,
        replicas: u32,
    ) -> Self {
        Self::new(
            WorkloadKind::ReplicationController,
            namespace,
            name,
            replicas,
        )
    }

    /// A DaemonSet on every node, whatever its taints.
    pub fn daemon_set(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            tolerates_everything: true,
            ..Self::new(WorkloadKind::DaemonSet, namespace, name, 1)
        }
    }

    /// A Job of this many pods, all at once.
    pub fn job(namespace: impl Into<String>, name: impl Into<String>, pods: u32) -> Self {
        Self::new(WorkloadKind::Job, namespace, name, pods)
    }

    /// This many pods without a controller.
    pub fn bare_pods(namespace: impl Into<String>, name: impl Into<String>, pods: u32) -> Self {
        Self::new(WorkloadKind::Pod, namespace, name, pods)
    }

    /// Gives it a disruption budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Spreads its pods.
    #[must_use]
    pub fn with_spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
        self
    }

    /// Keeps its pods on different nodes.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Sets what each pod requests.
    #[must_use]
    pub fn with_requests(mut self, cpu: impl Into<String>, memory: impl Into<String>) -> Self {
        self.cpu = cpu.into();
        self.memory = memory.into();
        self
    }

    /// Gives each pod of a statefulset a volume.
    #[must_use]
    pub fn with_volume(mut self, reach: VolumeReach) -> Self {
        self.volume = Some(Volume {
            reach,
            size: default_size(),
        });
        self
    }

    /// Wants nodes with this label.
    #[must_use]
    pub fn on_nodes(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.node_selector.insert(key.into(), value.into());
        self
    }

    /// Puts a Service before the pods.
    #[must_use]
    pub fn with_service(mut self) -> Self {
        self.service = true;
        self
    }

    fn new(
        kind: WorkloadKind,
        namespace: impl Into<String>,
        name: impl Into<String>,
        replicas: u32,
    ) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
            copies: 1,
            replicas,
            budget: None,
            spread: Spread::None,
            apart: false,
            image: None,
            cpu: default_cpu(),
            memory: default_memory(),
            node_selector: BTreeMap::new(),
            tolerates_everything: false,
            host_network: false,
            priority_class: None,
            service: false,
            volume: None,
            parallel: false,
            grace_seconds: default_grace(),
            stop_seconds: None,
            ready_seconds: None,
            run_seconds: None,
        }
    }

    /// Names of the copies.
    pub(super) fn names(&self) -> Vec<String> {
        match self.copies {
            1 => vec![self.name.clone()],
            copies => (1..=copies)
                .map(|copy| format!("{}-{copy}", self.name))
                .collect(),
        }
    }

    /// Namespace and name of the copies; one namespace has one `app` label each.
    pub(super) fn full_names(&self) -> Vec<String> {
        self.names()
            .iter()
            .map(|name| format!("{}/{name}", self.namespace))
            .collect()
    }
}

impl Budget {
    /// At least this many pods, or this share such as `"80%"`, must stay.
    pub fn min_available(limit: impl Into<Value>) -> Self {
        Self {
            min_available: Some(limit.into()),
            ..Self::default()
        }
    }

    /// At most this many pods, or this share such as `"25%"`, may be away.
    pub fn max_unavailable(limit: impl Into<Value>) -> Self {
        Self {
            max_unavailable: Some(limit.into()),
            ..Self::default()
        }
    }

    /// Lets unready pods go whatever the budget says.
    #[must_use]
    pub fn always_allow_unhealthy(mut self) -> Self {
        self.unhealthy_pod_eviction_policy = Some("AlwaysAllow".to_owned());
        self
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_cpu() -> String {
    "100m".to_owned()
}

fn default_memory() -> String {
    "128Mi".to_owned()
}

fn default_size() -> String {
    "10Gi".to_owned()
}

fn default_grace() -> u32 {
    30
}
