//! The longest opening to come, asked for again and again as time goes on.

use std::collections::VecDeque;
use std::time::Duration;

use super::calendar::{Calendar, HORIZON, Opening};
use crate::Moment;

/// How long the longest opening of the coming year is, at times that do not go back.
///
/// What [`Calendar::longest_after`] says, which looks at a whole year each time it is
/// asked: here each opening is looked at once, however often is asked, and two more
/// for each question. One belongs to one calendar.
#[derive(Clone, Debug, Default)]
pub struct LongestAhead {
    /// Those that none after them is as long as, by time.
    peaks: VecDeque<Opening>,
    /// The end of the last opening that was looked at.
    seen_until: Moment,
}

impl LongestAhead {
    /// That nothing was asked yet.
    pub const fn new() -> Self {
        Self {
            peaks: VecDeque::new(),
            seen_until: Moment::EPOCH,
        }
    }

    /// The length of the longest opening of the year after `at`, which is no earlier
    /// than when it was asked before; zero if there is none.
    pub fn after(&mut self, calendar: &Calendar, at: Moment) -> Duration {
        self.after_by(|from| calendar.opening(from), at)
    }

    fn after_by(
        &mut self,
        mut opening: impl FnMut(Moment) -> Option<Opening>,
        at: Moment,
    ) -> Duration {
        let horizon = at + HORIZON;
        let Some(first) = opening(at).filter(|first| first.from < horizon) else {
            return Duration::ZERO;
        };
        // What is left of it counts, wherever it began.
        while self
            .peaks
            .front()
            .is_some_and(|peak| peak.from <= first.from)
        {
            self.peaks.pop_front();
        }
        // What is open for good, as seen from afar, may end after all.
        let is_for_ever = self.seen_until == Moment::LAST && first.until < Moment::LAST;
        if is_for_ever || self.seen_until < first.until {
            self.peaks.clear();
            self.seen_until = first.until;
        }
        while let Some(next) = opening(self.seen_until).filter(|next| next.from < horizon) {
            while self
                .peaks
                .back()
                .is_some_and(|last| last.length() <= next.length())
            {
                self.peaks.pop_back();
            }
            self.peaks.push_back(next);
            self.seen_until = next.until;
        }
        let longest = self.peaks.front().map_or(Duration::ZERO, Opening::length);
        longest.max(first.length())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Period;
    use super::*;

    const DAY: u64 = 86_400_000;

    fn period() -> impl Strategy<Value = Period> {
        let weekly = (
            prop::sample::subsequence(vec!["mon", "wed", "sat", "sun"], 0..4),
            0..24u32,
            1..24u32,
        );
        let weekly = weekly.prop_map(|(days, from, length)| {
            let to = (from + length) % 24;
            let days = serde_json::to_string(&days).unwrap();
            format!(r#"{{"days": {days}, "from": "{from:02}:00", "to": "{to:02}:00"}}"#)
        });
        let once = (0..1200u64, 1..900u64).prop_map(|(from, length)| {
            let at = |day: u64| Moment::from_millis(day * DAY / 2);
            let (from, to) = (at(from), at(from + length));
            format!(r#"{{"from": "{from}", "to": "{to}"}}"#)
        });
        let text = prop_oneof![3 => weekly, 1 => once];
        text.prop_map(|text| serde_json::from_str(&text).unwrap())
    }

    fn calendar() -> impl Strategy<Value = Calendar> {
        let some = |most| prop::collection::vec(period(), 0..most);
        (some(4), some(3)).prop_map(|(windows, blackouts)| Calendar::new(windows, blackouts))
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// It says what is found by looking at the whole year.
        #[test]
        fn it_is_the_longest_of_the_year_at_every_time(
            calendar in calendar(),
            steps in prop::collection::vec(0..60 * DAY, 1..40),
        ) {
            let mut ahead = LongestAhead::new();
            let mut at = Moment::from_millis(0);
            for step in steps {
                at = at + Duration::from_millis(step);
                let longest = calendar.longest_after(at);
                let longest = longest.map_or(Duration::ZERO, |opening| opening.length());
                prop_assert_eq!(ahead.after(&calendar, at), longest, "{}", at);
            }
        }
    }

    /// Ten years of daily windows, asked at each opening: looked at once each, and not a
    /// year at each.
    #[test]
    fn each_opening_is_looked_at_once() {
        let window = serde_json::from_str(r#"{"from": "09:00", "to": "11:00"}"#).unwrap();
        let calendar = Calendar::new(vec![window], Vec::new());
        let mut ahead = LongestAhead::new();
        let (days, mut looks) = (3_650, 0);
        for day in 0..days {
            let at = Moment::from_millis(day * DAY + 9 * DAY / 24);
            let look = |from| {
                looks += 1;
                calendar.opening(from)
            };
            assert_eq!(ahead.after_by(look, at), Duration::from_secs(7_200));
        }
        // The year ahead, then for each day its own, the one that is new, and the one after.
        assert!(looks <= 366 + 3 * days, "{looks}");
        assert!(ahead.peaks.len() <= 2, "{}", ahead.peaks.len());
    }
}
