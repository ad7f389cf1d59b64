//! What a plan takes of each disruption budget.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use migrate_core::{BudgetKey, ClusterModel, Phase, Plan, Policy, Target};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::at_once::weighed_at_once;
use super::millis;
use super::text::{clock, columns};
use crate::intern::Interned;

/// How a schedule uses a disruption budget, real or assumed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct BudgetUse {
    /// The budget.
    pub budget: BudgetKey,
    /// How many pods it lets go at once while all it expects are healthy.
    pub allowed: u32,
    /// The most that the schedule holds at once.
    pub most_held: u32,
    /// How many drains take of it.
    pub drains: u32,
    /// How many of its pods move.
    pub pods: u32,
    /// How long any of it is held (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub busy: Duration,
    /// How long nothing more of it could have been given (milliseconds in JSON).
    #[serde(serialize_with = "millis::one")]
    pub full: Duration,
}

/// The budgets that drains of the schedule take of, those first that are full for
/// longest, then those that are busy for longest, then by name.
///
/// A drain takes as many pods of a budget as its node has, or as the budget
/// allows, and holds them from its begin to its end, as a rollout counts them.
/// Linear in pods and drains, but for sorting.
#[must_use]
pub fn budget_uses(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Vec<BudgetUse> {
    let interned = Interned::new(model, policy);
    let ids: FxHashMap<&str, u32> = model
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .zip(0..)
        .collect();
    let mut holds: BTreeMap<u32, Vec<(Duration, Duration, u32)>> = BTreeMap::new();
    for action in &plan.schedule {
        let (Phase::Drain, Target::Node { node, .. }) = (action.phase, &action.target) else {
            continue;
        };
        let Some(&id) = ids.get(node.as_str()) else {
            continue;
        };
        for touch in interned.touches(id) {
            let hold = (action.start, action.end, touch.pods);
            holds.entry(touch.budget).or_default().push(hold);
        }
    }
    let uses = holds.into_iter().filter_map(|(id, holds)| {
        let budget = interned.budgets.get(id as usize)?;
        let allowed = budget.steady.max(budget.allowed);
        let takes = holds.iter().map(|(start, end, pods)| {
            let share = (*pods).min(allowed).max(1);
            (*start, *end, share)
        });
        let steps = weighed_at_once(takes);
        let (mut busy, mut full) = (Duration::ZERO, Duration::ZERO);
        for (step, next) in steps.iter().zip(steps.iter().skip(1)) {
            let length = next.0.saturating_sub(step.0);
            if step.1 > 0 {
                busy = busy.saturating_add(length);
            }
            if step.1 >= allowed.max(1) {
                full = full.saturating_add(length);
            }
        }
        let pods = holds.iter().map(|(_, _, pods)| *pods);
        Some(BudgetUse {
            budget: budget.source.key(),
            allowed,
            most_held: steps.iter().map(|(_, held)| *held).max().unwrap_or(0),
            drains: u32::try_from(holds.len()).unwrap_or(u32::MAX),
            pods: pods.fold(0, u32::saturating_add),
            busy,
            full,
        })
    });
    let mut uses: Vec<BudgetUse> = uses.collect();
    uses.sort_by(|a, b| {
        let times = |of: &BudgetUse| (of.full, of.busy);
        times(b)
            .cmp(&times(a))
            .then_with(|| a.budget.cmp(&b.budget))
    });
    uses
}

/// Budgets as text in columns; `to_string` gives the table.
#[derive(Clone, Copy, Debug)]
pub struct BudgetTable<'u> {
    uses: &'u [BudgetUse],
    rows: usize,
}

impl<'u> BudgetTable<'u> {
    /// All of `uses`.
    pub const fn new(uses: &'u [BudgetUse]) -> Self {
        Self {
            uses,
            rows: usize::MAX,
        }
    }

    /// The first `rows` of them; how many more there are is said.
    #[must_use]
    pub const fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows;
        self
    }
}

impl fmt::Display for BudgetTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "BUDGET",
            "ALLOWED",
            "MOST HELD",
            "DRAINS",
            "PODS",
            "BUSY",
            "FULL",
        ];
        let row = |of: &BudgetUse| {
            let numbers = [of.allowed, of.most_held, of.drains, of.pods];
            let mut row = vec![of.budget.to_string()];
            row.extend(numbers.iter().map(ToString::to_string));
            row.extend([of.busy, of.full].map(clock));
            row
        };
        let header = header.map(str::to_owned).to_vec();
        let rows = self.uses.iter().take(self.rows).map(row);
        let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
        columns(f, &rows)?;
        match self.uses.len().checked_sub(self.rows) {
            Some(more @ 1..) => writeln!(f, "... and {more} more"),
            _ => Ok(()),
        }
    }
}
