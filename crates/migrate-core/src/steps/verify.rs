//! What step 5 looks at, and what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Finding, KubeVersion, Moment, Taint, WorkloadId};

/// What is being verified.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "scope")]
pub enum VerifyScope {
    /// A control-plane member at the target, and the cluster settled after it.
    ControlPlane {
        /// Member.
        member: String,
    },
    /// A node at the target, before its cordon is lifted: the node itself, its
    /// DaemonSet pods, devices and storage drivers; of a control-plane node
    /// also that the cluster has settled after it.
    Node {
        /// Node.
        node: String,
    },
    /// The workloads that had pods on a node when the run was planned, and those
    /// whose pods its drain has moved elsewhere, after its cordon was lifted.
    WorkloadsOf {
        /// Node.
        node: String,
        /// Workloads that lost pods there to the drain.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        displaced: BTreeSet<WorkloadId>,
    },
    /// Everything at the target, and nothing of the baseline missing.
    Cluster {
        /// Nodes that were replaced on purpose, and the nodes that are to be
        /// there in the place of each.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        replaced: BTreeMap<String, BTreeSet<String>>,
        /// Workers that were given up in the middle of their upgrade or after it:
        /// they have to be there. Any other worker may be deleted meanwhile, which
        /// is noted.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        held: BTreeSet<String>,
    },
}

impl VerifyScope {
    /// The workloads that had pods on `node` when the run was planned.
    pub fn workloads_of(node: impl Into<String>) -> Self {
        Self::WorkloadsOf {
            node: node.into(),
            displaced: BTreeSet::new(),
        }
    }

    /// The whole cluster, in which no node was replaced or given up.
    pub fn cluster() -> Self {
        Self::Cluster {
            replaced: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }
}

/// A cluster's health at one moment; the one taken before the run is the
/// baseline that later ones are compared with.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
pub struct Baseline {
    /// When it was taken.
    pub taken_at: Moment,
    /// Versions of the control-plane members by name.
    pub control_plane: BTreeMap<String, KubeVersion>,
    /// Whether `/readyz` answered ok.
    pub control_plane_ready: bool,
    /// Nodes by name.
    pub nodes: BTreeMap<String, BaselineNode>,
    /// Workloads, DaemonSets included.
    pub workloads: Vec<BaselineWorkload>,
    /// The API server's clock at the time; absent where it does not tell.
    pub server_time: Option<Moment>,
    /// Since when every API server and control-plane node has been Ready, by
    /// the clocks of those nodes; absent where no API server runs in a pod.
    pub control_plane_since: Option<Moment>,
    /// Control-plane members whose API server is not Ready.
    pub unready_members: BTreeSet<String>,
    /// Leases of the leading controller manager and scheduler, by name.
    pub leaders: BTreeMap<String, BaselineLease>,
    /// Rollouts of the cluster's own agents and of its DNS.
    pub rollouts: Vec<BaselineRollout>,
}

/// A node in a [`Baseline`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BaselineNode {
    /// Ready condition.
    pub ready: bool,
    /// Cordoned.
    pub unschedulable: bool,
    /// The kubelet's version.
    pub kubelet_version: KubeVersion,
    /// DaemonSets (`namespace/name`) whose pod here is Ready.
    pub daemons: Vec<String>,
    /// Taints; absent where nobody looked.
    #[serde(default)]
    pub taints: Option<Vec<Taint>>,
    /// Extended resources and huge pages that pods may use, by name.
    #[serde(default)]
    pub extended: BTreeMap<String, u64>,
    /// CSI drivers registered here.
    #[serde(default)]
    pub csi_drivers: BTreeSet<String>,
    /// The Lease that its kubelet renews.
    #[serde(default)]
    pub lease: Option<BaselineLease>,
    /// Its pool; absent where no pool has a target of its own, or nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

impl BaselineNode {
    /// A node without DaemonSet pods.
    pub fn new(ready: bool, kubelet_version: KubeVersion) -> Self {
        Self {
            ready,
            unschedulable: false,
            kubelet_version,
            daemons: Vec::new(),
            taints: None,
            extended: BTreeMap::new(),
            csi_drivers: BTreeSet::new(),
            lease: None,
            pool: None,
        }
    }
}

/// A Lease in a [`Baseline`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BaselineLease {
    /// Who holds it.
    pub holder: String,
    /// When it was last renewed, by its holder's clock.
    pub renewed: Moment,
    /// For how many seconds a renewal is good.
    pub duration_seconds: u32,
}

impl BaselineLease {
    /// A Lease that `holder` renewed at `renewed`, good for `duration_seconds`.
    pub fn new(holder: impl Into<String>, renewed: Moment, duration_seconds: u32) -> Self {
        Self {
            holder: holder.into(),
            renewed,
            duration_seconds,
        }
    }

    /// Whether the last renewal is still good at `now`.
    pub fn is_live(&self, now: Moment) -> bool {
        now.since(self.renewed) <= Duration::from_secs(self.duration_seconds.into())
    }
}

/// A DaemonSet's or Deployment's rollout in a [`Baseline`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BaselineRollout {
    /// Which.
    pub id: WorkloadId,
    /// Whether its controller has seen its newest spec.
    pub observed: bool,
    /// Pods wanted.
    pub desired: u32,
    /// Pods of the newest template; all of `desired` where old ones stay until
    /// somebody deletes them.
    pub updated: u32,
    /// Pods that are available.
    pub available: u32,
    /// How many pods its strategy takes or adds at once: with as many that
    /// cannot become available it goes no further. Absent where that is not
    /// known, or where nothing rolls.
    #[serde(default)]
    pub at_once: Option<u32>,
}

impl BaselineRollout {
    /// A rollout that is done, of `desired` pods.
    pub fn done(id: WorkloadId, desired: u32) -> Self {
        Self {
            id,
            observed: true,
            desired,
            updated: desired,
            available: desired,
            at_once: None,
        }
    }
}

/// A workload in a [`Baseline`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BaselineWorkload {
    /// Which.
    pub id: WorkloadId,
    /// Wanted.
    pub replicas: u32,
    /// Pods Ready and not terminating; where its status is of its newest spec,
    /// no more than that says have been Ready for `minReadySeconds`.
    pub available: u32,
    /// Whether its status was of its newest spec. If not, `available` counts
    /// pods that are Ready for less than `minReadySeconds`, too.
    #[serde(default)]
    pub observed: bool,
}

impl BaselineWorkload {
    /// `available` of `replicas`, as its status says of its newest spec.
    pub fn new(id: WorkloadId, replicas: u32, available: u32) -> Self {
        Self {
            id,
            replicas,
            available,
            observed: true,
        }
    }
}

/// The answer of a comparison.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "verdict")]
#[must_use = "an unread verdict protects nothing"]
pub enum Verdict {
    /// As well as before, at the target.
    Pass {
        /// What passed and a person may want to know all the same, as a workload
        /// that somebody has deleted.
        notes: Vec<Finding>,
    },
    /// Not yet; waiting may help.
    Pending {
        /// What is missing.
        missing: Vec<Finding>,
        /// When to look again.
        #[serde(skip)]
        retry_after: Duration,
        /// Grows while something that is missing gets on, as the pods of a
        /// rollout; 0 where nothing shows. The caller's deadline counts from the
        /// last time that it was above all before it.
        #[serde(skip)]
        progress: u64,
    },
    /// Worse, and waiting will not help.
    Fail {
        /// What is worse.
        findings: Vec<Finding>,
    },
}

impl Verdict {
    /// As well as before, and nothing to say about it.
    pub fn passed() -> Self {
        Self::Pass { notes: Vec::new() }
    }
}
