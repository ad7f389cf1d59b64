//! How long an upgrade takes, and what decides it.
//!
//! The simplest estimate is the transfer law **T = N · D / S**: *N* nodes, *D*
//! bytes that must move for each, *S* bytes per second. *S* must be a rate, or
//! the units do not give a time. [`transfer_time`] is exactly this law.
//!
//! It assumes one node after the other, no fixed costs, and all data moved. In
//! practice data movement is one of several limits that hold side by side, so
//! here the law is the *bandwidth term* of a larger model:
//!
//! ```text
//! T ≈ T_cp + max( Σ dᵢ / w          slots: node times over the width, per pool
//!               , Σ nᵢⱼ · hᵢ / aⱼ   budget j: time it is held over what it allows
//!               , M / r             scheduler: displaced pods over its rate
//!               , bytes / S         bandwidth: T = N · D / S
//!               , longest chain )   one node, however much runs beside it
//!          + tail                   the last slots running dry, final checks
//! ```
//!
//! with `T_cp` the control plane one by one: its members, then its nodes where they
//! come before the workers. The limits inside
//! `max` work in parallel, so the largest decides; [`Estimate`] names it, since
//! that is the one worth changing. A model in which only the transfer is set
//! gives T = N · D / S to the nanosecond. A [`Link`] that was measured ([`Link::fit`])
//! gives *D* and *S* a place in the schedule of a plan.
//!
//! The result is a lower bound in spirit: no schedule beats any of the limits,
//! real ones come close. [`PhaseDurations`] holds the durations to begin with
//! before any have been measured.
//!
//! All results are [`Duration`]s, rounded down to whole nanoseconds; what does
//! not fit saturates at [`Duration::MAX`].

mod bounds;
mod link;
mod phases;
mod terms;
mod uncertainty;
mod units;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::bounds::{Bound, BoundKind, Bounds, Relief, UsefulWidth};
pub use self::link::{FitError, Link, TransferSample};
pub use self::phases::PhaseDurations;
pub use self::terms::{BudgetLoad, Moves, PoolLoad, Transfer, transfer_time};
pub use self::uncertainty::{Belief, Draws, Sample, Tail, Tells};
pub use self::units::{Bytes, BytesPerSecond, PodsPerSecond};

/// What is known about an upgrade, as input of [`estimate`](Self::estimate).
/// What is left at its default does not limit it.
///
/// ```
/// use std::time::Duration;
/// use migrate_core::cost::{BudgetLoad, CostModel, PoolLoad, TermKind};
///
/// let minutes = |m: u64| Duration::from_secs(60 * m);
/// let model = CostModel::default()
///     .with_control_plane(vec![minutes(5); 3])
///     .with_pool(PoolLoad::new("workers", minutes(5) * 12, 4))
///     .with_budget(BudgetLoad::new("shop/db", minutes(2) * 9, 1));
/// let estimate = model.estimate()?;
/// assert_eq!(estimate.total, minutes(15 + 18)); // twelve nodes by four would be 15
/// assert_eq!(estimate.bottleneck, TermKind::Budget { budget: "shop/db".into() });
/// # Ok::<(), migrate_core::cost::CostError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct CostModel {
    /// Duration of each control-plane member; they go one at a time, before
    /// everything else.
    pub control_plane: Vec<Duration>,
    /// Pools of nodes. They are upgraded side by side; add one more over all
    /// nodes if there is also a limit for the whole cluster.
    pub pools: Vec<PoolLoad>,
    /// Disruption budgets, real or assumed.
    pub budgets: Vec<BudgetLoad>,
    /// Pods that the scheduler has to place again.
    pub moves: Option<Moves>,
    /// Data that has to be moved.
    pub transfer: Option<Transfer>,
    /// The longest time one node needs, from cordon to uncordon.
    pub longest_chain: Duration,
    /// What comes after the last node has begun: the last slots running dry
    /// and the final verification.
    pub tail: Duration,
}

/// The answer of [`CostModel::estimate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "an estimate has no effect"]
#[non_exhaustive]
pub struct Estimate {
    /// The whole upgrade.
    pub total: Duration,
    /// The term that adds most to the total: the largest inside `max`, or the
    /// control plane or the tail if one of these is longer. Of equal terms the
    /// first in the order of the formula. Meaningless if `total` is zero.
    pub bottleneck: TermKind,
    /// Every term that was given, in the order of the formula; control plane,
    /// longest chain and tail always.
    pub terms: Vec<Term>,
}

/// One term of the model, evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Term {
    /// Which one.
    pub kind: TermKind,
    /// How long the upgrade takes if nothing else limits it.
    pub duration: Duration,
}

/// Name of a term.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[non_exhaustive]
pub enum TermKind {
    /// The members of the control plane, one by one.
    ControlPlane,
    /// How many nodes of a pool are upgraded at the same time.
    Slots {
        /// Name of the pool.
        pool: String,
    },
    /// How many pods a disruption budget lets go at the same time.
    Budget {
        /// Namespace and name of the budget.
        budget: String,
    },
    /// How fast the scheduler places displaced pods.
    Scheduler,
    /// How fast data moves: T = N · D / S.
    Bandwidth,
    /// The longest single node.
    LongestChain,
    /// What comes after the last node has begun.
    Tail,
}

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CostError {
    /// A rate is zero: nothing would ever arrive.
    #[error("{term}: the rate is zero; give the rate that was measured, or leave the term out")]
    ZeroRate {
        /// The term it belongs to.
        term: TermKind,
    },
    /// A pool with work has width zero: none of its nodes is ever upgraded.
    #[error("pool {pool}: no node may be upgraded; allow at least one at a time")]
    ZeroWidth {
        /// Name of the pool.
        pool: String,
    },
    /// A budget that must give way allows no disruption at all.
    #[error(
        "budget {budget}: no disruption is ever allowed, so the pods it covers never leave; \
         add a replica or relax the budget"
    )]
    NothingAllowed {
        /// Namespace and name of the budget.
        budget: String,
    },
}

impl CostModel {
    /// Sets the duration of each control-plane member.
    #[must_use]
    pub fn with_control_plane(mut self, members: impl Into<Vec<Duration>>) -> Self {
        self.control_plane = members.into();
        self
    }

    /// Adds a pool.
    #[must_use]
    pub fn with_pool(mut self, pool: PoolLoad) -> Self {
        self.pools.push(pool);
        self
    }

    /// Adds a disruption budget.
    #[must_use]
    pub fn with_budget(mut self, budget: BudgetLoad) -> Self {
        self.budgets.push(budget);
        self
    }

    /// Sets the pods to be scheduled again.
    #[must_use]
    pub fn with_moves(mut self, moves: Moves) -> Self {
        self.moves = Some(moves);
        self
    }

    /// Sets the data to be moved.
    #[must_use]
    pub fn with_transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = Some(transfer);
        self
    }

    /// Sets the longest time one node needs.
    #[must_use]
    pub fn with_longest_chain(mut self, duration: Duration) -> Self {
        self.longest_chain = duration;
        self
    }

    /// Sets what comes after the last node has begun.
    #[must_use]
    pub fn with_tail(mut self, duration: Duration) -> Self {
        self.tail = duration;
        self
    }

    /// Evaluates the formula of the [module documentation](self).
    ///
    /// # Errors
    /// [`CostError`] if a limit would make the upgrade last for ever: a rate
    /// of zero, a pool or budget that allows nothing although there is
    /// something to do. Pools and budgets without work are never an error.
    pub fn estimate(&self) -> Result<Estimate, CostError> {
        let control_plane = self
            .control_plane
            .iter()
            .fold(Duration::ZERO, |sum, member| sum.saturating_add(*member));
        let parallel = self.parallel_terms()?;
        let limit = parallel
            .iter()
            .map(|term| term.duration)
            .max()
            .unwrap_or_default();
        let total = control_plane
            .saturating_add(limit)
            .saturating_add(self.tail);

        let mut terms = vec![Term::new(TermKind::ControlPlane, control_plane)];
        terms.extend(parallel);
        terms.push(Term::new(TermKind::Tail, self.tail));
        let mut bottleneck = (&TermKind::ControlPlane, control_plane);
        for term in &terms {
            if term.duration > bottleneck.1 {
                bottleneck = (&term.kind, term.duration);
            }
        }
        Ok(Estimate {
            total,
            bottleneck: bottleneck.0.clone(),
            terms,
        })
    }

    /// The arguments of `max`.
    fn parallel_terms(&self) -> Result<Vec<Term>, CostError> {
        let mut terms = Vec::with_capacity(self.pools.len() + self.budgets.len() + 3);
        for load in &self.pools {
            let pool = load.pool.clone();
            terms.push(Term::new(TermKind::Slots { pool }, load.time()?));
        }
        for load in &self.budgets {
            let budget = load.budget.clone();
            terms.push(Term::new(TermKind::Budget { budget }, load.time()?));
        }
        if let Some(moves) = &self.moves {
            terms.push(Term::new(TermKind::Scheduler, moves.time()?));
        }
        if let Some(transfer) = &self.transfer {
            terms.push(Term::new(TermKind::Bandwidth, transfer.time()?));
        }
        terms.push(Term::new(TermKind::LongestChain, self.longest_chain));
        Ok(terms)
    }
}

impl Term {
    const fn new(kind: TermKind, duration: Duration) -> Self {
        Self { kind, duration }
    }
}

impl fmt::Display for TermKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane => f.write_str("control plane"),
            Self::Slots { pool } => write!(f, "slots of pool {pool}"),
            Self::Budget { budget } => write!(f, "budget {budget}"),
            Self::Scheduler => f.write_str("scheduler"),
            Self::Bandwidth => f.write_str("bandwidth (N · D / S)"),
            Self::LongestChain => f.write_str("longest single node"),
            Self::Tail => f.write_str("tail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_named_bottleneck_is_the_largest_contribution() {
        let model = CostModel::default()
            .with_control_plane([secs(100), secs(50)])
            .with_pool(PoolLoad::new("a", secs(800), 4))
            .with_pool(PoolLoad::new("b", secs(600), 2))
            .with_budget(BudgetLoad::new("ns/x", secs(250), 1))
            .with_moves(Moves::new(1000, PodsPerSecond(4)))
            .with_transfer(Transfer::new(2, Bytes(100), BytesPerSecond(1)))
            .with_longest_chain(secs(280))
            .with_tail(secs(30));
        let estimate = model.estimate().unwrap();
        assert_eq!(estimate.total, secs(150 + 300 + 30));
        assert_eq!(estimate.bottleneck, TermKind::Slots { pool: "b".into() });
        let terms: Vec<_> = estimate
            .terms
            .iter()
            .map(|t| (t.kind.to_string(), t.duration.as_secs()))
            .collect();
        assert_eq!(
            terms,
            [
                ("control plane".into(), 150),
                ("slots of pool a".into(), 200),
                ("slots of pool b".into(), 300),
                ("budget ns/x".into(), 250),
                ("scheduler".into(), 250),
                ("bandwidth (N · D / S)".into(), 200),
                ("longest single node".into(), 280),
                ("tail".to_owned(), 30),
            ]
        );
        let slow_control_plane = model.with_control_plane([secs(301)]).estimate().unwrap();
        assert_eq!(slow_control_plane.bottleneck, TermKind::ControlPlane);
    }

    #[test]
    fn what_would_last_for_ever_is_an_error() {
        let transfer = Transfer::new(0, Bytes(1), BytesPerSecond(0));
        let error = CostModel::default()
            .with_transfer(transfer)
            .estimate()
            .unwrap_err();
        assert_eq!(
            error,
            CostError::ZeroRate {
                term: TermKind::Bandwidth
            }
        );
        let moves = Moves::new(1, PodsPerSecond(0));
        let error = CostModel::default()
            .with_moves(moves)
            .estimate()
            .unwrap_err();
        assert_eq!(
            error,
            CostError::ZeroRate {
                term: TermKind::Scheduler
            }
        );
        let budget = |held| {
            CostModel::default()
                .with_budget(BudgetLoad::new("ns/x", held, 0))
                .estimate()
        };
        assert_eq!(
            budget(secs(1)).unwrap_err(),
            CostError::NothingAllowed {
                budget: "ns/x".into()
            }
        );
        assert!(budget(Duration::ZERO).is_ok());
        let pool = CostModel::default().with_pool(PoolLoad::new("p", secs(1), 0));
        assert_eq!(
            pool.estimate().unwrap_err(),
            CostError::ZeroWidth { pool: "p".into() }
        );
    }

    #[test]
    fn overflow_saturates() {
        let time = transfer_time(u64::MAX, Bytes(u64::MAX), BytesPerSecond(1)).unwrap();
        assert_eq!(time, Duration::MAX);
        let model = CostModel::default()
            .with_control_plane([Duration::MAX, Duration::MAX])
            .with_tail(secs(1));
        assert_eq!(model.estimate().unwrap().total, Duration::MAX);
    }

    proptest! {
        #[test]
        fn the_transfer_law_is_the_special_case(
            nodes in 0u64..100_000, per_node in any::<u32>(), rate in 1u64..=u64::from(u32::MAX)
        ) {
            let transfer = Transfer::new(nodes, Bytes(per_node.into()), BytesPerSecond(rate));
            let estimate = CostModel::default().with_transfer(transfer).estimate().unwrap();
            // N · D / S in nanoseconds, written down once more.
            let expected =
                u128::from(nodes) * u128::from(per_node) * 1_000_000_000 / u128::from(rate);
            prop_assert_eq!(estimate.total.as_nanos(), expected);
            if expected > 0 {
                prop_assert_eq!(estimate.bottleneck, TermKind::Bandwidth);
            }
        }

        /// N equal nodes one after the other, each needing D / S, are the same
        /// law seen as slots of width one.
        #[test]
        fn serial_slots_give_the_transfer_law(nodes in 1u32..10_000, seconds in 0u64..10_000) {
            let work = secs(seconds) * nodes;
            let slots = CostModel::default().with_pool(PoolLoad::new("all", work, 1));
            let law = transfer_time(nodes.into(), Bytes(seconds * 7), BytesPerSecond(7)).unwrap();
            prop_assert_eq!(slots.estimate().unwrap().total, law);
        }

        #[test]
        fn no_term_is_beaten(
            control_plane in prop::collection::vec(0u64..1000, 0..4),
            pools in prop::collection::vec((0u64..10_000, 1u32..20), 0..4),
            budgets in prop::collection::vec((0u64..10_000, 1u32..20), 0..4),
            chain in 0u64..1000, tail in 0u64..1000,
        ) {
            let mut model = CostModel::default()
                .with_control_plane(control_plane.into_iter().map(secs).collect::<Vec<_>>())
                .with_longest_chain(secs(chain))
                .with_tail(secs(tail));
            for (work, width) in pools {
                model = model.with_pool(PoolLoad::new("p", secs(work), width));
            }
            for (held, allowed) in budgets {
                model = model.with_budget(BudgetLoad::new("b", secs(held), allowed));
            }
            let estimate = model.estimate().unwrap();
            let longest = estimate.terms.iter().map(|t| t.duration).max().unwrap();
            prop_assert!(estimate.terms.iter().all(|t| t.duration <= estimate.total));
            prop_assert!(estimate
                .terms
                .iter()
                .any(|t| t.kind == estimate.bottleneck && t.duration == longest));
        }
    }
}
