//! When nothing may begin.

use std::time::Duration;

use migrate_core::Moment;
use migrate_core::policy::Calendar;

/// From `start` for as long as `length`: when `calendar` is closed, as times from
/// `start`.
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
    while at < last {
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
