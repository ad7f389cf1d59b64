//! What a plan says, in sentences.

use migrate_core::cost::{BoundKind, Relief};
use migrate_core::{BudgetKey, BudgetKind, Plan, Relocation};

use super::text::{clock, percent};
use crate::Stuck;

/// What would make the best bound shorter, and by how much.
pub(super) fn relief(relief: &Relief) -> String {
    let what = match &relief.of {
        BoundKind::Slots { pool } | BoundKind::Zones { pool } => {
            format!("one more node of pool {pool} away at once")
        }
        BoundKind::Capacity { .. } => {
            "one more node like the largest of these, at the target already,".to_owned()
        }
        BoundKind::Bandwidth { link } => format!("twice the throughput of link {link}"),
        BoundKind::Budget { budget } if is_assumed(budget) => format!(
            "one pod more that {budget} lets go at once (by assumed-budgets.max-unavailable of the \
             policy, which is of all assumed budgets)"
        ),
        of => format!("one pod more that {of} lets go at once"),
    };
    format!("{what} would lower that by {} or more", clock(relief.saves))
}

/// Whether a budget, as a bound names it, is one that policy assumes.
fn is_assumed(budget: &str) -> bool {
    BudgetKey::from_shown(budget).is_some_and(|key| key.kind == BudgetKind::Assumed)
}

/// The bottleneck, how far the schedule is above it, and what would help; nothing
/// where nothing begins.
pub(super) fn bottleneck(plan: &Plan) -> Vec<String> {
    let Some((bounds, best)) = plan.bounds.as_ref().and_then(|of| Some((of, of.best()?))) else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "no order is faster than {}, the bottleneck is: {}; this one is {} above",
        clock(best.time),
        best.kind,
        percent(bounds.gap_permille)
    )];
    lines.extend(bounds.relief.as_ref().map(relief));
    lines
}

/// The version that everything is at when nothing is to be done.
pub(super) fn everything_at(plan: &Plan) -> String {
    let own = plan.own_targets();
    let own = own.map(|(pool, own)| format!(", pool {pool} at {own}"));
    plan.to.to_string() + &own.collect::<String>()
}

/// How likely actions are to be stuck; nothing where nobody knows.
pub(super) fn stuck(stuck: &[Stuck]) -> Option<String> {
    let likeliest = |a: &&Stuck, b: &&Stuck| a.probability.total_cmp(&b.probability);
    let Stuck {
        of,
        phase,
        probability,
        actions,
    } = stuck.iter().max_by(likeliest)?;
    let expected = |it: &Stuck| it.probability * f64::from(it.actions);
    let (all, count): (f64, u32) = (
        stuck.iter().map(expected).sum(),
        stuck.iter().map(|it| it.actions).sum(),
    );
    Some(format!(
        "stuck until a person comes, which is in none of these: {all:.1} of {count} actions, by \
         earlier runs; most likely {phase} of {of}, {:.1} % of {actions}",
        probability * 100.0
    ))
}

/// How often pods move.
pub(super) fn moves(relocation: &Relocation) -> String {
    let homeless = match relocation.homeless {
        0 => String::new(),
        homeless => format!("; {homeless} times a pod finds no room at once"),
    };
    format!(
        "{} pods move, {:.2} times each, and no placement has less than {:.2}{homeless}",
        relocation.pods,
        relocation.moves_per_pod(),
        relocation.least_moves_per_pod()
    )
}
