//! What a journal holds.

use std::collections::BTreeMap;
use std::fmt;

use migrate_core::spread::PodMove;
use migrate_core::steps::{BackupReport, Baseline, DrainOutcome};
use migrate_core::{Action, ClusterId, ClusterModel, Finding, Moment, Plan, Policy, WorkloadId};
use migrate_plan::{Input, Quantiles};
use serde::{Deserialize, Serialize};

use crate::StopCause;

/// One line of a journal.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number, from 0.
    pub seq: u64,
    /// When it was written, on the run's clock.
    pub at: Moment,
    /// What happened.
    pub record: Record,
}

impl Entry {
    /// The entry number `seq`, written at `at`.
    pub fn new(seq: u64, at: Moment, record: Record) -> Self {
        Self { seq, at, record }
    }
}

/// What happened, or is about to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Record {
    /// A run began. Everything before it belongs to earlier runs.
    RunOpened(Box<RunOpened>),
    /// This runner holds the run under this epoch. In the journal before anything
    /// is done under it, and after the cluster has given it.
    EpochTaken {
        /// Above all epochs before it.
        epoch: u64,
    },
    /// A step of the run is about to begin.
    StepBegan {
        /// Which.
        step: RunStep,
    },
    /// A step of the run ended.
    StepEnded {
        /// With what.
        result: StepResult,
    },
    /// The rollout was told something. Feeding all of these, in order and with
    /// the time of their entry, to a fresh rollout gives the same commands.
    Input {
        /// What.
        input: Input,
    },
    /// An action is about to begin.
    Intent {
        /// Which.
        action: Action,
    },
    /// A drain ended: details for the report beside the input it became.
    DrainEnded {
        /// Node.
        node: String,
        /// How.
        outcome: DrainOutcome,
        /// Workloads that lost a pod there: the node's verification asks about
        /// them, too.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        displaced: Vec<WorkloadId>,
    },
    /// The data was backed up after the control plane: details for the report
    /// beside the input it became.
    BackedUpAgain {
        /// The provider's report, its findings marked where waived.
        report: BackupReport,
    },
    /// A node's cordon was given back.
    Released {
        /// Node.
        node: String,
    },
    /// Something had to wait, and no longer does.
    Waited {
        /// Node or member.
        target: String,
        /// On what, in one line.
        on: String,
        /// Since when; until the time of the entry.
        since: Moment,
    },
    /// The API server does not answer. Once more when a runner leaves for that, and
    /// when the next one finds it so.
    ApiLost {
        /// Since when.
        since: Moment,
        /// As of [`ApiAway`](Self::ApiAway).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        during: Option<String>,
    },
    /// The API server had not answered, and answers again.
    ApiAway {
        /// Since when; until the time of the entry.
        since: Moment,
        /// The control-plane member, or its node, that was being upgraded when
        /// that began; whether that explains it is for the report to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        during: Option<String>,
    },
    /// A verification passed, or an upgrade went on, with something to tell.
    Noted {
        /// What a person may want to know.
        findings: Vec<Finding>,
    },
    /// The run ended. What follows belongs to a later run.
    RunEnded {
        /// How.
        end: RunEnd,
    },
}

/// The beginning of a run: all that a resumed one needs besides the cluster.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct RunOpened {
    /// The run's id, stamped on everything it changes.
    pub run: String,
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// Where it comes from.
    pub origin: Origin,
    /// The plan.
    pub plan: Plan,
    /// The policy.
    pub policy: Policy,
    /// The model the plan was made from.
    pub model: ClusterModel,
    /// What was forecast of the rollout before the start, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Quantiles>,
}

impl RunOpened {
    /// For an executor or a journal of your own: run `run` of `plan`, made from
    /// `model` under `policy`, for the cluster of the plan.
    pub fn new(
        run: impl Into<String>,
        origin: Origin,
        plan: Plan,
        policy: Policy,
        model: ClusterModel,
    ) -> Self {
        Self {
            run: run.into(),
            cluster: plan.cluster.clone(),
            origin,
            plan,
            policy,
            model,
            forecast: None,
        }
    }
}

/// What was there before a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Nothing of ours.
    Fresh,
    /// A run that is not gone on with, e.g. because its journal is lost; what
    /// the nodes say is taken over.
    Adopted,
}

/// The steps around the rollout, in their order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum RunStep {
    /// Every check of the environment.
    Prepare,
    /// Take the baseline.
    Baseline,
    /// Back up the data.
    BackUp,
    /// Write run and journal into the cluster; the first change of all.
    Claim,
    /// Take over what an earlier run left on the nodes.
    TakeOver,
    /// Verify the whole cluster after the last node, and once more after pods were
    /// moved back.
    FinalVerify,
    /// Look how replicas stand over nodes.
    Spread,
    /// Move pods back that the last such look named.
    Respread,
}

impl fmt::Display for RunStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Baseline => "baseline",
            Self::BackUp => "back up",
            Self::Claim => "claim",
            Self::TakeOver => "take over",
            Self::FinalVerify => "final verification",
            Self::Spread => "look at the spread",
            Self::Respread => "respread",
        })
    }
}

/// What a step of the run gave.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum StepResult {
    /// [`RunStep::Prepare`].
    Prepared {
        /// Everything found, waived or not.
        findings: Vec<Finding>,
    },
    /// [`RunStep::Baseline`].
    Baseline {
        /// The baseline.
        baseline: Box<Baseline>,
    },
    /// [`RunStep::BackUp`].
    BackedUp {
        /// The provider's report, its findings marked where waived.
        report: BackupReport,
    },
    /// [`RunStep::Claim`].
    Claimed,
    /// [`RunStep::TakeOver`].
    TakenOver {
        /// The nodes whose cordons are this run's now, or were given back.
        nodes: Vec<String>,
    },
    /// [`RunStep::FinalVerify`].
    Verified,
    /// [`RunStep::Spread`].
    Spread {
        /// What is crowded.
        findings: Vec<Finding>,
        /// The pods to be moved back: decided once in a run, and durable before
        /// any of them is asked to go.
        moves: Vec<PodMove>,
    },
    /// [`RunStep::Respread`].
    Respread {
        /// Evictions the API accepted, as far as this runner saw them.
        evictions: u32,
        /// By node, why pods of it did not go or were not replaced.
        left: BTreeMap<String, String>,
    },
}

/// How a run ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum RunEnd {
    /// It was ended for good, with work left or not.
    Aborted,
    /// Everything is at the target and verified.
    Done,
    /// It ended before anything was changed.
    Refused {
        /// Why.
        cause: StopCause,
    },
    /// It ended with work left.
    Stopped {
        /// Why.
        cause: StopCause,
    },
}
