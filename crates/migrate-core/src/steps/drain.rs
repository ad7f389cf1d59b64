//! What step 4 is handed and what it hands back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spread::PodMove;
use crate::{Blocked, NeedsConsent, PodId, WorkloadId};

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
        /// Workloads that lost a pod here to this drain, sorted; their pods are
        /// on other nodes now. What a runner before this one has moved is not
        /// among them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        displaced: Vec<WorkloadId>,
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

impl DrainEvent {
    /// A drain of `node` that ended so, for a drainer that does not know which
    /// workloads it has moved.
    pub fn drained(node: impl Into<String>, outcome: DrainOutcome) -> Self {
        Self::Drained {
            node: node.into(),
            outcome,
            displaced: Vec::new(),
        }
    }
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
