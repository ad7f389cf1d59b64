//! Where each member and node stands, and what can be undone.

use std::fmt;

use migrate_core::{Addon, KubeVersion, Phase, Target};
use migrate_plan::{NODE_GONE, StopReason, TargetState};
use serde::{Deserialize, Serialize};

use crate::RunEnd;
use crate::state::{Course, RunState, Trace};

/// Where one member, node, addon or backup of the plan stands.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct TargetStanding {
    /// Which.
    pub target: Target,
    /// The version it came with.
    pub from: KubeVersion,
    /// Where it stands.
    pub position: Position,
    /// A cordon of ours is on it.
    pub cordoned: bool,
    /// What can be undone, and how; absent where nothing was done, or where
    /// all is well. Of an addon that was begun: its undo program, unless the run
    /// is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
}

/// How far a member or node has come.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "position")]
pub enum Position {
    /// Nothing was done to it.
    Untouched,
    /// In the middle of a phase.
    In {
        /// Which.
        phase: Phase,
    },
    /// Between two phases.
    After {
        /// The last one.
        phase: Phase,
    },
    /// At the target and verified.
    Done,
    /// A phase did not end well.
    Failed {
        /// Which.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// Left out.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untouched => f.write_str("untouched"),
            Self::In { phase } => write!(f, "in {phase}"),
            Self::After { phase } => write!(f, "after {phase}"),
            Self::Done => f.write_str("done"),
            Self::Failed { phase, reason } => write!(f, "{phase} failed: {reason}"),
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
        }
    }
}

/// Every target of the plan, members first, nodes in the plan's order.
pub(super) fn targets(state: &RunState, cordons: &[String]) -> Vec<TargetStanding> {
    let standings = state.rollout.standings().into_iter();
    standings
        .filter_map(|standing| {
            let planned = state.planned(&standing.target);
            let trace = state.traces.get(planned)?;
            let position = position(standing.state, trace);
            let cordoned = matches!(planned, Target::Node { node, .. } if cordons.contains(node));
            Some(TargetStanding {
                undo: undo(state, planned, trace, &position, cordoned),
                from: trace.from.clone(),
                position,
                cordoned,
                target: standing.target,
            })
        })
        .collect()
}

/// The nodes that carry a cordon of ours as far as the journal knows.
pub(super) fn cordoned_by_the_journal(state: &RunState) -> Vec<String> {
    let cordoned = state.traces.iter().filter(|(_, trace)| trace.cordoned);
    cordoned
        .map(|(target, _)| target.name().to_owned())
        .collect()
}

fn position(state: TargetState, trace: &Trace) -> Position {
    match (state, trace.phase) {
        (TargetState::Done, _) => Position::Done,
        // Left out before it began, like all others.
        (TargetState::Skipped { reason }, None) if reason == StopReason::Aborted.to_string() => {
            Position::Untouched
        }
        (TargetState::Skipped { reason }, _) => Position::Skipped { reason },
        (TargetState::Failed { phase }, _) => Position::Failed {
            phase,
            reason: match &trace.course {
                Course::Failed(reason) => reason.clone(),
                _ => "given up".to_owned(),
            },
        },
        (_, None) => Position::Untouched,
        (_, Some(phase)) => match &trace.course {
            Course::Running => Position::In { phase },
            Course::Passed => Position::After { phase },
            Course::Failed(reason) => Position::Failed {
                phase,
                reason: reason.clone(),
            },
        },
    }
}

fn undo(
    state: &RunState,
    target: &Target,
    trace: &Trace,
    position: &Position,
    cordoned: bool,
) -> Option<String> {
    let from = &trace.from;
    let uncordon = || format!("to give it back: kubectl uncordon {}", target.name());
    if let Target::Addon { name } = target {
        let mut addons = state.policy.addons.iter();
        let addon = addons.find(|addon| addon.name == *name);
        // Somebody may want it back where the run came to nothing.
        let is_done = matches!(&state.end, Some((_, RunEnd::Done)));
        let undo = addon.map(Addon::way_back).filter(|_| !is_done);
        return trace.phase.and(undo);
    }
    // There is nothing to put back.
    if matches!(position, Position::Skipped { reason } if reason == NODE_GONE) {
        return None;
    }
    if *position == Position::Done {
        return cordoned.then(uncordon);
    }
    match (target, trace.phase?) {
        (Target::Backup, _) => None,
        (Target::ControlPlane { member }, _) => {
            let restore = match state.backup.iter().flat_map(|b| &b.artifacts).next() {
                Some(artifact) => format!(
                    "restore {}, which loses every change since",
                    artifact.path.display()
                ),
                None => "there is no backup of this run to restore".to_owned(),
            };
            Some(format!(
                "the API server of {member} does not go back to {from}; go on, or {restore}"
            ))
        }
        (_, Phase::Drain) => {
            cordoned.then(|| format!("its components are unchanged at {from}; {}", uncordon()))
        }
        _ => {
            let keep = if cordoned {
                "; keep it cordoned until it is either"
            } else {
                ""
            };
            let to = state.plan.to_of(target);
            Some(format!(
                "go on to {to}, or put the components back to {from}{keep}"
            ))
        }
    }
}
