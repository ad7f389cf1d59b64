//! What an upgrade took, for predicting the next one and for rehearsing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{DocumentError, Moment, Phase, Target};
use serde::{Deserialize, Serialize};

use super::times::Times;
use super::{Job, Planner};

const WHAT: &str = "record of measured durations";

/// Version of the JSON form of [`Measured`]. A reader refuses a newer one.
pub const MEASURED_SCHEMA: u32 = 1;

/// What the phases of an upgrade took.
///
/// [`phases`](Self::phases) are the priors of a planner
/// ([`Planner::with_measured`](crate::Planner::with_measured)): means, good for
/// targets that were never measured. [`actions`](Self::actions) are what each
/// action of one run took, for rehearsing that very run
/// ([`rehearse`](crate::rehearse)).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// [`MEASURED_SCHEMA`] of the writer.
    pub schema: u32,
    /// When the rollout was started, if this is of one run: its windows are open
    /// or not by the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// By kind of target and phase.
    pub phases: Vec<MeasuredPhase>,
    /// By target and phase, in the order in which they ended; none where only
    /// means are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<MeasuredAction>,
}

/// One phase of all targets of a kind, added up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct MeasuredPhase {
    /// Of which targets.
    pub of: TargetKind,
    /// Which phase.
    pub phase: Phase,
    /// How many of them it was measured at.
    pub targets: NonZeroU32,
    /// What these took together, in milliseconds.
    pub total_millis: u64,
}

/// What one phase of one target took.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct MeasuredAction {
    /// The target, as it was planned.
    pub target: Target,
    /// Which phase.
    pub phase: Phase,
    /// From the decision to begin it to its last end, in milliseconds.
    pub millis: u64,
}

/// Targets that take alike.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum TargetKind {
    /// Addons of the policy.
    Addons,
    /// The second backup.
    Backup,
    /// Members of the control plane.
    Members,
    /// Nodes of one pool.
    Nodes {
        /// The pool.
        pool: String,
    },
}

impl TargetKind {
    /// The kind of `target`; `None` for one that this release does not know.
    pub fn of(target: &Target) -> Option<Self> {
        Some(match target {
            Target::Addon { .. } => Self::Addons,
            Target::Backup => Self::Backup,
            Target::ControlPlane { .. } => Self::Members,
            Target::Node { pool, .. } => Self::Nodes { pool: pool.clone() },
            _ => return None,
        })
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addons => f.write_str("addons"),
            Self::Backup => f.write_str("second backup"),
            Self::Members => f.write_str("control plane"),
            Self::Nodes { pool } => write!(f, "nodes of pool {pool}"),
        }
    }
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            schema: MEASURED_SCHEMA,
            started_at: None,
            phases: Vec::new(),
            actions: Vec::new(),
        }
    }
}

impl Measured {
    /// Adds what `phase` took at `targets` targets of `kind` together. Nothing
    /// for none.
    #[must_use]
    pub fn with_phase(
        mut self,
        kind: TargetKind,
        phase: Phase,
        targets: u32,
        total: Duration,
    ) -> Self {
        if let Some(targets) = NonZeroU32::new(targets) {
            self.phases.push(MeasuredPhase {
                of: kind,
                phase,
                targets,
                total_millis: millis(total),
            });
        }
        self
    }

    /// What each action of a run took, in the order in which they ended; the
    /// means follow from these.
    #[must_use]
    pub fn of_run(
        started_at: Moment,
        actions: impl IntoIterator<Item = (Target, Phase, Duration)>,
    ) -> Self {
        let mut sums: BTreeMap<(TargetKind, Phase), (u32, Duration)> = BTreeMap::new();
        let mut measured = Self {
            started_at: Some(started_at),
            ..Self::default()
        };
        for (target, phase, took) in actions {
            if let Some(kind) = TargetKind::of(&target) {
                let (targets, total) = sums.entry((kind, phase)).or_default();
                *targets += 1;
                *total = total.saturating_add(took);
            }
            measured.actions.push(MeasuredAction {
                target,
                phase,
                millis: millis(took),
            });
        }
        let sums = sums.into_iter();
        sums.fold(measured, |measured, ((kind, phase), (targets, total))| {
            measured.with_phase(kind, phase, targets, total)
        })
    }

    /// The JSON form, with line breaks, schema first.
    ///
    /// # Errors
    /// None for one that this crate made.
    pub fn to_json(&self) -> Result<String, DocumentError> {
        let json = serde_json::to_string_pretty(self);
        json.map_err(|source| DocumentError::Invalid { what: WHAT, source })
    }

    /// Reads the JSON form back.
    ///
    /// # Errors
    /// [`DocumentError::Newer`] for one that a newer release wrote,
    /// [`DocumentError::Invalid`] for what is none, also one that claims to have
    /// measured no target.
    pub fn from_json(json: &str) -> Result<Self, DocumentError> {
        DocumentError::read(WHAT, MEASURED_SCHEMA, json)
    }
}

/// Means by kind and phase.
#[derive(Clone, Debug)]
pub(super) struct Means(BTreeMap<(TargetKind, Phase), Duration>);

impl Planner<'_> {
    /// Predicts with what was measured before, in the place of the durations of
    /// the same phases: the mean of a pool, or of all workers for a pool that was
    /// never measured; what was never measured at all keeps its duration. Drains
    /// are stretched so that their mean is what was measured; how they differ
    /// within a pool is still told by the pods of each node.
    #[must_use]
    pub fn with_measured(mut self, measured: &Measured) -> Self {
        self.measured = Some(Means::of(measured));
        self
    }

    pub(super) fn member_times(&self) -> Times {
        let times = Times::of_member(&self.durations, self.policy);
        self.as_measured(times, &TargetKind::Members)
    }

    /// With what was measured of such targets, if anything was.
    pub(super) fn as_measured(&self, times: Times, kind: &TargetKind) -> Times {
        match &self.measured {
            Some(means) => times.measured(|phase| means.mean(kind, phase)),
            None => times,
        }
    }
}

impl Means {
    pub(super) fn of(measured: &Measured) -> Self {
        // One kind may be there several times, as in records put together.
        let mut sums: BTreeMap<(TargetKind, Phase), (u64, u64)> = BTreeMap::new();
        let workers = |kind: &TargetKind| match kind {
            TargetKind::Nodes { pool } if pool != CONTROL_PLANE_POOL => Some(any_worker()),
            _ => None,
        };
        for row in &measured.phases {
            for kind in [Some(row.of.clone()), workers(&row.of)]
                .into_iter()
                .flatten()
            {
                let (targets, total) = sums.entry((kind, row.phase)).or_default();
                *targets = targets.saturating_add(row.targets.get().into());
                *total = total.saturating_add(row.total_millis);
            }
        }
        let means = sums.into_iter().map(|(of, (targets, total))| {
            // At least one was measured; whole milliseconds, rounded up.
            let mean = total.div_ceil(targets.max(1));
            (of, Duration::from_millis(mean))
        });
        Self(means.collect())
    }

    /// What `phase` takes at targets of `kind`: of a pool that was never
    /// measured, what it takes at all workers.
    pub(super) fn mean(&self, kind: &TargetKind, phase: Phase) -> Option<Duration> {
        let own = self.0.get(&(kind.clone(), phase));
        let of_others = || match kind {
            TargetKind::Nodes { pool } if pool != CONTROL_PLANE_POOL => {
                self.0.get(&(any_worker(), phase))
            }
            _ => None,
        };
        own.or_else(of_others).copied()
    }
}

/// Stands for the nodes of all pools but the control plane's: no pool has the
/// empty name.
const fn any_worker() -> TargetKind {
    TargetKind::Nodes {
        pool: String::new(),
    }
}

/// Puts what was measured of each pool in the place of what is predicted.
pub(super) fn apply(means: &Means, jobs: &mut [Job<'_>]) {
    let mut drains: BTreeMap<String, (u32, Duration)> = BTreeMap::new();
    for job in jobs.iter() {
        let (nodes, predicted) = drains.entry(job.pool.to_owned()).or_default();
        *nodes += 1;
        *predicted = predicted.saturating_add(job.times.of(Phase::Drain));
    }
    for job in jobs {
        let pool = job.pool.to_owned();
        let (nodes, predicted) = drains.get(&pool).copied().unwrap_or_default();
        let kind = TargetKind::Nodes { pool };
        job.times = job.times.measured(|phase| means.mean(&kind, phase));
        if let Some(mean) = means.mean(&kind, Phase::Drain) {
            let total = mean.saturating_mul(nodes);
            job.times.scale_drain(total, predicted, mean);
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
