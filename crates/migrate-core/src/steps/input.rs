//! What steps are handed and what they hand back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::by_node::PodsByNode;
use crate::spread::PodMove;
use crate::{
    Blocked, ClusterModel, Finding, KubeVersion, Moment, NeedsConsent, Node, Pod, PodId, Policy,
    Taint, WorkloadId,
};

/// What every step is told about the run. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepInput {
    /// The cluster as it was when the run was planned.
    pub model: Arc<ClusterModel>,
    /// The operator's choices.
    pub policy: Arc<Policy>,
    /// The version to reach.
    pub target: KubeVersion,
    /// Send no mutating request except dry runs.
    pub dry_run: bool,
    /// The one node that goes back to an older [`target`](Self::target), while
    /// the rest of the cluster stays; `None` in an upgrade.
    pub way_back: Option<String>,
    /// Of [`pods_on`](Self::pods_on), made when it is first called.
    by_node: Arc<OnceLock<PodsByNode>>,
}

impl StepInput {
    /// The input of a run that changes things.
    pub fn new(model: Arc<ClusterModel>, policy: Arc<Policy>, target: KubeVersion) -> Self {
        Self {
            model,
            policy,
            target,
            dry_run: false,
            way_back: None,
            by_node: Arc::default(),
        }
    }

    /// Turns the run into a dry run, or back.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Makes the run the way back of one node, or an upgrade again.
    #[must_use]
    pub fn with_way_back(mut self, node: Option<impl Into<String>>) -> Self {
        self.way_back = node.map(Into::into);
        self
    }

    /// Whether the kubelet of `node` is to be changed.
    pub fn is_to_change(&self, node: &Node) -> bool {
        node.is_to_change(&self.target, self.way_back.as_deref())
    }

    /// The pods of the model that run on `node`. The first call looks at all
    /// pods, for this input and its clones; the others at those of the node.
    pub fn pods_on(&self, node: &str) -> Vec<&Pod> {
        let by_node = self.by_node.get_or_init(|| PodsByNode::of(&self.model));
        by_node.on(node, &self.model)
    }
}

/// What a step has to say.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", default)]
#[must_use = "an unread report is not actionable"]
pub struct StepReport {
    /// Findings; a blocker keeps the run from starting unless it is waived.
    pub findings: Vec<Finding>,
}

impl StepReport {
    /// A report of these findings.
    pub fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }
}

/// Code of the finding that a backup is not proven.
pub const BACKUP_UNPROVEN: &str = "KM-BACKUP-001";
/// Code of the finding that the backup after the control plane has failed.
pub const BACKUP_AGAIN_FAILED: &str = "KM-BACKUP-002";

/// How far a backup has been proven.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum BackupProof {
    /// There is none: somebody else is said to have one.
    None,
    /// Complete and its own checksum holds; nobody has compared or restored it.
    Unproven,
    /// Its hash equals the live members'.
    Proven,
    /// Proven, restored and booted.
    Restored,
}

/// A file of a backup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BackupArtifact {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes in hex.
    pub sha256: String,
}

impl BackupArtifact {
    /// A file of `bytes` bytes at `path`.
    pub fn new(path: impl Into<PathBuf>, bytes: u64, sha256: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            bytes,
            sha256: sha256.into(),
        }
    }
}

/// What a backup provider has to say.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
#[must_use = "an unread report is not actionable"]
pub struct BackupReport {
    /// Level of proof reached.
    pub proof: BackupProof,
    /// What was written.
    pub artifacts: Vec<BackupArtifact>,
    /// Findings; a backup that is not proven carries a blocker to be waived.
    pub findings: Vec<Finding>,
}

impl BackupReport {
    /// A report without findings.
    pub fn new(proof: BackupProof, artifacts: Vec<BackupArtifact>) -> Self {
        Self {
            proof,
            artifacts,
            findings: Vec::new(),
        }
    }

    /// Adds a finding.
    pub fn with_finding(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }
}

/// What goes into a drain.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "command")]
pub enum DrainCommand {
    /// Cordon the node and move its pods away.
    Drain {
        /// Node.
        node: String,
    },
    /// Give the node back: restore its original cordon, then wait for pods
    /// that only it can host.
    Release {
        /// Node.
        node: String,
    },
    /// Ask these pods, all of one node, to leave it. The node is not cordoned and
    /// no other pod of it is touched; one that is gone needs nothing.
    Move {
        /// Node.
        node: String,
        /// Which.
        pods: Vec<PodMove>,
    },
}

/// What comes out of a drain.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum DrainEvent {
    /// A drain ended.
    Drained {
        /// Node.
        node: String,
        /// How.
        outcome: DrainOutcome,
    },
    /// A node is in use again and the pods only it can host are ready.
    Released {
        /// Node.
        node: String,
        /// What went wrong, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<DrainFailure>,
    },
    /// The pods of a [`DrainCommand::Move`] have left, and their workloads are as
    /// ready as before; or not.
    Moved {
        /// Node.
        node: String,
        /// How it ended; [`DrainOutcome::Empty`] is about these pods only.
        outcome: DrainOutcome,
    },
    /// Pods that cannot go yet, each with its reason. Sent when it changes.
    Waiting {
        /// Node.
        node: String,
        /// Pod and budget.
        pods: Vec<(PodId, Blocked)>,
    },
}

/// How a drain ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum DrainOutcome {
    /// No evictable pod is left, replacements are ready, volumes detached.
    Empty {
        /// Evictions the API accepted.
        evictions: u32,
    },
    /// A person has to agree to something first; nothing was evicted.
    NeedsConsent {
        /// Pod and what to agree to.
        pods: Vec<(PodId, NeedsConsent)>,
    },
    /// A deadline passed.
    Deadline {
        /// Who blocks, with counts.
        blocked: Vec<(PodId, Blocked)>,
        /// Pods that are still there, e.g. because of a finalizer.
        remaining: Vec<PodId>,
    },
    /// It cannot be done.
    Failed {
        /// What kept it, for a caller that acts on it.
        #[serde(default)]
        kind: DrainFailureKind,
        /// Why, and what to do about it.
        reason: String,
        /// Whether trying again may help.
        retryable: bool,
    },
    /// Asked to stop before its end.
    Cancelled {
        /// Its cordon was asked for, so that it may be cordoned: release it, or
        /// drain it again. If not, nothing was changed.
        cordoned: bool,
        /// Evictions the API accepted before.
        evictions: u32,
    },
    /// The node is not there any more, or another machine has its name by now.
    /// Nothing is known of that one: it may have pods, and is not cordoned.
    NodeGone {
        /// Evictions the API accepted before.
        evictions: u32,
    },
    /// It was not begun: the last look before the cordon showed that as many
    /// nodes of its pool are away as may be. Nothing was changed.
    NoRoom {
        /// The pool.
        pool: String,
        /// Its nodes that are cordoned or not Ready.
        away: Vec<String>,
    },
}

/// What kept a drain or a release from its end, for callers that act on it.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum DrainFailureKind {
    /// Someone else keeps the node cordoned, and pods that only it can host
    /// cannot come back: lift that cordon.
    CordonKept,
    /// Someone else lifted the cordon again and again: find out who.
    CordonLifted,
    /// Whether the node is cordoned is not known: release it once the API
    /// answers again.
    CordonUnknown,
    /// A permission is missing, or the credentials are not accepted: the words
    /// name the rule to add.
    Forbidden,
    /// A pod that a person has to agree to came to the node when others had
    /// gone already.
    LateConsent,
    /// There is no such node.
    NoSuchNode,
    /// It could not begin in time.
    NotBegun,
    /// Pods that only the node can host are not ready again.
    NotBack,
    /// Another run, or a drain by hand, has the node.
    OtherOwner,
    /// None of the others: the words are all there is.
    #[default]
    Other,
    /// The node was drained or given back anew meanwhile.
    Overtaken,
    /// The API refuses a request for good.
    Refused,
    /// A newer holder has taken the run over: leave off.
    Superseded,
    /// The API is out of reach or did not answer in time: try again.
    Unavailable,
    /// A dry run: some pods cannot go now.
    WouldRefuse,
}

/// Why a node could not be given back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct DrainFailure {
    /// What kept it.
    pub kind: DrainFailureKind,
    /// Why, and what to do about it.
    pub reason: String,
}

impl DrainFailure {
    /// A failure of `kind`, in words.
    pub fn new(kind: DrainFailureKind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind, reason }
    }
}

impl fmt::Display for DrainFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

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
    /// The workloads that had pods on a node when the run was planned, after its
    /// cordon was lifted.
    WorkloadsOf {
        /// Node.
        node: String,
    },
    /// Everything at the target, and nothing of the baseline missing.
    Cluster {
        /// Nodes that were replaced on purpose, and the nodes that are to be
        /// there in the place of each.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        replaced: BTreeMap<String, BTreeSet<String>>,
    },
}

impl VerifyScope {
    /// The whole cluster, in which no node was replaced.
    pub fn cluster() -> Self {
        Self::Cluster {
            replaced: BTreeMap::new(),
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
