//! Bounds under a calendar: work goes on in openings alone.

use std::time::Duration;

use migrate_core::Moment;
use migrate_core::policy::Calendar;

/// How many openings are looked at: more than a day for ten years.
const OPENINGS: usize = 4096;

/// When `work` that goes on only while `calendar` is open is done, from `start`.
///
/// What is predicted ends in the window it begins in, so a bound on how long
/// something is at work is filled into openings one after the other. If there
/// are too few of them, what they hold is bound enough.
pub(crate) fn stretched(calendar: &Calendar, start: Moment, work: u64) -> u64 {
    let mut left = Duration::from_millis(work);
    let mut at = start;
    if calendar.is_always_open() || left.is_zero() {
        return work;
    }
    for _ in 0..OPENINGS {
        let Some(opening) = calendar.opening(at) else {
            break;
        };
        if left <= opening.length() {
            at = opening.from + left;
            break;
        }
        left = left.saturating_sub(opening.length());
        at = opening.until;
    }
    u64::try_from(at.since(start).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn calendar(windows: &str) -> Calendar {
        Calendar::new(serde_json::from_str(windows).unwrap(), Vec::new())
    }

    #[test]
    fn stretched_fills_one_opening_after_the_other() {
        let nights = calendar(r#"[{"from": "09:00", "to": "11:00"}]"#);
        let from = |hour: u64| Moment::from_millis(hour * HOUR);
        assert_eq!(stretched(&nights, from(9), HOUR), HOUR);
        assert_eq!(stretched(&nights, from(8), HOUR), 2 * HOUR);
        assert_eq!(stretched(&nights, from(10), 2 * HOUR), 24 * HOUR);
        assert_eq!(stretched(&nights, from(9), 5 * HOUR), 49 * HOUR);
        assert_eq!(stretched(&Calendar::default(), from(3), HOUR), HOUR);
    }

    #[test]
    fn stretched_ends_with_the_last_opening() {
        let once = calendar(r#"[{"from": "2026-12-24T12:00Z", "to": "2026-12-24T14:00Z"}]"#);
        let start = Moment::from_millis(1_798_070_400_000);
        assert_eq!(stretched(&once, start, 5 * HOUR), 14 * HOUR);
    }
}
