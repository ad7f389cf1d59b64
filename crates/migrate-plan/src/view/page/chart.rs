//! The schedule as a chart.

use std::collections::BTreeMap;

use migrate_core::{ClusterModel, Phase, Plan, Policy};

use super::super::closed::closed;
use super::super::rows::Row;
use crate::html::{Gantt, GanttBar, GanttGroup, GanttRow, Tone};

/// So many rows are drawn at most, beside pools that are smaller than a band is
/// worth.
const ROWS: usize = 300;
/// A pool of no more than this has rows in any case.
const SMALL: usize = 12;

/// Members and tasks first, then pools by their first begin; those that would make
/// it too long as bands.
pub(super) fn gantt(
    plan: &Plan,
    all: &[Row<'_>],
    cluster: Option<(&ClusterModel, &Policy)>,
) -> Gantt {
    let mut alone = Vec::new();
    let mut order: Vec<&str> = Vec::new();
    let mut pools: BTreeMap<&str, Vec<&Row<'_>>> = BTreeMap::new();
    for row in all {
        let Some(pool) = row.pool() else {
            alone.push(gantt_row(row));
            continue;
        };
        let of_pool = pools.entry(pool).or_default();
        if of_pool.is_empty() {
            order.push(pool);
        }
        of_pool.push(row);
    }
    let is_long = all.len() > ROWS;
    let name = "control plane and tasks".to_owned();
    let first = (!alone.is_empty()).then_some(GanttGroup::Rows { name, rows: alone });
    let pools = order.into_iter().map(|pool| {
        let rows = pools.remove(pool).unwrap_or_default();
        let name = format!("pool {pool}");
        if is_long && rows.len() > SMALL {
            let width = plan.pools.iter().find(|planned| planned.name == pool);
            return GanttGroup::Band {
                name,
                spans: rows.iter().filter_map(|row| row.work()).collect(),
                limit: width.map_or(0, |pool| pool.slots()),
            };
        }
        let rows = rows.into_iter().map(gantt_row).collect();
        GanttGroup::Rows { name, rows }
    });
    let groups = first.into_iter().chain(pools).collect();
    let closed = cluster.map(|(model, policy)| {
        let calendar = policy.rollout.calendar();
        closed(&calendar, model.taken_at, plan.makespan())
    });
    Gantt::new(groups, closed.unwrap_or_default())
}

fn gantt_row(row: &Row<'_>) -> GanttRow {
    let mut bars: Vec<GanttBar> = Vec::with_capacity(row.actions.len());
    for action in &row.actions {
        let tone = match action.phase {
            Phase::Provision => Tone::Provision,
            Phase::Drain => Tone::Drain,
            Phase::Upgrade => Tone::Upgrade,
            Phase::BackUp => Tone::BackUp,
            _ => Tone::Verify,
        };
        let before = bars.last().map(|bar| bar.end);
        if let Some(before) = before.filter(|_| action.phase == Phase::Confirm) {
            bars.push(GanttBar::new(Tone::Soak, before, action.start));
        }
        bars.push(GanttBar::new(tone, action.start, action.end));
    }
    let mut label = match row.slot {
        Some(slot) => slot.node.clone(),
        None => row.target.to_string(),
    };
    if row.slot.is_some() && !row.note.is_empty() {
        label = format!("{label} ({})", row.note);
    }
    GanttRow::new(label, bars)
}
