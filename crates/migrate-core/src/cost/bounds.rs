//! Lower bounds of a plan: what no order of its nodes can beat.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::millis;

/// Lower bounds of the time that a rollout takes, and what they say about it.
///
/// Unlike an [`Estimate`](super::Estimate), which says how long it may take,
/// each of these is a limit that every order of the nodes keeps to: under the
/// same policy, with the same durations, no plan is shorter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// The longest first, which is the best; of the budgets only the busiest.
    pub limits: Vec<Bound>,
    /// How much longer than the best bound the schedule is, in thousandths of
    /// the bound, rounded up.
    pub gap_permille: u32,
    /// What would make the best bound shorter, if anything simple does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relief: Option<Relief>,
    /// Of each pool the width beyond which nothing is gained.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub widths: Vec<UsefulWidth>,
}

/// One lower bound.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// What it comes from.
    pub kind: BoundKind,
    /// The rollout takes no less (milliseconds in JSON).
    #[serde(with = "millis")]
    pub time: Duration,
}

/// What a bound comes from.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[non_exhaustive]
pub enum BoundKind {
    /// Everything that goes one by one: members, their nodes, addons, backup.
    ControlPlane,
    /// How many nodes of a pool may be away at once.
    Slots {
        /// Name of the pool.
        pool: String,
    },
    /// How many pods a disruption budget lets go at once.
    Budget {
        /// The budget, as [`BudgetKey`](crate::BudgetKey) shows itself.
        budget: String,
    },
    /// How many pods may be displaced in a minute.
    Pace,
    /// The longest way of a single node.
    Node {
        /// Name of the node.
        node: String,
    },
    /// How much nodes have to spare for the pods of those that are away.
    Capacity {
        /// The resource: `cpu`, `memory`, `pods`, or an extended one.
        resource: String,
        /// How many nodes share it.
        nodes: u32,
    },
    /// The zones of a pool, of which one is in work at a time.
    Zones {
        /// Name of the pool.
        pool: String,
    },
    /// How fast the scheduler places displaced pods.
    Scheduler,
    /// How fast data come over a link that all nodes share: T = N · D / S.
    Bandwidth {
        /// Name of the [`Link`](super::Link).
        link: String,
    },
}

/// What one more of the bottleneck saves: one node of the pool away at once, or
/// one pod of the budget (one replica, where `minAvailable` is a number); of a link
/// what twice its throughput saves.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Relief {
    /// The bottleneck.
    pub of: BoundKind,
    /// How much shorter the best bound is then, at least (milliseconds in
    /// JSON). How much of it the schedule gains, only a what-if tells.
    #[serde(with = "millis")]
    pub saves: Duration,
}

/// How wide a pool need be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct UsefulWidth {
    /// Name of the pool.
    pub pool: String,
    /// How many of its nodes may be away now.
    pub width: u32,
    /// The smallest width that brings the bound of its slots within 2 % of the
    /// best of all other bounds: more than that gains nothing.
    pub useful: u32,
}

impl Bounds {
    /// Bounds of a rollout that is predicted to take `makespan`; `limits` in any
    /// order.
    pub fn new(mut limits: Vec<Bound>, makespan: Duration) -> Self {
        limits.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.kind.cmp(&b.kind)));
        let best = limits.first().map_or(0, |best| best.time.as_millis());
        let over = makespan.as_millis().saturating_sub(best);
        let gap = over
            .saturating_mul(1000)
            .checked_add(best.saturating_sub(1));
        let gap = gap.and_then(|gap| gap.checked_div(best)).unwrap_or(0);
        Self {
            limits,
            gap_permille: u32::try_from(gap).unwrap_or(u32::MAX),
            relief: None,
            widths: Vec::new(),
        }
    }

    /// The bottleneck: the longest bound.
    pub fn best(&self) -> Option<&Bound> {
        self.limits.first()
    }
}

impl Bound {
    /// `kind` takes `time`.
    pub const fn new(kind: BoundKind, time: Duration) -> Self {
        Self { kind, time }
    }
}

impl Relief {
    /// One more of `of` saves `saves`.
    pub const fn new(of: BoundKind, saves: Duration) -> Self {
        Self { of, saves }
    }
}

impl UsefulWidth {
    /// `pool` is `width` wide, and `useful` would do.
    pub fn new(pool: impl Into<String>, width: u32, useful: u32) -> Self {
        Self {
            pool: pool.into(),
            width,
            useful,
        }
    }
}

impl fmt::Display for BoundKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane => f.write_str("what goes one by one"),
            Self::Slots { pool } => write!(f, "slots of pool {pool}"),
            Self::Budget { budget } => f.write_str(budget),
            Self::Pace => f.write_str("pods displaced per minute"),
            Self::Node { node } => write!(f, "node {node} alone"),
            Self::Capacity { resource, nodes } => {
                write!(f, "{resource} that {nodes} nodes have to spare")
            }
            Self::Zones { pool } => write!(f, "zones of pool {pool}, one at a time"),
            Self::Scheduler => f.write_str("pods that the scheduler places one by one"),
            Self::Bandwidth { link } => write!(f, "what nodes and pods fetch over link {link}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first_and_the_gap_is_over_it() {
        let secs = Duration::from_secs;
        let node = BoundKind::Node { node: "n".into() };
        let limits = vec![
            Bound::new(BoundKind::ControlPlane, secs(10)),
            Bound::new(node.clone(), secs(30)),
        ];
        let bounds = Bounds::new(limits, secs(31));
        assert_eq!(bounds.best().map(|best| &best.kind), Some(&node));
        assert_eq!(bounds.gap_permille, 34);
        assert_eq!(Bounds::new(Vec::new(), secs(31)).gap_permille, 0);
    }
}
