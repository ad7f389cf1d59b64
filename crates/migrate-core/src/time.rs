//! Injected time: a point on the caller's clock and the trait that reads it.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch on the caller's clock.
///
/// In a rehearsal the clock is virtual and starts where the caller says, so a
/// `Moment` orders what happened inside one run and nothing else. Safety never
/// rests on comparing the moments of two machines.
///
/// Shown, and written to JSON, as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(u64);

impl Moment {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The last one of all.
    pub const LAST: Self = Self(u64::MAX);

    /// A moment `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at the far end of the clock.
    fn add(self, rhs: Duration) -> Self {
        let millis = u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl From<Moment> for jiff::Timestamp {
    /// Moments past the year 9999 become the last representable timestamp.
    fn from(moment: Moment) -> Self {
        i64::try_from(moment.0)
            .ok()
            .and_then(|millis| Self::from_millisecond(millis).ok())
            .unwrap_or(Self::MAX)
    }
}

impl From<jiff::Timestamp> for Moment {
    /// Timestamps before 1970 become [`Moment::EPOCH`].
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(u64::try_from(timestamp.as_millisecond()).unwrap_or(0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", jiff::Timestamp::from(*self))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        jiff::Timestamp::deserialize(deserializer).map(Self::from)
    }
}

/// Reads the current time.
///
/// # Guarantees
/// Successive calls never go back. A program uses one clock for a whole run;
/// over a paused async runtime the clock is virtual.
pub trait Clock: Send + Sync {
    /// The current moment.
    fn now(&self) -> Moment;
}

impl<F: Fn() -> Moment + Send + Sync> Clock for F {
    fn now(&self) -> Moment {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_json_to_the_millisecond() {
        let moment = Moment::from_millis(1_795_000_123_456);
        let json = serde_json::to_string(&moment).unwrap();
        assert_eq!(json, "\"2026-11-18T11:08:43.456Z\"");
        assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), moment);
    }

    #[test]
    fn arithmetic_saturates() {
        let moment = Moment::from_millis(u64::MAX);
        assert_eq!(moment + Duration::from_secs(1), moment);
        assert_eq!(Moment::EPOCH.since(moment), Duration::ZERO);
    }
}
