//! Events: what happens during a run, as a typed stream.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Action, Blocked, Finding, Moment, NeedsConsent, PodId, WorkloadId};

/// The five steps.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Prepare the environment.
    Prepare,
    /// Back up the data.
    BackUp,
    /// Upgrade the components.
    Upgrade,
    /// Migrate the pods.
    Migrate,
    /// Verify the migration.
    Verify,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::BackUp => "back up",
            Self::Upgrade => "upgrade",
            Self::Migrate => "migrate",
            Self::Verify => "verify",
        })
    }
}

/// Something that happened, and when.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub at: Moment,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum EventKind {
    /// An action was begun.
    ActionBegan {
        /// Which.
        action: Action,
    },
    /// An action ended.
    ActionEnded {
        /// Which.
        action: Action,
        /// What went wrong, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A node was cordoned by us.
    Cordoned {
        /// Node.
        node: String,
    },
    /// A finding.
    Found {
        /// What.
        finding: Finding,
    },
    /// A pod cannot be asked to go yet.
    PodBlocked {
        /// Node.
        node: String,
        /// Pod.
        pod: PodId,
        /// Who says no, with counts.
        blocked: Blocked,
    },
    /// The API accepted the eviction of a pod.
    PodEvicted {
        /// Node.
        node: String,
        /// Pod.
        pod: PodId,
    },
    /// A pod is gone.
    PodGone {
        /// Node.
        node: String,
        /// Pod.
        pod: PodId,
    },
    /// A person has to agree before a pod is evicted.
    PodNeedsConsent {
        /// Node.
        node: String,
        /// Pod.
        pod: PodId,
        /// To what.
        to: NeedsConsent,
    },
    /// An eviction was refused or its outcome is unknown.
    PodRefused {
        /// Node.
        node: String,
        /// Pod.
        pod: PodId,
        /// The answer in one line.
        answer: String,
    },
    /// Work goes on, with how much of how much.
    Progress {
        /// Step.
        step: Step,
        /// Done.
        done: u64,
        /// Of, where known.
        of: Option<u64>,
        /// Unit, e.g. `bytes`.
        unit: String,
    },
    /// What changes a node has printed a line: cut if it is long, and without what
    /// looks like a secret.
    Said {
        /// Node.
        node: String,
        /// The line.
        line: String,
    },
    /// A step began.
    StepBegan {
        /// Which.
        step: Step,
    },
    /// A step ended.
    StepEnded {
        /// Which.
        step: Step,
        /// What went wrong, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A node's cordon was given back to what it was before.
    Uncordoned {
        /// Node.
        node: String,
        /// Still unschedulable, because someone else wants it so.
        still_cordoned: bool,
    },
    /// A target waits.
    Waiting {
        /// Node or member.
        target: String,
        /// On what, in one line.
        on: String,
    },
    /// A workload is as ready as before again.
    WorkloadRecovered {
        /// Which.
        workload: WorkloadId,
    },
}

/// Receives events. Must not block: it is called in the middle of the work.
pub trait EventSink: Send + Sync {
    /// Takes note of `event`.
    fn emit(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> EventSink for F {
    fn emit(&self, event: &Event) {
        self(event);
    }
}
