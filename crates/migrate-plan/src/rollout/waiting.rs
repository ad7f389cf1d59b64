//! Who waits on what, and who stands where, as data.

use std::fmt;

use migrate_core::{BudgetKey, Moment, Phase, Target};
use serde::{Deserialize, Serialize};

/// A phase that has not begun, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Whose phase.
    pub target: Target,
    /// The next phase of it that has not begun.
    pub phase: Phase,
    /// The one thing it waits on.
    pub on: WaitingOn,
}

/// The one thing a target waits on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "on")]
pub enum WaitingOn {
    /// Another target that comes before it: a task, the runner's node while it is
    /// in work, or for a task after all others any.
    Before {
        /// Which.
        target: Target,
    },
    /// A budget that its pods count for.
    Budget {
        /// Which.
        key: BudgetKey,
        /// How much of it the drain takes.
        needed: u32,
        /// How much is free.
        free: u32,
    },
    /// The first node of its pool, which goes alone.
    Canary {
        /// The pool.
        pool: String,
        /// The node.
        node: String,
    },
    /// A person to agree that pods of its node are moved.
    Consent,
    /// A control-plane member that comes before it.
    ControlPlane {
        /// Which.
        member: String,
    },
    /// A control-plane node, all of which come before its own.
    ControlPlaneNode {
        /// The first that is left.
        node: String,
    },
    /// All other workers, or control-plane nodes where these come first: the
    /// runner's own pod is on its node.
    HostsRunner {
        /// How many of them are neither done nor given up.
        left: u32,
    },
    /// Nodes that are cordoned or not Ready take every slot of its pool.
    NodeAway {
        /// The pool.
        pool: String,
        /// The nodes.
        nodes: Vec<String>,
    },
    /// Its own node to be Ready.
    NotReady,
    /// Pods that other drains have displaced: the next drain begins when these have
    /// had their time (`rollout.displaced-per-minute`).
    Pace {
        /// When.
        until: Moment,
    },
    /// The pause to end.
    Paused,
    /// A slot of its pool, all of which are taken by nodes in work or away.
    PoolSlot {
        /// The pool.
        pool: String,
        /// How many there are, those of its surge included.
        width: u32,
    },
    /// Its previous phase to end.
    PreviousPhase {
        /// The phase that is running.
        running: Phase,
    },
    /// A stage of the ramp of its pool, of which so many nodes are still to be
    /// verified.
    Ramp {
        /// The pool.
        pool: String,
        /// How many.
        left: u32,
    },
    /// What is left of the width of its pool is kept for nodes that fail.
    Reserve {
        /// The pool.
        pool: String,
        /// How many are kept.
        reserve: u32,
    },
    /// Nodes in work to come back: with its node away too, pods would have too little room.
    Room {
        /// The resource that is scarce.
        resource: String,
    },
    /// The next attempt.
    Retry {
        /// When.
        at: Moment,
        /// Which attempt it is.
        attempt: u8,
    },
    /// A canary that is left alone with the new version, and then verified once
    /// more.
    Soak {
        /// Its pool.
        pool: String,
        /// The canary.
        node: String,
        /// When it is verified once more.
        until: Moment,
    },
    /// The start.
    Start,
    /// Someone to start the rollout again.
    Stopped,
    /// A window that is long enough for it.
    Window {
        /// When the next one opens, if one does within a year.
        opens: Option<Moment>,
    },
    /// Another zone of its pool, of which nodes are in work.
    Zone {
        /// The pool.
        pool: String,
        /// That zone; empty for nodes without one.
        zone: String,
    },
}

/// Where a target stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Which.
    pub target: Target,
    /// Where.
    pub state: TargetState,
}

/// How far a target has come.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "state"
)]
pub enum TargetState {
    /// At the target and verified, or found there before anything was done.
    Done,
    /// Failed for good, which stopped the rollout.
    Failed {
        /// In which phase.
        phase: Phase,
    },
    /// Phases before this one are done.
    InWork {
        /// The phase that is running or comes next.
        phase: Phase,
    },
    /// Given up.
    Skipped {
        /// Why.
        reason: String,
    },
    /// Nothing has been done to it.
    Waiting,
}

/// Counts of targets: control-plane members, slots, addons and second backup.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// At the target.
    pub done: u32,
    /// In work, or failed in the middle of it.
    pub running: u32,
    /// Not begun.
    pub waiting: u32,
    /// Given up.
    pub skipped: u32,
}

impl Progress {
    /// All of them.
    pub const fn total(&self) -> u32 {
        self.done + self.running + self.waiting + self.skipped
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} waits: {}", self.phase, self.target, self.on)
    }
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before { target } => write!(f, "{target} comes first"),
            Self::Budget { key, needed, free } => {
                write!(f, "{key} has {free} free and it needs {needed}")
            }
            Self::Canary { pool, node } => {
                write!(f, "{node} is to be verified first in pool {pool}")
            }
            Self::ControlPlane { member } => write!(f, "control plane {member} comes first"),
            Self::ControlPlaneNode { node } => write!(f, "control-plane node {node} comes first"),
            Self::HostsRunner { left } => write!(
                f,
                "the runner's own pod is on it, so it goes last and {left} others come first"
            ),
            Self::NodeAway { pool, nodes } => write!(
                f,
                "every slot of pool {pool} is taken by nodes that are cordoned or not Ready: {}",
                nodes.join(", ")
            ),
            Self::Consent => f.write_str("nobody has agreed that pods of its node are moved"),
            Self::NotReady => f.write_str("its node is not Ready"),
            Self::Pace { until } => write!(
                f,
                "pods displaced before have their time until {until} (rollout.displaced-per-minute)"
            ),
            Self::Paused => f.write_str("paused"),
            Self::PoolSlot { pool, width } => {
                write!(f, "no more than {width} of pool {pool} may be away")
            }
            Self::PreviousPhase { running } => write!(f, "{running} is running"),
            Self::Ramp { pool, left } => write!(
                f,
                "{left} of a stage of pool {pool} are to be verified before one more begins"
            ),
            Self::Reserve { pool, reserve } => write!(
                f,
                "{reserve} of the nodes that pool {pool} can spare are kept for failures"
            ),
            Self::Room { resource } => write!(
                f,
                "with its node away too, pods would have too little {resource}"
            ),
            Self::Retry { at, attempt } => write!(f, "attempt {attempt} begins at {at}"),
            Self::Soak { pool, node, until } => write!(
                f,
                "{node}, the canary of pool {pool}, is left alone until {until} and then verified once more"
            ),
            Self::Start => f.write_str("not started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Window { opens: Some(opens) } => write!(
                f,
                "its window is closed, or too short for it; the next one opens at {opens}"
            ),
            Self::Window { opens: None } => f.write_str("no window opens within a year"),
            Self::Zone { pool, zone } if zone.is_empty() => {
                write!(f, "nodes of pool {pool} that are in no zone are in work")
            }
            Self::Zone { pool, zone } => write!(f, "zone {zone} of pool {pool} is in work"),
        }
    }
}
