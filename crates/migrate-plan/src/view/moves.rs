//! How often pods move.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::Plan;
use migrate_core::policy::CONTROL_PLANE_POOL;

use super::rows::rows;

/// How often a pod of the workers moves in the mean, by the closed form
/// **1 + b/N**: *N* nodes, of which the schedule has *b* away at once at most.
///
/// Each pod leaves its node once. Those of the first *b* nodes, for which no
/// upgraded node is there yet, land on nodes that are still to be upgraded, and
/// move again; from then on as many upgraded nodes have come back as are needed,
/// if the scheduler prefers them. Pools are told apart, since pods of one seldom fit
/// another.
///
/// It is an estimate of the schedule, not a count of pods: it takes nodes to hold
/// equally many, and knows no room beyond that of upgraded nodes. `None` where no
/// worker is at work.
#[must_use]
pub fn estimated_moves_per_pod(plan: &Plan) -> Option<f64> {
    let mut spans: BTreeMap<&str, Vec<(Duration, Duration)>> = BTreeMap::new();
    let all = rows(plan);
    for row in &all {
        let worker = row.pool().filter(|pool| *pool != CONTROL_PLANE_POOL);
        if let (Some(pool), Some(work)) = (worker, row.work()) {
            spans.entry(pool).or_default().push(work);
        }
    }
    let nodes: usize = spans.values().map(Vec::len).sum();
    let at_once = spans.values().map(|spans| most_at_once(spans));
    let at_once: u32 = at_once.fold(0, u32::saturating_add);
    (nodes > 0).then(|| 1.0 + f64::from(at_once) / nodes as f64)
}

/// The most of `spans` that are under way at one time; what ends when another
/// begins is over.
pub(crate) fn most_at_once(spans: &[(Duration, Duration)]) -> u32 {
    let counts = at_once(spans).into_iter();
    counts.map(|(_, count)| count).max().unwrap_or(0)
}

/// How many of `spans` are under way from each time on, in order.
pub(crate) fn at_once(spans: &[(Duration, Duration)]) -> Vec<(Duration, u32)> {
    let weighed = spans.iter().map(|(start, end)| (*start, *end, 1));
    weighed_at_once(weighed)
}

/// The same where each has a weight.
pub(super) fn weighed_at_once(
    spans: impl Iterator<Item = (Duration, Duration, u32)>,
) -> Vec<(Duration, u32)> {
    let mut changes: Vec<(Duration, bool, u32)> = Vec::new();
    for (start, end, weight) in spans.filter(|(start, end, _)| start < end) {
        changes.push((start, true, weight));
        changes.push((end, false, weight));
    }
    // Ends come first: false is less than true.
    changes.sort_unstable();
    let mut count = 0_u32;
    let mut steps: Vec<(Duration, u32)> = Vec::new();
    for (at, begins, weight) in changes {
        count = match begins {
            true => count.saturating_add(weight),
            false => count.saturating_sub(weight),
        };
        match steps.last_mut() {
            Some(last) if last.0 == at => last.1 = count,
            _ => steps.push((at, count)),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_when_another_begins_is_no_longer_under_way() {
        let secs = Duration::from_secs;
        let spans = [(0, 5), (5, 9), (5, 7), (6, 6)].map(|(a, b)| (secs(a), secs(b)));
        let expected = [(0, 1), (5, 2), (7, 1), (9, 0)];
        assert_eq!(
            at_once(&spans),
            expected.map(|(at, count)| (secs(at), count))
        );
        assert_eq!(most_at_once(&spans), 2);
    }
}
