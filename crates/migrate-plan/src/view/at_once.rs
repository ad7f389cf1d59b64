//! How many are under way at once.

use std::time::Duration;

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
    }
}
