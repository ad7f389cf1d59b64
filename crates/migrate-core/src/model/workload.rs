//! Workloads and PodDisruptionBudgets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ControllerRef, Pod};
use crate::{IntOrPercent, LabelSelector};

/// Kinds of Kubernetes' own whose objects are read.
const READ: [&str; 5] = [
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "StatefulSet",
];

/// Names a controller that keeps pods running.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadId {
    /// Namespace.
    pub namespace: String,
    /// Kind: Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, or that of a
    /// [counted](Self::counted) one.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl WorkloadId {
    /// The workload `kind namespace/name`.
    pub fn new(
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            kind: kind.into(),
            name: name.into(),
        }
    }

    /// The workload of a controller of pods in `namespace` whose kind is none of
    /// those that are read. It has that kind, e.g. `CloneSet`, with its group
    /// where the kind alone would name another: `StatefulSet.apps.kruise.io`.
    pub fn counted(namespace: impl Into<String>, controller: &ControllerRef) -> Self {
        let ControllerRef { group, kind, .. } = controller;
        let kind = match READ.contains(&kind.as_str()) {
            true => format!("{kind}.{group}"),
            false => kind.clone(),
        };
        Self::new(kind, namespace, &controller.name)
    }

    /// Whether its object is not read: how many pods it wants shows in its pods
    /// alone ([`Workload::count`]).
    pub fn is_counted(&self) -> bool {
        !READ.contains(&self.kind.as_str())
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A controller and its counts.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Which one.
    pub id: WorkloadId,
    /// Uid.
    pub uid: String,
    /// Wanted: `spec.replicas`, a DaemonSet's desired number, a Job's parallelism,
    /// the pods that a counted one has.
    pub replicas: u32,
    /// Ready now, as its status says; of a counted one, all.
    pub ready: u32,
    /// Available now, as its status says: Ready for `minReadySeconds`. Absent
    /// where nobody knows, as while that status is of an older spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u32>,
    /// `minReadySeconds`: how long a pod must be Ready to count as available.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_ready_seconds: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

impl Workload {
    /// A workload with `replicas` wanted and ready; how many are available is
    /// not known.
    pub fn new(id: WorkloadId, replicas: u32) -> Self {
        Self {
            uid: format!("uid-{}-{}-{}", id.namespace, id.kind, id.name),
            id,
            replicas,
            ready: replicas,
            available: None,
            min_ready_seconds: 0,
        }
    }

    /// The [counted](WorkloadId::is_counted) workloads of `pods`, sorted. Each
    /// wants the pods that neither have finished nor are terminating, and nobody
    /// says that one of them is not ready. Linear in the pods.
    pub fn count(pods: &[Pod]) -> Vec<Self> {
        let mut counted: BTreeMap<&WorkloadId, Self> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| pod.is_wanted()) {
            let Some(id) = pod.workload.as_deref().filter(|id| id.is_counted()) else {
                continue;
            };
            let workload = counted.entry(id).or_insert_with(|| {
                let mut workload = Self::new(id.clone(), 0);
                workload.uid = pod
                    .controller
                    .as_ref()
                    .map_or_else(String::new, |c| c.uid.clone());
                workload
            });
            workload.replicas += 1;
            workload.ready += 1;
        }
        counted.into_values().collect()
    }

    /// Whether replacements appear when its pods are evicted: every kind but
    /// Job (whose pods finish) and DaemonSet (whose pods belong to a node).
    pub fn replaces_pods(&self) -> bool {
        !matches!(self.id.kind.as_str(), "Job" | "DaemonSet")
    }
}

/// When pods that are not Ready may be evicted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum UnhealthyPodPolicy {
    /// Always.
    AlwaysAllow,
    /// Only while the application has its healthy pods (the default).
    #[default]
    IfHealthyBudget,
    /// A value this version does not know: treated as never.
    #[serde(other)]
    Unknown,
}

/// A PodDisruptionBudget's status.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    /// Whether `observedGeneration` has caught up with `generation`.
    pub observed: bool,
    /// Evictions allowed now.
    pub disruptions_allowed: i32,
    /// Healthy pods.
    pub current_healthy: i32,
    /// Healthy pods needed.
    pub desired_healthy: i32,
    /// Pods counted.
    pub expected_pods: i32,
    /// Names of pods whose eviction was granted and not yet seen.
    pub disrupted_pods: BTreeSet<String>,
    /// Message of a SyncFailed condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_failed: Option<String>,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Which pods; absent matches none, empty matches all of the namespace.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// `minAvailable`.
    #[serde(default)]
    pub min_available: Option<IntOrPercent>,
    /// `maxUnavailable`.
    #[serde(default)]
    pub max_unavailable: Option<IntOrPercent>,
    /// `unhealthyPodEvictionPolicy`.
    #[serde(default)]
    pub unhealthy_pods: UnhealthyPodPolicy,
    /// Status.
    #[serde(default)]
    pub status: BudgetStatus,
}

impl DisruptionBudget {
    /// A budget with this selector and neither limit set.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        selector: LabelSelector,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            selector: Some(selector),
            min_available: None,
            max_unavailable: None,
            unhealthy_pods: UnhealthyPodPolicy::default(),
            status: BudgetStatus::default(),
        }
    }

    /// Whether it guards `pod`: same namespace and the selector matches.
    pub fn matches(&self, pod: &Pod) -> bool {
        self.namespace == pod.id.namespace && self.selects(&pod.labels)
    }

    /// Whether it guards a pod of its namespace with these labels.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let selector = self.selector.as_ref();
        selector.is_some_and(|selector| selector.matches(labels))
    }

    /// Healthy pods needed when `expected` are expected.
    ///
    /// As the disruption controller computes it: percentages of either field
    /// round up and `maxUnavailable` never makes the result negative. With
    /// neither field set that controller expects no pods and so allows no
    /// disruption at all, which is what `expected` says.
    pub fn desired_healthy(&self, expected: u32) -> u32 {
        match (&self.max_unavailable, &self.min_available) {
            (Some(max), _) => expected.saturating_sub(max.resolve_up(expected)),
            (None, Some(min)) => min.resolve_up(expected),
            (None, None) => expected,
        }
    }
}

impl fmt::Display for DisruptionBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodDisruptionBudget {}/{}", self.namespace, self.name)
    }
}
