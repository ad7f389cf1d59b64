//! What a forecast says.

use std::fmt;
use std::time::Duration;

use migrate_core::{Moment, Phase};
use serde::{Deserialize, Serialize};

use crate::TargetKind;

/// Being later than planned by less than this share of the plan is on track.
const TOLERANCE: f64 = 0.05;

/// Three quantiles, each a sample.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// As likely before as after.
    pub p50: Duration,
    /// Four times in five before.
    pub p80: Duration,
    /// Nineteen times in twenty before.
    pub p95: Duration,
}

/// When a rollout ends, from its start on.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a forecast has no effect"]
#[non_exhaustive]
pub struct Forecast {
    /// The start: when its first action began; when it would begin, if none has.
    pub start: Moment,
    /// In how many samples targets were left over when nothing more happened, as while
    /// a rollout is paused, or waits for what nobody knows the end of. Anything but 0 says that the
    /// quantiles are too early.
    pub unended: u32,
    /// Of the whole rollout.
    pub makespan: Quantiles,
    /// When the last of each kind of target ends.
    pub ends: Vec<(TargetKind, Quantiles)>,
    /// What the plan predicts.
    pub planned: Duration,
    /// By kind and phase: its ratio to what was expected, and how much work of it
    /// the plan has.
    pub(super) paces: Vec<(TargetKind, Phase, f64, Duration)>,
}

/// Whether a rollout ends when it was planned to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outlook {
    /// Within 5 % of the plan, or before.
    OnTrack,
    /// The median is later than the plan.
    Late {
        /// By how much.
        by: Duration,
        /// What adds most: kind, phase, and its ratio to what was expected. `None`
        /// if nothing takes longer, so that it is waiting that adds up.
        because: Option<(TargetKind, Phase, f64)>,
    },
}

impl Quantiles {
    /// Of at least one sample: the q-quantile of n is the ⌈q · n⌉-th.
    pub(super) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |percent: usize| {
            let rank = rank(samples.len(), percent);
            samples.get(rank).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p80: at(80),
            p95: at(95),
        }
    }

    /// Where what was taken lies among them, in words.
    pub fn rank(&self, took: Duration) -> &'static str {
        match took {
            took if took <= self.p50 => "no longer than P50",
            took if took <= self.p80 => "longer than P50, no longer than P80",
            took if took <= self.p95 => "longer than P80, no longer than P95",
            _ => "longer than P95",
        }
    }
}

/// Which of so many samples in order is their quantile, counted from 0.
pub(super) const fn rank(samples: usize, percent: usize) -> usize {
    (samples * percent).div_ceil(100).saturating_sub(1)
}

impl Forecast {
    /// Whether it ends as planned, and if not, why.
    pub fn outlook(&self) -> Outlook {
        let by = self.makespan.p50.saturating_sub(self.planned);
        if by.as_secs_f64() <= self.planned.as_secs_f64() * TOLERANCE {
            return Outlook::OnTrack;
        }
        let adds = |ratio: f64, work: Duration| (ratio - 1.0) * work.as_secs_f64();
        let slower = self.paces.iter().filter(|(_, _, ratio, _)| *ratio > 1.0);
        let worst = slower.max_by(|a, b| adds(a.2, a.3).total_cmp(&adds(b.2, b.3)));
        Outlook::Late {
            by,
            because: worst.map(|(kind, phase, ratio, _)| (kind.clone(), *phase, *ratio)),
        }
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnTrack => f.write_str("on track"),
            Self::Late { by, because } => {
                match by.as_secs() {
                    seconds @ 0..120 => write!(f, "late by {seconds} s")?,
                    seconds => write!(f, "late by {} min", seconds / 60)?,
                }
                match because {
                    Some((kind, phase, ratio)) => write!(
                        f,
                        " because {phase} of {kind} takes {ratio:.1} × what was expected"
                    ),
                    None => f.write_str(" because of waiting"),
                }
            }
        }
    }
}
