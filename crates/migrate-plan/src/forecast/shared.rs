//! What the phases of one run tell of each other.
//!
//! A part of each level is common to all kinds and phases of a run, so pools that were
//! begun say something of those that were not. With zⱼ how many deviations level j lies
//! from its mean, as its own samples alone have it, and uⱼ its variance in these
//! units, what all j but k tell of the common part, before N(0, ρ), is
//!
//! ```text
//! 1 / (1/ρ + Σ 1/(1 − ρ + uⱼ))         its variance
//! Σ zⱼ/(1 − ρ + uⱼ) · that variance    its mean
//! ```

use migrate_core::cost::{Belief, Sample};

/// Deviations of a level: so wide that its samples alone decide.
const WIDE: f64 = 10.0;

/// The common part of all levels, in deviations of a level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// By key: what the samples of all others tell of the common part, which is `share` of
/// the variance of each level.
pub(super) fn told_by_others(priors: &[Belief], samples: &[Vec<Sample>], share: f64) -> Vec<Told> {
    let keys = priors.iter().zip(samples);
    let each: Vec<(f64, f64)> = keys
        .map(|(prior, samples)| tells(prior, samples, share))
        .collect();
    let precision: f64 = each.iter().map(|(weight, _)| weight).sum();
    let sum: f64 = each.iter().map(|(weight, z)| weight * z).sum();
    let told = |(weight, z): &(f64, f64)| {
        // Of a difference of sums rounding may leave less than nothing.
        let variance = 1.0 / (1.0 / share + (precision - weight).max(0.0));
        let mean = (sum - weight * z) * variance;
        Told { mean, variance }
    };
    each.iter().map(told).collect()
}

/// How much a key tells of the common part, and what.
fn tells(prior: &Belief, samples: &[Sample], share: f64) -> (f64, f64) {
    if samples.is_empty() || prior.sd <= 0.0 || prior.sigma <= 0.0 {
        return (0.0, 0.0);
    }
    let alone = Belief::new(prior.mean, WIDE, prior.sigma).given(samples);
    let variance = (alone.sd / prior.sd).powi(2);
    let weight = 1.0 / (1.0 - share + variance);
    (weight, (alone.mean - prior.mean) / prior.sd)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slow(count: usize) -> Vec<Sample> {
        let (took, expected) = (Duration::from_secs(150), Duration::from_secs(100));
        let sample = Sample::new(took, expected, false).unwrap();
        vec![sample; count]
    }

    #[test]
    fn a_pool_that_was_not_begun_learns_half_of_what_others_show() {
        let prior = Belief::new(0.0, 0.4, 0.3);
        let none = told_by_others(&[prior; 3], &[vec![], vec![], vec![]], 0.5);
        let nothing = Told {
            mean: 0.0,
            variance: 0.5,
        };
        assert_eq!(none, [nothing; 3]);
        let one = told_by_others(&[prior; 2], &[slow(500), vec![]], 0.5);
        // Nobody else tells the first one anything.
        assert_eq!(one[0], nothing);
        // ln 1.5 = 0.405 is one deviation, half of which is common.
        assert!((one[1].mean - 0.5).abs() < 0.02, "{one:?}");
        assert!((one[1].variance - 0.25).abs() < 0.01, "{one:?}");
        let many = [slow(500), slow(500), slow(500), vec![]];
        let many = told_by_others(&[prior; 4], &many, 0.5);
        assert!(many[3].mean > 0.7 && many[3].variance < 0.13, "{many:?}");
    }

    #[test]
    fn what_is_certain_tells_nothing() {
        let told = told_by_others(&[Belief::CERTAIN; 2], &[slow(3), slow(3)], 0.5);
        assert_eq!(
            told,
            [Told {
                mean: 0.0,
                variance: 0.5
            }; 2]
        );
    }
}
