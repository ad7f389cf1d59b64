//! Pods.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Placement, Resources, WorkloadId};
use crate::Moment;

/// One incarnation of a pod: a name may come back, a uid never does.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl PodId {
    /// The pod `namespace/name` with this uid.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        uid: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The label of Jobs, and of their pods, that do a step of an upgrade on a
/// node: they are a part of the upgrade, not of what it has to keep running.
pub const STEP_LABEL: &str = "kube-migrate.dev/step";
/// The value of [`STEP_LABEL`] of a pod that tries the node out which it is on.
pub const TRIAL: &str = "canary";

/// Annotations by which a pod asks not to be disrupted, each with the value that says
/// so: of Karpenter, now and before, and of the cluster autoscaler.
pub const DO_NOT_DISRUPT: [(&str, &str); 3] = [
    ("karpenter.sh/do-not-disrupt", "true"),
    ("karpenter.sh/do-not-evict", "true"),
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
];

/// A pod's phase.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
pub enum PodPhase {
    /// All containers ended with an error.
    Failed,
    /// Not yet running.
    Pending,
    /// Running.
    #[default]
    Running,
    /// All containers ended well.
    Succeeded,
    /// The node is out of reach.
    Unknown,
}

/// The controller in a pod's owner references (`controller: true`).
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerRef {
    /// API group, empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Namespace, name and uid.
    pub id: PodId,
    /// The node it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its direct controller, e.g. a ReplicaSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerRef>,
    /// The workload that keeps its number up, e.g. the Deployment above the
    /// ReplicaSet; absent for bare pods, and for those of a controller that is
    /// not read and does not keep them running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadId>,
    /// Phase.
    #[serde(default)]
    pub phase: PodPhase,
    /// Whether its Ready condition is True.
    #[serde(default)]
    pub ready: bool,
    /// `deletionTimestamp`: when its grace ends. Set = terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Moment>,
    /// `terminationGracePeriodSeconds`.
    #[serde(default)]
    pub grace_seconds: u64,
    /// A static pod's mirror (annotation `kubernetes.io/config.mirror`).
    #[serde(default)]
    pub mirror: bool,
    /// Has an emptyDir volume, whose data ends with the pod.
    #[serde(default)]
    pub empty_dir: bool,
    /// The annotation by which it asks not to be disrupted by programs, one of
    /// [`DO_NOT_DISRUPT`], if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub do_not_disrupt: Option<String>,
    /// Claims it mounts.
    #[serde(default)]
    pub claims: Vec<String>,
    /// Priority.
    #[serde(default)]
    pub priority: i32,
    /// What it asks for.
    #[serde(default)]
    pub requests: Resources,
    /// Where it may run.
    #[serde(default)]
    pub placement: Placement,
}

impl Pod {
    /// A running, ready pod on `node` without a controller.
    pub fn new(id: PodId, node: impl Into<String>) -> Self {
        Self {
            id,
            node: Some(node.into()),
            labels: BTreeMap::new(),
            controller: None,
            workload: None,
            phase: PodPhase::Running,
            ready: true,
            deletion: None,
            grace_seconds: 30,
            mirror: false,
            empty_dir: false,
            do_not_disrupt: None,
            claims: Vec::new(),
            priority: 0,
            requests: Resources::default(),
            placement: Placement::default(),
        }
    }

    /// Healthy as the disruption controller counts: Ready and not terminating.
    pub fn is_healthy(&self) -> bool {
        self.ready && self.deletion.is_none()
    }

    /// Whether it has ended (Succeeded or Failed).
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Whether its controller counts it: neither finished nor terminating.
    pub fn is_wanted(&self) -> bool {
        self.deletion.is_none() && !self.is_finished()
    }

    /// Whether it does a step of an upgrade on its node: the pod of a Job with
    /// the label [`STEP_LABEL`].
    pub fn is_step(&self) -> bool {
        self.labels.contains_key(STEP_LABEL)
            && self
                .controller
                .as_ref()
                .is_some_and(|c| c.kind == "Job" && c.group == "batch")
    }

    /// Whether it tries out the node it is on: a pod without a controller that says
    /// so by its [`STEP_LABEL`]. It ends by itself.
    pub fn is_trial(&self) -> bool {
        let kind = self.labels.get(STEP_LABEL).map(String::as_str);
        self.controller.is_none() && kind == Some(TRIAL)
    }

    /// Whether a DaemonSet of `apps` controls it.
    pub fn is_daemon(&self) -> bool {
        self.controller
            .as_ref()
            .is_some_and(|c| c.kind == "DaemonSet" && c.group == "apps")
    }
}
