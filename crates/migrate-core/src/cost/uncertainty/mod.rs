//! How far durations lie from what is expected of them.
//!
//! Everything is about the *ratio* of what an action took to what was expected
//! of it, which is log-normal: `ln(actual / expected) = level + σ · Z`. The level
//! belongs to a run (this cluster, these images, today), σ to single actions. A
//! [`Belief`] says what is known of both; [`Belief::given`] adds what was seen.

mod draws;
mod normal;

use std::time::Duration;

pub use self::draws::Draws;

/// How many actions a prior of σ counts for.
const SIGMA_WEIGHT: f64 = 10.0;
/// What one action more takes off the weight of those before it: some 64 count.
const FORGETTING: f64 = 1.0 / 64.0;
/// Rounds of the censored update; it has settled long before.
const ROUNDS: usize = 20;

/// One action, against what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// ln(actual / expected).
    pub log_ratio: f64,
    /// It had not ended then: it was cut off at a deadline, or still runs.
    pub is_censored: bool,
}

/// What is believed of a phase: `ln(actual / expected)` is normal with deviation
/// `sigma` around a level, itself normal with `mean` and `sd`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Belief {
    /// Of the level of a run. 0: as expected.
    pub mean: f64,
    /// Of the level of a run.
    pub sd: f64,
    /// Of single actions around it.
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

    /// What is believed after `samples` of one run, oldest first.
    ///
    /// The *censored update*: with cᵢ the ratio at which sample i was cut off,
    /// zᵢ = (cᵢ − μ) / σ and h = φ / (1 − Φ) at zᵢ, its ratio counts as
    /// μ + σh with the variance σ²(1 + zᵢh − h²) and tells h(h − zᵢ) as much as
    /// one that ended. Then
    /// μ = (m/s² + Σ wᵢxᵢ/σ²) / (1/s² + Σ wᵢ/σ²) and
    /// σ² = (10 σ₀² + Σ wᵢ((xᵢ − μ)² + varᵢ)) / (10 + Σ wᵢ), in turns until both
    /// stand still. wᵢ falls by 1/64 with each later sample: an exponentially
    /// weighted mean, so that a change during a run is followed.
    #[must_use]
    pub fn given(&self, samples: &[Sample]) -> Self {
        if samples.is_empty() || self.sd <= 0.0 || self.sigma <= 0.0 {
            return *self;
        }
        let prior = 1.0 / (self.sd * self.sd);
        let mut now = *self;
        let mut told = 0.0;
        for _ in 0..ROUNDS {
            let (mut weights, mut sum, mut squares, mut weight) = (0.0, 0.0, 0.0, 1.0);
            told = 0.0;
            for sample in samples.iter().rev() {
                let (mut value, mut variance, mut tells) = (sample.log_ratio, 0.0, 1.0);
                if sample.is_censored {
                    let z = (value - now.mean) / now.sigma;
                    let h = normal::hazard(z);
                    value = now.mean + now.sigma * h;
                    variance = (now.sigma * now.sigma * (1.0 + z * h - h * h)).max(0.0);
                    tells = (h * (h - z)).clamp(0.0, 1.0);
                }
                weights += weight;
                told += weight * tells;
                sum += weight * value;
                squares += weight * ((value - now.mean).powi(2) + variance);
                weight *= 1.0 - FORGETTING;
            }
            let square = now.sigma * now.sigma;
            let of_sigma = SIGMA_WEIGHT * self.sigma * self.sigma + squares;
            now.mean = (self.mean * prior + sum / square) / (prior + weights / square);
            now.sigma = (of_sigma / (SIGMA_WEIGHT + weights)).sqrt();
        }
        now.sd = (1.0 / (prior + told / (now.sigma * now.sigma))).sqrt();
        now
    }

    /// The ratio of an action in a run whose level is `level` deviations from the
    /// mean, with `luck` of its own, both standard normal.
    pub fn ratio(&self, level: f64, luck: f64) -> f64 {
        (self.mean + self.sd * level + self.sigma * luck).exp()
    }

    /// The `luck` with which an action would just have this log ratio.
    pub fn luck_at(&self, level: f64, log_ratio: f64) -> f64 {
        let away = log_ratio - self.mean - self.sd * level;
        match self.sigma > 0.0 {
            true => away / self.sigma,
            false => f64::NEG_INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(level: f64, sigma: f64, count: u64) -> Vec<Sample> {
        let draws = Draws::new(11);
        let ratio = |n| level + sigma * draws.normal([n, 0, 0]);
        let sample = |n| Sample {
            log_ratio: ratio(n),
            is_censored: false,
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn few_samples_stay_near_the_prior_and_many_leave_it() {
        let prior = Belief::new(0.0, 0.4, 0.3);
        assert_eq!(prior.given(&[]), prior);
        assert_eq!(Belief::CERTAIN.given(&drawn(0.5, 0.3, 9)), Belief::CERTAIN);
        let one = prior.given(&drawn(0.5, 0.0, 1));
        let many = prior.given(&drawn(0.5, 0.3, 200));
        assert!(one.mean > 0.2 && one.mean < 0.45, "{one:?}");
        assert!((many.mean - 0.5).abs() < 0.08, "{many:?}");
        assert!(
            (many.sigma - 0.3).abs() < 0.05 && many.sd < 0.06,
            "{many:?}"
        );
    }

    /// Without the update all that was cut off would count as if it had ended.
    #[test]
    fn censored_update_recovers_the_level_that_a_deadline_hides() {
        let cut = 0.4;
        let all = drawn(0.4, 0.3, 60);
        let censored = |s: &Sample| Sample {
            log_ratio: s.log_ratio.min(cut),
            is_censored: s.log_ratio > cut,
        };
        let samples: Vec<Sample> = all.iter().map(censored).collect();
        let naive = samples.iter().map(|s| Sample {
            is_censored: false,
            ..*s
        });
        let prior = Belief::new(0.0, 0.4, 0.3);
        let naive = prior.given(&naive.collect::<Vec<_>>());
        let (seen, whole) = (prior.given(&samples), prior.given(&all));
        assert!((seen.mean - whole.mean).abs() < 0.06, "{seen:?} {whole:?}");
        assert!(naive.mean < whole.mean - 0.08, "{naive:?}");
    }

    #[test]
    fn what_has_no_ratio_is_no_sample() {
        let second = Duration::from_secs(1);
        assert!(Sample::new(second, Duration::ZERO, false).is_none());
        assert!(Sample::new(Duration::ZERO, second, false).is_none());
        let sample = Sample::new(second * 2, second, true).unwrap();
        assert!((sample.log_ratio - 2f64.ln()).abs() < 1e-12 && sample.is_censored);
    }
}
