//! How a run ended, and why.

use std::fmt;

use migrate_core::Finding;
use migrate_plan::StopReason;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::RunStep;

/// How a run ended, or that it has not.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum RunOutcome {
    /// Everything is at the target and verified.
    Done,
    /// Everything was at the target before; nothing was changed or written.
    NothingToDo,
    /// It was ended for good, with work left or not. What had begun has ended;
    /// what failed, and the nodes still cordoned by it, are in the report. A new
    /// run may begin with the same journal, forward or back.
    Aborted,
    /// It ended before anything was changed. A new run may begin.
    Refused {
        /// Why.
        cause: StopCause,
    },
    /// It ended with work left. A new plan goes on from there, with the same
    /// journal.
    Stopped {
        /// Why.
        cause: StopCause,
    },
    /// This runner was asked to leave off, or may not go on. The run has not
    /// ended: opening the journal again goes on with it.
    Interrupted {
        /// Why.
        cause: StopCause,
    },
    /// It goes on.
    Running,
}

/// Why a run ended, or a runner left it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "cause")]
pub enum StopCause {
    /// Blockers that nobody has waived.
    Blocked {
        /// All of them.
        findings: Vec<Finding>,
    },
    /// A step around the rollout failed.
    StepFailed {
        /// Which.
        step: RunStep,
        /// Why, and what to do about it.
        message: String,
    },
    /// The rollout decided so.
    Rollout {
        /// Why.
        reason: StopReason,
    },
    /// What is there is worse than the baseline.
    Verification {
        /// What is worse.
        findings: Vec<Finding>,
    },
    /// The cluster names another run or journal, or none, where it named ours.
    AnchorLost {
        /// The run it names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<String>,
        /// The journal it names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        journal: Option<String>,
    },
    /// The API is older than this run, as after a restore of a backup: the anchor
    /// shows an epoch below the one that this run has taken. `KM-RUN-007`.
    ApiOlder {
        /// The epoch taken.
        taken: u64,
        /// The epoch found.
        found: u64,
    },
    /// Another runner has opened this run since, with the same journal, or has
    /// ended it.
    Superseded {
        /// The epoch taken.
        taken: u64,
        /// The epoch found.
        found: u64,
    },
    /// The anchor could not be read, for a reason that waiting does not cure.
    AnchorUnreadable {
        /// Why, and what to do about it.
        message: String,
    },
    /// The API server did not answer for `deadlines.api`, and nothing was under
    /// way that would have ended by itself.
    ApiAway {
        /// For how long, in seconds.
        for_seconds: u64,
        /// What the first call without an answer said.
        message: String,
    },
    /// Somebody asked this runner to leave off.
    Asked,
}

/// The end of a run that is not done, or of a runner that leaves it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "an unread report is not actionable"]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// Which cordons are ours, where each node stands, what can be undone.
    pub report: Report,
}

impl Stop {
    pub(crate) fn new(cause: StopCause, report: Report) -> Self {
        Self { cause, report }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::NothingToDo => f.write_str("nothing to do: everything is at the target"),
            Self::Aborted => {
                f.write_str("aborted, the run has ended: go on, or take nodes back, with a new run")
            }
            Self::Refused { cause } => write!(f, "refused, nothing was changed: {cause}"),
            Self::Stopped { cause } => write!(f, "stopped, cure this and open it again: {cause}"),
            Self::Interrupted { cause } => write!(f, "interrupted, open it again: {cause}"),
            Self::Running => f.write_str("running"),
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked { findings } => {
                let codes: Vec<_> = findings.iter().map(|finding| &*finding.code).collect();
                write!(
                    f,
                    "{} not cured and not waived ({})",
                    plural(findings.len(), "blocker"),
                    codes.join(", ")
                )
            }
            Self::StepFailed { step, message } => write!(f, "{step} failed: {message}"),
            Self::Rollout { reason } => write!(f, "{reason}"),
            Self::Verification { findings } => {
                f.write_str("worse than before:")?;
                for (index, finding) in findings.iter().enumerate() {
                    let bar = if index == 0 { "" } else { " |" };
                    write!(
                        f,
                        "{bar} {}: {}; {}",
                        finding.object, finding.evidence, finding.cure
                    )?;
                }
                Ok(())
            }
            Self::AnchorLost {
                run: Some(run),
                journal,
            } => write!(
                f,
                "the cluster has been taken over: it names run {run} with journal {}; leave the cluster \
                 to that runner, or end it and adopt the run",
                journal.as_deref().unwrap_or("unknown")
            ),
            Self::AnchorLost { run: None, .. } => {
                f.write_str("the run's mark in the cluster is gone; find out who removed it")
            }
            Self::ApiOlder { taken, found } => write!(f, "{}", api_older(*taken, *found)),
            Self::Superseded { taken, found } => write!(
                f,
                "another runner has taken this run over (epoch {found}, ours is {taken}); leave the \
                 cluster to it"
            ),
            Self::AnchorUnreadable { message } => {
                write!(f, "cannot see whether somebody paused the run: {message}")
            }
            Self::ApiAway {
                for_seconds,
                message,
            } => write!(
                f,
                "the API server has not answered for {for_seconds} s: {message}; once it does, open \
                 the same journal"
            ),
            Self::Asked => f.write_str("asked to leave off"),
        }
    }
}

/// That the API is older than a run that has taken an epoch, and what to do.
pub(crate) fn api_older(taken: u64, found: u64) -> String {
    format!(
        "KM-RUN-007: the API is older than this run: it is at epoch {found}, and this run has taken \
         {taken}; it was restored from a backup, or the Lease kube-system/kube-migrate was \
         deleted. See what else is older, then adopt the run with the same journal"
    )
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}
