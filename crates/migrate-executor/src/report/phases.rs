//! Predicted against actual, phase by phase.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{Phase, Target};
use migrate_plan::TargetKind;
use serde::{Deserialize, Serialize};

use crate::state::RunState;

/// One phase of all members, of all nodes of one pool, or of all addons, added
/// up; or the second backup.
///
/// The verification of a member, and of a control-plane node, includes the time
/// in which the cluster settles.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PhaseTimes {
    /// The pool; absent for the members of the control plane, addons and backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Whether it is of addons.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub addons: bool,
    /// Which phase.
    pub phase: Phase,
    /// For how many members or nodes it has ended, well or not.
    pub targets: u32,
    /// The plan's prediction for these.
    pub predicted: Duration,
    /// What they took, each from its first beginning to its last end, pauses
    /// before a retry included.
    pub actual: Duration,
}

impl PhaseTimes {
    /// Of which targets it is.
    pub fn kind(&self) -> TargetKind {
        match &self.pool {
            Some(pool) => TargetKind::Nodes { pool: pool.clone() },
            None if self.addons => TargetKind::Addons,
            None if self.phase == Phase::BackUp => TargetKind::Backup,
            None => TargetKind::Members,
        }
    }
}

/// Members first, then pools by name, phases in their order. What has not passed
/// is left out on both sides; what has after a retry counts from its first attempt.
pub(super) fn phases(state: &RunState) -> Vec<PhaseTimes> {
    let mut predicted: BTreeMap<(&Target, Phase), Duration> = BTreeMap::new();
    for action in &state.plan.schedule {
        let time = action.end.saturating_sub(action.start);
        predicted.insert((&action.target, action.phase), time);
    }
    let mut rows: BTreeMap<(Option<&str>, bool, Phase), PhaseTimes> = BTreeMap::new();
    for ((target, phase), span) in &state.spans {
        let Some(ended) = span.end.filter(|_| span.passed) else {
            continue;
        };
        let pool = match target {
            Target::Node { pool, .. } => Some(pool.as_str()),
            _ => None,
        };
        let addons = matches!(target, Target::Addon { .. });
        let of = (pool, addons, *phase);
        let row = rows.entry(of).or_insert_with(|| PhaseTimes {
            pool: pool.map(str::to_owned),
            addons,
            phase: *phase,
            targets: 0,
            predicted: Duration::ZERO,
            actual: Duration::ZERO,
        });
        row.targets += 1;
        row.predicted += predicted
            .get(&(target, *phase))
            .copied()
            .unwrap_or_default();
        row.actual += ended.since(span.begin);
    }
    rows.into_values().collect()
}
