//! What bounds say, in sentences.

use migrate_core::Plan;
use migrate_core::cost::{BoundKind, Relief};

use super::text::{clock, percent};

/// What would make the best bound shorter, and by how much.
pub(super) fn relief(relief: &Relief) -> String {
    let what = match &relief.of {
        BoundKind::Slots { pool } => format!("one more node of pool {pool} away at once"),
        of => format!("one pod more that {of} lets go at once"),
    };
    format!("{what} would lower that by {} or more", clock(relief.saves))
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
