//! The terms of the model that are more than a duration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bytes, BytesPerSecond, CostError, PodsPerSecond, TermKind};

/// Nodes that share a limit on how many are upgraded at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PoolLoad {
    /// Name of the pool.
    pub pool: String,
    /// Sum of the durations of its nodes, Σ dᵢ.
    pub work: Duration,
    /// Nodes upgraded at the same time, *w*.
    pub width: u32,
}

/// A disruption budget and how long the upgrade holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BudgetLoad {
    /// Namespace and name of the budget.
    pub budget: String,
    /// Sum over its pods of the time from eviction to the replacement being
    /// ready, Σ nᵢⱼ · hᵢ.
    pub held: Duration,
    /// Pods that may be disrupted at the same time, *a*ⱼ.
    pub allowed: u32,
}

/// Pods that have to be scheduled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Moves {
    /// Displaced pods, *M*.
    pub pods: u64,
    /// What the scheduler binds, *r*.
    pub rate: PodsPerSecond,
}

/// The quantities of T = N · D / S.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Transfer {
    /// *N*
    pub nodes: u64,
    /// *D*: bytes that really move for one node: images that are not there
    /// yet, local volumes. Network volumes are attached, not moved.
    pub per_node: Bytes,
    /// *S*: the narrowest of registry, network and storage, as a fair share.
    pub rate: BytesPerSecond,
}

/// The transfer law T = N · D / S, rounded down to the nanosecond; saturates
/// at [`Duration::MAX`].
///
/// # Errors
/// [`CostError::ZeroRate`] if `rate` is zero, even if nothing has to be moved.
///
/// ```
/// use std::time::Duration;
/// use migrate_core::cost::{Bytes, BytesPerSecond, transfer_time};
///
/// // 100 nodes, 2 GiB of images each, 128 MiB per second.
/// let time = transfer_time(100, Bytes::gib(2), BytesPerSecond::mib(128))?;
/// assert_eq!(time, Duration::from_secs(1600));
/// # Ok::<(), migrate_core::cost::CostError>(())
/// ```
pub fn transfer_time(
    nodes: u64,
    per_node: Bytes,
    rate: BytesPerSecond,
) -> Result<Duration, CostError> {
    // The product of two u64 always fits.
    let bytes = u128::from(nodes) * u128::from(per_node.0);
    over_rate(bytes, rate.0).ok_or(CostError::ZeroRate {
        term: TermKind::Bandwidth,
    })
}

impl PoolLoad {
    /// A pool with Σ dᵢ of work and `width` nodes at the same time.
    pub fn new(pool: impl Into<String>, work: Duration, width: u32) -> Self {
        Self {
            pool: pool.into(),
            work,
            width,
        }
    }

    /// Σ dᵢ / w.
    ///
    /// # Errors
    /// [`CostError::ZeroWidth`] if the width is zero although there is work.
    pub fn time(&self) -> Result<Duration, CostError> {
        shared(self.work, self.width).ok_or_else(|| CostError::ZeroWidth {
            pool: self.pool.clone(),
        })
    }
}

impl BudgetLoad {
    /// A budget held for Σ n·h, with `allowed` pods at the same time.
    pub fn new(budget: impl Into<String>, held: Duration, allowed: u32) -> Self {
        Self {
            budget: budget.into(),
            held,
            allowed,
        }
    }

    /// Σ nᵢⱼ · hᵢ / aⱼ.
    ///
    /// # Errors
    /// [`CostError::NothingAllowed`] if nothing is allowed although the budget
    /// has to give way.
    pub fn time(&self) -> Result<Duration, CostError> {
        shared(self.held, self.allowed).ok_or_else(|| CostError::NothingAllowed {
            budget: self.budget.clone(),
        })
    }
}

impl Moves {
    /// `pods` displaced pods, scheduled at `rate`.
    pub const fn new(pods: u64, rate: PodsPerSecond) -> Self {
        Self { pods, rate }
    }

    /// M / r.
    ///
    /// # Errors
    /// [`CostError::ZeroRate`] if the rate is zero.
    pub fn time(&self) -> Result<Duration, CostError> {
        over_rate(self.pods.into(), self.rate.0.into()).ok_or(CostError::ZeroRate {
            term: TermKind::Scheduler,
        })
    }
}

impl Transfer {
    /// `per_node` bytes for each of `nodes`, moved at `rate`. For nodes that
    /// differ, give the sum as one node.
    pub const fn new(nodes: u64, per_node: Bytes, rate: BytesPerSecond) -> Self {
        Self {
            nodes,
            per_node,
            rate,
        }
    }

    /// N · D / S, by [`transfer_time`].
    ///
    /// # Errors
    /// [`CostError::ZeroRate`] if the rate is zero.
    pub fn time(&self) -> Result<Duration, CostError> {
        transfer_time(self.nodes, self.per_node, self.rate)
    }
}

/// `amount / rate` as a time; `None` if the rate is zero.
pub(super) fn over_rate(amount: u128, rate: u64) -> Option<Duration> {
    let rate = u128::from(rate);
    let seconds = amount.checked_div(rate)?;
    // The remainder is below 2⁶⁴, the product below 2⁹⁴, the quotient below 10⁹.
    let nanos = (amount % rate) * 1_000_000_000 / rate;
    Some(match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(seconds), Ok(nanos)) => Duration::new(seconds, nanos),
        _ => Duration::MAX,
    })
}

/// `work / by`, where no work needs nothing to divide by.
fn shared(work: Duration, by: u32) -> Option<Duration> {
    if work.is_zero() {
        return Some(work);
    }
    work.checked_div(by)
}
