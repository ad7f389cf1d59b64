//! When nothing may begin.

use std::time::Duration;

use migrate_core::Moment;
use migrate_core::policy::Calendar;

/// How many times are told: more than one a day for ten years.
const MOST: usize = 4096;

/// From `start` for as long as `length`: when `calendar` is closed, as times from
/// `start`. The first [`MOST`] of them: a plan that somebody has edited may last for
/// ever.
pub(super) fn closed(
    calendar: &Calendar,
    start: Moment,
    length: Duration,
) -> Vec<(Duration, Duration)> {
    let mut closed = Vec::new();
    if calendar.is_always_open() {
        return closed;
    }
    let last = start + length;
    let mut at = start;
    while at < last && closed.len() < MOST {
        let opening = calendar.opening(at);
        let opens = opening.map_or(last, |opening| opening.from.min(last));
        if opens > at {
            closed.push((at.since(start), opens.since(start)));
        }
        match opening {
            Some(opening) if opening.until > at => at = opening.until,
            _ => break,
        }
    }
    closed
}
