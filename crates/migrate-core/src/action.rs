//! Actions: what is done to one target in one phase.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::KubeVersion;

/// What an action is done to.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Target {
    /// Something that the policy names to be upgraded at a [`Point`] of the run.
    Addon {
        /// Its name.
        name: String,
    },
    /// The data, once more, after the control plane.
    Backup,
    /// An API server instance with its companions, changed in place.
    ControlPlane {
        /// The member's name.
        member: String,
    },
    /// The machine in a slot of a pool.
    Node {
        /// The pool.
        pool: String,
        /// The node that is in the slot now.
        node: String,
    },
}

impl Target {
    /// The member's, node's or addon's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Addon { name } => name,
            Self::Backup => "second",
            Self::ControlPlane { member } => member,
            Self::Node { node, .. } => node,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addon { name } => write!(f, "addon {name}"),
            Self::Backup => f.write_str("second backup"),
            Self::ControlPlane { member } => write!(f, "control plane {member}"),
            Self::Node { node, .. } => write!(f, "node {node}"),
        }
    }
}

/// A point of a run at which what the policy names is done, and nothing else.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// Before the first member. Only in a run that upgrades a member.
    BeforeControlPlane,
    /// After the last member and, where the policy has them come first, the last
    /// control-plane node; also in a run that finds all of them at the target.
    AfterControlPlane,
    /// Before the first worker. Only in a run that upgrades one.
    BeforeWorkers,
    /// After the last node. Left out if a node was.
    AfterAll,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeControlPlane => "before-control-plane",
            Self::AfterControlPlane => "after-control-plane",
            Self::BeforeWorkers => "before-workers",
            Self::AfterAll => "after-all",
        })
    }
}

/// The phases a target passes through, in order.
///
/// A control-plane member and an addon only know `Upgrade` and `Verify`: they
/// change in place, nothing is drained. The second backup only knows `BackUp`. Only a
/// node that goes behind a replacement ([`PoolPolicy::max_surge`](crate::PoolPolicy::max_surge))
/// knows `Provision`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Make the machine that comes in place of the node, and wait until it is Ready at
    /// the version after. The node itself is left as it is.
    Provision,
    /// Cordon, and move the pods away.
    Drain,
    /// Change the components.
    Upgrade,
    /// Check the target against the baseline; a node's cordon is lifted in it.
    Verify,
    /// Check a canary against the baseline once more, at the end of its soak
    /// time. Only canaries have it, and only where policy names a soak time.
    Confirm,
    /// Back up the data. It changes nothing.
    BackUp,
}

impl Phase {
    /// Whether a target is as it was when this phase has failed.
    pub const fn changes_nothing(self) -> bool {
        matches!(self, Self::Provision | Self::Drain | Self::BackUp)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provision => "provision",
            Self::Drain => "drain",
            Self::Upgrade => "upgrade",
            Self::Verify => "verify",
            Self::Confirm => "confirm",
            Self::BackUp => "backup",
        })
    }
}

/// Identity of an action over crashes and restarts: the same plan, target and
/// phase always give the same id. Safe in file names and environment values.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ActionId(String);

impl ActionId {
    /// The id of `phase` on `target` under `plan`.
    pub fn new(plan: &str, target: &Target, phase: Phase) -> Self {
        let kind = match target {
            Target::Addon { .. } => "addon",
            Target::Backup => "backup",
            Target::ControlPlane { .. } => "cp",
            Target::Node { .. } => "node",
        };
        Self(format!("{plan}.{kind}.{}.{phase}", target.name()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One phase of one target.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Identity.
    pub id: ActionId,
    /// What it is done to.
    pub target: Target,
    /// What is done.
    pub phase: Phase,
    /// Version before.
    pub from: KubeVersion,
    /// Version after.
    pub to: KubeVersion,
}

impl Action {
    /// `phase` of `target` under `plan`.
    pub fn new(
        plan: &str,
        target: Target,
        phase: Phase,
        from: KubeVersion,
        to: KubeVersion,
    ) -> Self {
        Self {
            id: ActionId::new(plan, &target, phase),
            target,
            phase,
            from,
            to,
        }
    }

    /// Whether it takes the target back to an older version.
    pub fn is_way_back(&self) -> bool {
        self.to.is_older_than(&self.from)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::Backup => self.target.fmt(f),
            _ => write!(f, "{} {}", self.phase, self.target),
        }
    }
}

/// Where an action stands, as its driver sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum ActionStatus {
    /// Never begun, or nothing of it is left.
    Absent,
    /// Going on.
    Running,
    /// Done.
    Succeeded(Outcome),
    /// Over without success.
    Failed {
        /// Whether beginning it once more can help.
        retryable: bool,
        /// What went wrong.
        reason: String,
    },
}

/// What is in the slot after a successful action.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "slot")]
pub enum Outcome {
    /// The same node.
    #[default]
    SameNode,
    /// Other nodes, in its place.
    ReplacedBy {
        /// Their names.
        nodes: Vec<String>,
    },
}
