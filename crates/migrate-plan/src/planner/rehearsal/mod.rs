//! The plan run once more with what was measured.

mod difference;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::{ClusterModel, Phase, Plan, PlannedAction, Policy, Target};
use serde::{Deserialize, Serialize};

pub use difference::Difference;

use super::measured::{Means, Measured, TargetKind};
use super::simulate::{Lasts, simulate};
use super::targets::{schedule, target_of};
use crate::Error;
use crate::intern::Interned;
use crate::machine::Machine;
use crate::rollout::checked_spec;

/// What an action of a document is taken to last at most. Plans and measurements are read
/// from files, and with windows each one that passes meanwhile is looked at.
pub(crate) const LONGEST_ACTION: Duration = Duration::from_secs(366 * 86_400);

/// What was begun, and when: by a rehearsal or by a run.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// In the order of their begins, with their times from the start.
    pub actions: Vec<PlannedAction>,
}

impl Timeline {
    /// `actions` in the order in which they were begun.
    pub const fn new(actions: Vec<PlannedAction>) -> Self {
        Self { actions }
    }

    /// When the last action ended, from the start.
    pub fn end(&self) -> Duration {
        let ends = self.actions.iter().map(|action| action.end);
        ends.max().unwrap_or_default()
    }

    /// Where a run parts from this rehearsal of it: first the actions that only
    /// one of them has, then, if they have the same, the first place where the
    /// order of begins is another, then every begin and the end that are further
    /// apart than `tolerance`. Nothing if they are alike.
    pub fn differences(&self, run: &Self, tolerance: Duration) -> Vec<Difference> {
        difference::between(self, run, tolerance)
    }
}

/// Runs `plan` as [`Planner`](crate::Planner) does, with the durations that were
/// measured instead of predicted ones.
///
/// An action lasts as long as it did in the run that was measured; one that was
/// not measured as long as its kind did in the mean, and else as the plan
/// predicts, a year at most. A node with pods that nobody has agreed to move begins only if
/// its drain was measured. Of those that end at one moment, the order of `measured` is
/// kept.
///
/// # Guarantees
/// - **Replay law of the planner**: for a run without failures, pauses, and budgets
///   or nodes changed by others, this is the order in which the run began its
///   actions. Where it is not, the planner believes something that the run was
///   not told, and [`Timeline::differences`] says where.
/// - Times are those of the run but for what the run waited before it was told
///   that something is free again.
///
/// # Errors
/// As [`Rollout::new`](crate::Rollout::new).
pub fn rehearse(
    model: &ClusterModel,
    policy: &Policy,
    plan: &Plan,
    measured: &Measured,
) -> Result<Timeline, Error> {
    let mut interned = Interned::new(model, policy);
    // Whom somebody has agreed to after all was drained.
    let drained = measured.actions.iter();
    let drained = drained.filter(|action| action.phase == Phase::Drain);
    let drained: BTreeSet<&str> = drained.map(|action| action.target.name()).collect();
    let is_left = |node: &u32| !drained.contains(model.nodes[*node as usize].name.as_str());
    interned.asking.retain(is_left);
    let spec = checked_spec(plan, model, policy, &interned)?;
    let mut machine = Machine::new(&spec, &interned);
    let exact: BTreeMap<(&Target, Phase), Lasts> = measured
        .actions
        .iter()
        .enumerate()
        .map(|(rank, action)| {
            let length = Duration::from_millis(action.millis);
            ((&action.target, action.phase), Lasts { length, rank })
        })
        .collect();
    let predicted = plan.schedule.iter();
    let predicted: BTreeMap<(&Target, Phase), Duration> = predicted
        .map(|it| ((&it.target, it.phase), it.end.saturating_sub(it.start)))
        .collect();
    let means = Means::of(measured);
    let lasts = |_: &Machine, target: u32, phase: Phase| {
        let target = target_of(plan, target);
        let of = (&target, phase);
        let lasts = exact.get(&of).copied().unwrap_or_else(|| {
            let mean = TargetKind::of(&target).and_then(|kind| means.mean(&kind, phase));
            let length = mean.or_else(|| predicted.get(&of).copied());
            Lasts {
                length: length.unwrap_or_default(),
                rank: usize::MAX,
            }
        });
        let length = lasts.length.min(LONGEST_ACTION);
        Lasts { length, ..lasts }
    };
    let start = measured.started_at.unwrap_or(model.taken_at);
    let steps = simulate(&mut machine, start, &interned, lasts, |_, _| {});
    Ok(Timeline::new(schedule(plan, start, &steps)))
}
