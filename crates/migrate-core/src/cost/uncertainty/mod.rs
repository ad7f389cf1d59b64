//! How far durations lie from what is expected of them.
//!
//! Everything is about the *ratio* of what an action took to what was expected
//! of it: `ln(actual / expected) = level + σ · T`. The level belongs to a run
//! (this cluster, these images, today), σ and the [`Tail`] of T to single actions. A
//! [`Belief`] says what is known of level and σ.

mod draws;
mod normal;
mod tail;

use std::time::Duration;

pub use self::draws::Draws;
pub use self::tail::{Tail, Tells};

/// One action, against what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// ln(actual / expected).
    pub log_ratio: f64,
    /// It had not ended then: it was cut off at a deadline, or still runs.
    pub is_censored: bool,
}

/// What is believed of a phase: `ln(actual / expected)` lies around a level, which is
/// normal with `mean` and `sd`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Belief {
    /// Of the level of a run. 0: as expected.
    pub mean: f64,
    /// Of the level of a run.
    pub sd: f64,
    /// Of single actions around it: from P10 to P90 they are 2.563 of it wide, whatever
    /// their [`Tail`].
    pub sigma: f64,
}

impl Sample {
    /// One that took `actual`, or longer if `is_censored`. `None` where nothing
    /// was expected or taken, which has no ratio.
    pub fn new(actual: Duration, expected: Duration, is_censored: bool) -> Option<Self> {
        let ratio = actual.as_secs_f64() / expected.as_secs_f64();
        let log_ratio = ratio.ln();
        log_ratio.is_finite().then_some(Self {
            log_ratio,
            is_censored,
        })
    }
}

impl Belief {
    /// All as expected: durations are constants.
    pub const CERTAIN: Self = Self::new(0.0, 0.0, 0.0);

    /// A belief.
    pub const fn new(mean: f64, sd: f64, sigma: f64) -> Self {
        Self { mean, sd, sigma }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_ratio_is_no_sample() {
        let second = Duration::from_secs(1);
        assert!(Sample::new(second, Duration::ZERO, false).is_none());
        assert!(Sample::new(Duration::ZERO, second, false).is_none());
        let sample = Sample::new(second * 2, second, true).unwrap();
        assert!((sample.log_ratio - 2f64.ln()).abs() < 1e-12 && sample.is_censored);
    }
}
