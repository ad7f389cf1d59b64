//! Windows and blackouts: when something may begin, in UTC.
//!
//! Pure arithmetic on [`Moment`]s: a week has 7 · 24 h, no time zone, no leap
//! second. 1970-01-01 was a Thursday.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// How far is looked ahead. What stays open for longer is open for good.
pub(super) const HORIZON: Duration = Duration::from_millis(366 * DAY);

/// A day of the week.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "their names say it")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];
}

/// A time that comes once, or every week on some days.
///
/// ```
/// use migrate_core::policy::Period;
///
/// let period = |json: &str| serde_json::from_str::<Period>(json);
/// // Ends on the next day. Without `days`: every day.
/// assert!(period(r#"{"days": ["fri", "sat"], "from": "22:00", "to": "04:00"}"#).is_ok());
/// assert!(period(r#"{"from": "2026-12-24T12:00Z", "to": "2026-12-27T06:00Z"}"#).is_ok());
/// assert!(period(r#"{"from": "22:00", "to": "25:00"}"#).is_err());
/// ```
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct Period(Kind);

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Once {
        from: Moment,
        to: Moment,
    },
    Weekly {
        days: BTreeSet<Weekday>,
        from: u64,
        to: u64,
    },
}

/// As it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Text {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    days: BTreeSet<Weekday>,
    from: String,
    to: String,
}

/// A time in which something may begin: from `from` until before `until`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opening {
    /// Its beginning, or when was asked for, if that is later.
    pub from: Moment,
    /// Its end; the last [`Moment`] of all when it is open for good.
    pub until: Moment,
}

impl Opening {
    /// How long it is.
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// Windows without their blackouts. Without a window, any time is one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Calendar {
    windows: Vec<Period>,
    blackouts: Vec<Period>,
}

impl Calendar {
    /// Open in `windows`, or always if there is none, and closed in `blackouts`.
    pub fn new(windows: Vec<Period>, blackouts: Vec<Period>) -> Self {
        Self { windows, blackouts }
    }

    /// Whether it is never closed.
    pub fn is_always_open(&self) -> bool {
        self.windows.is_empty() && self.blackouts.is_empty()
    }

    /// The opening at `at`, or else the first after it within a year.
    pub fn opening(&self, at: Moment) -> Option<Opening> {
        let horizon = at + HORIZON;
        let mut from = at;
        while from < horizon {
            let dark = until(&self.blackouts, from);
            if dark > from {
                from = dark;
                continue;
            }
            let open = match self.windows.is_empty() {
                true => Moment::LAST,
                false => until(&self.windows, from),
            };
            if open > from {
                let dark = next(&self.blackouts, from).unwrap_or(Moment::LAST);
                let until = open.min(dark);
                return Some(Opening { from, until });
            }
            from = next(&self.windows, from)?;
        }
        None
    }

    /// The longest opening of the year after `at`. Looks at all of it: who asks again as
    /// time goes on has [`LongestAhead`](super::LongestAhead).
    pub fn longest_after(&self, at: Moment) -> Option<Opening> {
        let mut longest: Option<Opening> = None;
        let mut from = at;
        while let Some(opening) = self.opening(from).filter(|o| o.from < at + HORIZON) {
            if longest.is_none_or(|longest| longest.length() < opening.length()) {
                longest = Some(opening);
            }
            from = opening.until;
        }
        longest
    }
}

/// The end of the time without a gap that `periods` cover from `at` on; `at` if
/// none covers it.
fn until(periods: &[Period], at: Moment) -> Moment {
    let mut end = at;
    while end < at + HORIZON {
        let further = periods.iter().filter_map(|period| period.covers(end)).max();
        match further {
            Some(further) => end = further,
            None => return end,
        }
    }
    Moment::LAST
}

/// When the first of `periods` begins after `at`.
fn next(periods: &[Period], at: Moment) -> Option<Moment> {
    periods
        .iter()
        .filter_map(|period| period.begins_after(at))
        .min()
}

impl Period {
    /// When it ends, if `at` is in it.
    fn covers(&self, at: Moment) -> Option<Moment> {
        match &self.0 {
            Kind::Once { from, to } => (*from <= at && at < *to).then_some(*to),
            Kind::Weekly { days, from, to } => {
                let today = at.as_millis() / DAY;
                let of_day = |day: u64| {
                    let length = if to > from {
                        to - from
                    } else {
                        to + DAY - from
                    };
                    let begin = day.saturating_mul(DAY).saturating_add(*from);
                    let end = begin.saturating_add(length);
                    let is_in = begin <= at.as_millis() && at.as_millis() < end;
                    (days.contains(&weekday(day)) && is_in).then_some(Moment::from_millis(end))
                };
                [today.checked_sub(1), Some(today)]
                    .into_iter()
                    .flatten()
                    .filter_map(of_day)
                    .max()
            }
        }
    }

    fn begins_after(&self, at: Moment) -> Option<Moment> {
        match &self.0 {
            Kind::Once { from, .. } => (*from > at).then_some(*from),
            Kind::Weekly { days, from, .. } => {
                let today = at.as_millis() / DAY;
                let mut begins = (today..=today.saturating_add(7))
                    .filter(|day| days.contains(&weekday(*day)))
                    .map(|day| Moment::from_millis(day.saturating_mul(DAY).saturating_add(*from)));
                begins.find(|begin| *begin > at)
            }
        }
    }
}

fn weekday(day: u64) -> Weekday {
    Weekday::ALL[((day + 3) % 7) as usize]
}

impl TryFrom<Text> for Period {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        let Text { days, from, to } = text;
        if let (Some(start), Some(end)) = (time_of_day(&from), time_of_day(&to)) {
            if start == end || start == DAY {
                return Err(format!("from {from} to {to} is no time"));
            }
            let every_day = || Weekday::ALL.into_iter().collect();
            let days = if days.is_empty() { every_day() } else { days };
            let (from, to) = (start, end);
            return Ok(Self(Kind::Weekly { days, from, to }));
        }
        let (Some(start), Some(end)) = (date(&from), date(&to)) else {
            let expected = "both are to be times of day, as 22:00, or both dates in UTC, as \
                            2026-12-24T12:00Z";
            return Err(format!("from {from} to {to}: {expected}"));
        };
        if !days.is_empty() {
            return Err(format!("from {from} to {to} is once: it has no days"));
        }
        if start >= end {
            return Err(format!("from {from} to {to} is no time"));
        }
        Ok(Self(Kind::Once {
            from: start,
            to: end,
        }))
    }
}

impl From<Period> for Text {
    fn from(period: Period) -> Self {
        let clock =
            |millis: u64| format!("{:02}:{:02}", millis / MINUTE / 60, millis / MINUTE % 60);
        match period.0 {
            Kind::Once { from, to } => Self {
                days: BTreeSet::new(),
                from: from.to_string(),
                to: to.to_string(),
            },
            Kind::Weekly { days, from, to } => Self {
                days,
                from: clock(from),
                to: clock(to),
            },
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Text { days, from, to } = Text::from(self.clone());
        let days: Vec<_> = days.iter().map(|day| format!("{day:?} ")).collect();
        write!(f, "{}{from} to {to}", days.concat())
    }
}

/// `HH:MM` in milliseconds; `24:00` is the end of the day.
fn time_of_day(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let millis = (hours * 60 + minutes) * MINUTE;
    (minutes < 60 && millis <= DAY).then_some(millis)
}

fn date(text: &str) -> Option<Moment> {
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(timestamp.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(json: &str) -> Period {
        serde_json::from_str(json).unwrap()
    }

    fn at(text: &str) -> Moment {
        date(text).unwrap()
    }

    fn opening(calendar: &Calendar, when: &str) -> Option<(String, String)> {
        let opening = calendar.opening(at(when))?;
        let short = |moment: Moment| moment.to_string()[..16].to_owned();
        Some((short(opening.from), short(opening.until)))
    }

    fn some(from: &str, until: &str) -> Option<(String, String)> {
        Some((from.to_owned(), until.to_owned()))
    }

    #[test]
    fn a_weekly_window_ends_on_the_next_day() {
        // 2026-11-28 is a Saturday.
        let nights = period(r#"{"days": ["sat"], "from": "22:00", "to": "04:00"}"#);
        let calendar = Calendar::new(vec![nights], Vec::new());
        let this = some("2026-11-28T22:00", "2026-11-29T04:00");
        assert_eq!(opening(&calendar, "2026-11-28T09:00Z"), this);
        let rest = some("2026-11-29T03:59", "2026-11-29T04:00");
        assert_eq!(opening(&calendar, "2026-11-29T03:59Z"), rest);
        let next = some("2026-12-05T22:00", "2026-12-06T04:00");
        assert_eq!(opening(&calendar, "2026-11-29T04:00Z"), next);
    }

    #[test]
    fn blackouts_cut_windows_and_joined_windows_are_one() {
        let day = period(r#"{"from": "08:00", "to": "12:00"}"#);
        let noon = period(r#"{"from": "12:00", "to": "14:00"}"#);
        let freeze = period(r#"{"from": "2026-12-24T10:00Z", "to": "2026-12-27T09:00Z"}"#);
        let calendar = Calendar::new(vec![day, noon], vec![freeze]);
        let before = some("2026-12-24T08:00", "2026-12-24T10:00");
        assert_eq!(opening(&calendar, "2026-12-23T20:00Z"), before);
        let after = some("2026-12-27T09:00", "2026-12-27T14:00");
        assert_eq!(opening(&calendar, "2026-12-24T10:00Z"), after);
        let longest = calendar.longest_after(at("2026-12-23T20:00Z")).unwrap();
        assert_eq!(longest.length(), Duration::from_secs(6 * 3600));
    }

    #[test]
    fn it_may_be_always_open_or_never_again() {
        assert!(Calendar::default().is_always_open());
        let always = Calendar::default().opening(Moment::EPOCH).unwrap();
        assert_eq!(always.until, Moment::LAST);
        let all_day = period(r#"{"from": "00:00", "to": "24:00"}"#);
        let joined = Calendar::new(vec![all_day], Vec::new());
        assert_eq!(joined.opening(Moment::EPOCH).unwrap().until, Moment::LAST);
        let past = period(r#"{"from": "2026-01-01T00:00Z", "to": "2026-01-02T00:00Z"}"#);
        let over = Calendar::new(vec![past], Vec::new());
        assert_eq!(over.opening(at("2026-01-02T00:00Z")), None);
        assert_eq!(over.longest_after(at("2026-01-02T00:00Z")), None);
    }

    #[test]
    fn what_is_no_time_is_refused_and_the_rest_survives_json() {
        for bad in [
            r#"{"from": "22:00", "to": "22:00"}"#,
            r#"{"from": "22:00", "to": "24:01"}"#,
            r#"{"from": "22:00", "to": "2026-01-01T00:00Z"}"#,
            r#"{"from": "2026-01-02T00:00Z", "to": "2026-01-01T00:00Z"}"#,
            r#"{"days": ["mon"], "from": "2026-01-01T00:00Z", "to": "2026-01-02T00:00Z"}"#,
            r#"{"day": ["mon"], "from": "08:00", "to": "09:00"}"#,
        ] {
            assert!(serde_json::from_str::<Period>(bad).is_err(), "{bad}");
        }
        for good in [
            r#"{"days":["mon","sun"],"from":"22:30","to":"04:00"}"#,
            r#"{"from":"2026-01-01T00:00:00.000Z","to":"2026-01-02T00:00:00.000Z"}"#,
        ] {
            assert_eq!(serde_json::to_string(&period(good)).unwrap(), good);
        }
    }
}
