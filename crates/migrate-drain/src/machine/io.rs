//! What goes into the machine and what comes out of it.

use migrate_core::spread::PodMove;
use migrate_core::steps::{DrainEvent, DrainFailureKind};
use migrate_core::{Blocked, DisruptionBudget, EventKind, Node, Pod, PodId, Workload, WorkloadId};
use migrate_kube::EvictionAnswer;

use super::Room;

/// Names one eviction request; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId(pub(super) u64);

/// An object as a watch or list showed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<T> {
    /// The object.
    pub value: T,
    /// Its `resourceVersion`. An older one than the last seen is ignored, so
    /// that a lagging API server cannot take us back in time. 0 = not known:
    /// taken as newest.
    pub version: u64,
}

impl<T> Seen<T> {
    /// `value` at `version`.
    pub fn new(value: T, version: u64) -> Self {
        Self { value, version }
    }
}

/// A VolumeAttachment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// The VolumeAttachment's name.
    pub name: String,
    /// The node it attaches to.
    pub node: String,
    /// The PersistentVolume; absent for inline volumes, which are not waited
    /// for.
    pub volume: Option<String>,
}

/// Everything of one kind: what is not in it is gone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Listed {
    /// Every VolumeAttachment.
    Attachments(Vec<Attachment>),
    /// Every PodDisruptionBudget.
    Budgets(Vec<Seen<DisruptionBudget>>),
    /// Every node.
    Nodes(Vec<Seen<Node>>),
    /// Every pod.
    Pods(Vec<Seen<Pod>>),
    /// Every workload of one kind.
    Workloads {
        /// The kind, e.g. `Deployment`.
        kind: String,
        /// All of them.
        all: Vec<Seen<Workload>>,
    },
}

/// Why something could not be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// In one line, with the cure.
    pub reason: String,
    /// What it is, for a caller that acts on it.
    pub kind: DrainFailureKind,
    /// Whether trying again may help.
    pub retryable: bool,
}

impl Failure {
    /// A failure that trying again may cure.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            kind: DrainFailureKind::Unavailable,
            retryable: true,
        }
    }

    /// A failure of `kind` that trying again does not cure.
    pub fn permanent(kind: DrainFailureKind, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            kind,
            retryable: false,
        }
    }

    /// The node does not exist.
    pub(super) fn is_absence(&self) -> bool {
        self.kind == DrainFailureKind::NoSuchNode
    }
}

/// What the machine is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// The answer to an [`Output::Evict`].
    Answer {
        /// Which request.
        request: RequestId,
        /// The API's answer.
        answer: EvictionAnswer,
    },
    /// Stop: nothing but [`Output::Abandon`] comes out from now on.
    Cancel,
    /// The node is cordoned, by us or already before.
    Cordoned {
        /// Node.
        node: String,
        /// It had been cordoned by someone else before us.
        was_unschedulable: bool,
    },
    /// A claim is gone. What it was bound to is remembered: one made for a pod
    /// goes with it, and its volume is still to be detached.
    ClaimGone {
        /// Namespace.
        namespace: String,
        /// The claim's name.
        name: String,
    },
    /// A claim is bound to a volume.
    ClaimSeen {
        /// Namespace.
        namespace: String,
        /// The claim's name.
        name: String,
        /// The PersistentVolume's name.
        volume: String,
    },
    /// A cordon could not be set.
    CordonFailed {
        /// Node.
        node: String,
        /// Why.
        failure: Failure,
    },
    /// Everything of one kind.
    Listed(Listed),
    /// The pods of one node, read just now: the answer to [`Output::Look`].
    Looked {
        /// Node.
        node: String,
        /// Every pod bound to it.
        pods: Result<Vec<Seen<Pod>>, Failure>,
    },
    /// The node was not cordoned, since its pool has no room: the answer of
    /// [`Room::missing`].
    NoRoom {
        /// Node.
        node: String,
        /// Nodes of its pool that are away.
        away: Vec<String>,
    },
    /// Move these pods, all of this node, which is not cordoned for it. One that
    /// is being moved from goes on.
    Move {
        /// Node.
        node: String,
        /// Which.
        pods: Vec<PodMove>,
    },
    /// A node is gone.
    NodeGone(String),
    /// A node, new or changed.
    NodeSeen(Seen<Node>),
    /// Drain these nodes. One that is being drained goes on.
    NodesAdded(Vec<String>),
    /// A PodDisruptionBudget is gone.
    PdbGone {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A PodDisruptionBudget, new or changed.
    PdbSeen(Seen<DisruptionBudget>),
    /// A pod is gone.
    PodGone(PodId),
    /// A pod, new or changed.
    PodSeen(Seen<Pod>),
    /// Give this node back.
    Release(String),
    /// The original cordon of a node is back.
    Restored {
        /// Node.
        node: String,
        /// It is still unschedulable, because someone else wants it so.
        still_cordoned: bool,
    },
    /// A cordon could not be given back.
    RestoreFailed {
        /// Node.
        node: String,
        /// Why.
        failure: Failure,
    },
    /// Every kind has been listed, for the first time or after
    /// [`Input::Unobservable`].
    Synced,
    /// Time has passed: [`wake_at`](super::Drain::wake_at) is reached.
    Tick,
    /// A kind that must be watched cannot be: no drain is possible until the
    /// next [`Input::Synced`].
    Unobservable(Failure),
    /// A VolumeAttachment is gone.
    VolumeDetached {
        /// The VolumeAttachment's name.
        name: String,
    },
    /// A VolumeAttachment, new or changed.
    VolumeSeen(Attachment),
    /// A workload is gone.
    WorkloadGone(WorkloadId),
    /// A workload, new or changed.
    WorkloadSeen(Seen<Workload>),
}

/// What the machine wants done, or has to say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// The answer to this request does not matter any more: drop it.
    Abandon {
        /// Which request.
        request: RequestId,
    },
    /// Cordon the node; answered by [`Input::Cordoned`],
    /// [`Input::CordonFailed`] or [`Input::NoRoom`].
    Cordon {
        /// Node.
        node: String,
        /// Only if its pool, read right before, has room; a node that has our
        /// mark already needs none.
        room: Option<Room>,
    },
    /// A drain, a move or a release ended. Never [`DrainEvent::Waiting`].
    Done(DrainEvent),
    /// Something happened.
    Event(EventKind),
    /// Ask the API to evict the pod; answered by [`Input::Answer`].
    Evict {
        /// Names the request in the answer.
        request: RequestId,
        /// The node that is being drained.
        node: String,
        /// The pod; its uid goes into the precondition.
        pod: PodId,
        /// Grace in seconds in place of the pod's own.
        grace: Option<u32>,
    },
    /// Read the node's pods from the API once more, past all caches; answered
    /// by [`Input::Looked`].
    Look {
        /// Node.
        node: String,
    },
    /// Give the node the cordon back that it had before us; answered by
    /// [`Input::Restored`] or [`Input::RestoreFailed`].
    RestoreCordon {
        /// Node.
        node: String,
    },
    /// The pods of the node that budgets keep from going now; sent when it
    /// changes, at most once a second.
    Waiting {
        /// Node.
        node: String,
        /// Pod and who says no, with counts.
        pods: Vec<(PodId, Blocked)>,
    },
}
