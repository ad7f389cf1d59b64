//! Where a run and its rehearsal part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use migrate_core::{Phase, PlannedAction, Target};
use serde::{Deserialize, Serialize};

use super::Timeline;

/// One thing in which a run is not as it was rehearsed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "difference"
)]
pub enum Difference {
    /// Rehearsed, and never begun in the run.
    Missing {
        /// Of which target.
        target: Target,
        /// Which phase.
        phase: Phase,
    },
    /// Begun in the run, and not in the rehearsal.
    Unexpected {
        /// Of which target.
        target: Target,
        /// Which phase.
        phase: Phase,
    },
    /// The first place where another action was begun than rehearsed.
    Order {
        /// How many had been begun before, in both.
        place: usize,
        /// What was rehearsed there.
        rehearsed: (Target, Phase),
        /// What the run began there.
        run: (Target, Phase),
    },
    /// Begun at another time.
    Begin {
        /// Of which target.
        target: Target,
        /// Which phase.
        phase: Phase,
        /// When in the rehearsal, from the start.
        rehearsed: Duration,
        /// When in the run, from the start.
        run: Duration,
    },
    /// Ended as a whole at another time.
    End {
        /// When in the rehearsal, from the start.
        rehearsed: Duration,
        /// When in the run, from the start.
        run: Duration,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { target, phase } => {
                write!(f, "{phase} of {target} was rehearsed and never begun")
            }
            Self::Unexpected { target, phase } => {
                write!(f, "{phase} of {target} was begun and not rehearsed")
            }
            Self::Order {
                place,
                rehearsed,
                run,
            } => write!(
                f,
                "after {place} begins {} of {} was rehearsed, and {} of {} begun",
                rehearsed.1, rehearsed.0, run.1, run.0
            ),
            Self::Begin {
                target,
                phase,
                rehearsed,
                run,
            } => write!(
                f,
                "{phase} of {target} was rehearsed at {} ms and begun at {} ms",
                rehearsed.as_millis(),
                run.as_millis()
            ),
            Self::End { rehearsed, run } => write!(
                f,
                "the end was rehearsed at {} ms and came at {} ms",
                rehearsed.as_millis(),
                run.as_millis()
            ),
        }
    }
}

pub(super) fn between(
    rehearsed: &Timeline,
    run: &Timeline,
    tolerance: Duration,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let (ours, theirs) = (names(rehearsed), names(run));
    let only = |of: &Timeline, others: &BTreeSet<(&Target, Phase)>| {
        let of = of.actions.iter().map(name);
        let only = of.filter(|of| !others.contains(of));
        only.map(|(target, phase)| (target.clone(), phase))
            .collect::<Vec<_>>()
    };
    let missing = only(rehearsed, &theirs).into_iter();
    found.extend(missing.map(|(target, phase)| Difference::Missing { target, phase }));
    let unexpected = only(run, &ours).into_iter();
    found.extend(unexpected.map(|(target, phase)| Difference::Unexpected { target, phase }));
    if found.is_empty() {
        let pairs = rehearsed.actions.iter().zip(&run.actions);
        let mut places = pairs.enumerate();
        if let Some((place, (a, b))) = places.find(|(_, (a, b))| name(a) != name(b)) {
            found.push(Difference::Order {
                place,
                rehearsed: (a.target.clone(), a.phase),
                run: (b.target.clone(), b.phase),
            });
        }
    }
    let begun: BTreeMap<_, _> = run.actions.iter().map(|it| (name(it), it.start)).collect();
    for action in &rehearsed.actions {
        if let Some(&run) = begun.get(&name(action))
            && run.abs_diff(action.start) > tolerance
        {
            found.push(Difference::Begin {
                target: action.target.clone(),
                phase: action.phase,
                rehearsed: action.start,
                run,
            });
        }
    }
    let ends = (rehearsed.end(), run.end());
    if ends.0.abs_diff(ends.1) > tolerance {
        found.push(Difference::End {
            rehearsed: ends.0,
            run: ends.1,
        });
    }
    found
}

fn name(action: &PlannedAction) -> (&Target, Phase) {
    (&action.target, action.phase)
}

fn names(of: &Timeline) -> BTreeSet<(&Target, Phase)> {
    of.actions.iter().map(name).collect()
}
