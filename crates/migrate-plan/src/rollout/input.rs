//! What goes into a rollout and what comes out of it, as data with a JSON form.

use std::fmt;

use migrate_core::{Action, ActionId, BudgetKey, KubeVersion, Moment, Outcome, Phase, Target};
use serde::{Deserialize, Serialize};

use crate::machine::ABORTED;

/// Something a rollout is told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "input"
)]
pub enum Input {
    /// End for good, wherever the rollout stands: no target begins any more. One
    /// whose upgrade was begun goes on to the end of its verification, retries
    /// included; a drain that runs goes on to its end and its node is left out,
    /// as is every other that was not changed. Then comes [`Command::Stop`], and
    /// [`Started`](Self::Started) changes nothing any more.
    Aborted,
    /// An action ended. Ignored unless that very action is running, so telling
    /// it twice is harmless. After a failure or a skip also tell how the node
    /// is ([`NodeSeen`](Self::NodeSeen)).
    ActionEnded {
        /// Which.
        id: ActionId,
        /// How.
        result: ActionResult,
    },
    /// A PodDisruptionBudget's status changed, or an assumed budget's account.
    BudgetSeen {
        /// Which.
        key: BudgetKey,
        /// Disruptions it allows now, as its status says.
        allowed: u32,
    },
    /// Nothing more may be begun. What is running may end.
    Cancelled,
    /// Pods of a node may be moved only once a person has agreed, so that its drain would
    /// not end: it does not begin until it is told that nothing is missing any more. What
    /// has begun goes on.
    ConsentMissing {
        /// Its name.
        node: String,
        /// Whether it still is.
        missing: bool,
    },
    /// A node is gone. Unless its upgrade or verification runs, whose end counts
    /// first, it is left out, and goes the whole way from its drain should it come
    /// back.
    NodeGone {
        /// Its name.
        node: String,
    },
    /// A node is new or has changed. Nodes that the plan's model does not have
    /// and that replace none of its nodes are ignored.
    NodeSeen {
        /// Its name.
        node: String,
        /// Its Ready condition is True.
        ready: bool,
        /// Cordoned, by whomever.
        unschedulable: bool,
        /// The kubelet's version.
        kubelet_version: KubeVersion,
        /// Its uid, if known: with another one than before, another machine has
        /// the name, which nobody has drained. Unless an action of it runs, which
        /// is waited for, it goes the whole way from its drain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<String>,
    },
    /// The kill switch: nothing is begun while it is on.
    Paused {
        /// On or off.
        paused: bool,
    },
    /// The runner's own pod is on this node: that one goes last of its group,
    /// whatever the plan says, and the one before no longer. What has begun goes on.
    RunnerSeen {
        /// The node; absent for a runner that is outside the cluster, or on a
        /// node that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// Begin. Told again after a [`Command::Stop`], the rollout goes on where
    /// it stands: what had failed is tried again.
    Started,
}

/// How an action ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "result"
)]
pub enum ActionResult {
    /// A drain was not begun after all: just before its cordon, nodes were seen
    /// to be away that fill the pool. Nothing was changed. It waits for room
    /// again, and is no failed attempt. If the rollout, told of those nodes,
    /// still counts room for it, it is tried again as after a failure.
    Deferred {
        /// Nodes of the pool that are away; they count as such until they are
        /// seen again ([`Input::NodeSeen`]).
        away: Vec<String>,
    },
    /// Without success.
    Failed {
        /// Whether trying again may help.
        retryable: bool,
        /// What went wrong.
        reason: String,
    },
    /// An upgrade was not begun, or not once more: the machine that has the
    /// node's name is not the one that was drained, or there is none. Tell first
    /// what is there ([`Input::NodeSeen`], [`Input::NodeGone`]). The node goes the
    /// whole way again from its drain, or is left out until it comes back. No
    /// failed attempt, unless it happens again and again.
    NotDrained,
    /// Whoever ran it gave the target up.
    Skipped {
        /// Why.
        reason: String,
    },
    /// Done.
    Succeeded(Outcome),
    /// The first action of a target was not begun: while it waited after it was
    /// decided, its window has closed, or become too short for it
    /// ([`Rollout::is_late`](crate::Rollout::is_late)). It waits for the next one,
    /// and is no failed attempt.
    TooLate,
}

/// An input and when it came: what a journal keeps.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// When.
    pub at: Moment,
    /// What.
    #[serde(flatten)]
    pub input: Input,
}

impl Recorded {
    /// `input` at `at`.
    pub const fn new(at: Moment, input: Input) -> Self {
        Self { at, input }
    }
}

/// What a rollout wants done.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "command")]
pub enum Command {
    /// Begin an action. It has been decided: the rollout counts it as running
    /// from now on. A retry has the same action as the first attempt.
    Begin {
        /// Which.
        action: Action,
    },
    /// Every target is done or given up.
    Finished,
    /// Begin nothing more. What is running may end, and its end may still be
    /// told.
    Stop {
        /// Why.
        reason: StopReason,
    },
}

/// Why a rollout stopped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "stop"
)]
pub enum StopReason {
    /// Ended for good ([`Input::Aborted`]): whatever had begun has ended.
    Aborted,
    /// A canary failed after its drain: the other nodes of its pool would too.
    CanaryFailed {
        /// The canary.
        target: Target,
        /// In which phase.
        phase: Phase,
        /// What went wrong.
        reason: String,
    },
    /// Asked to.
    Cancelled,
    /// A target failed for good and policy, or the version skew, says stop.
    Failed {
        /// Which.
        target: Target,
        /// In which phase.
        phase: Phase,
        /// What went wrong.
        reason: String,
    },
    /// A target failed for good, and more of them had than policy allows.
    TooManyFailed {
        /// The last one.
        target: Target,
        /// In which phase.
        phase: Phase,
        /// What went wrong.
        reason: String,
        /// How many may fail: so many were skipped before it.
        allowed: u32,
    },
    /// Nothing is running and nothing may begin, for as long as policy waits.
    Stalled {
        /// Targets that wait; [`Rollout::waiting`](crate::Rollout::waiting)
        /// says on what.
        waiting: u32,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str(ABORTED),
            Self::CanaryFailed {
                target,
                phase,
                reason,
            } => write!(
                f,
                "{target}, the canary of its pool, failed in {phase}: {reason}"
            ),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Failed {
                target,
                phase,
                reason,
            } => match target {
                Target::Backup => write!(f, "the {target} failed: {reason}"),
                _ => write!(f, "{target} failed in {phase}: {reason}"),
            },
            Self::TooManyFailed {
                target,
                phase,
                reason,
                allowed,
            } => write!(
                f,
                "{target} failed in {phase}: {reason}; no more than {allowed} nodes may fail \
                 (rollout.max-failed-nodes)"
            ),
            Self::Stalled { waiting } => {
                write!(f, "nothing can begin and {waiting} targets wait")
            }
        }
    }
}
