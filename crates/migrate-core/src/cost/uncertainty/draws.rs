//! Pseudo-random numbers by name.

use super::{Tail, normal};

/// Draws that depend on a seed and on what they are for, and on nothing that was
/// drawn before: the same action of the same sample has the same luck in every
/// forecast, so two forecasts differ by what is known and not by chance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    /// Draws of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Uniform in (0, 1), for `key`.
    pub fn uniform(&self, key: [u64; 3]) -> f64 {
        let bits = key
            .into_iter()
            .fold(self.seed, |state, part| mix(state ^ mix(part)));
        ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal, for `key`.
    pub fn normal(&self, key: [u64; 3]) -> f64 {
        normal::quantile(self.uniform(key))
    }

    /// With the shape of `tail`, for `key`.
    pub fn luck(&self, tail: Tail, key: [u64; 3]) -> f64 {
        tail.quantile(self.uniform(key))
    }

    /// The same, of which is known that it exceeds `least`.
    pub fn luck_beyond(&self, tail: Tail, least: f64, key: [u64; 3]) -> f64 {
        tail.beyond(least, self.uniform(key))
    }
}

/// One step of SplitMix64.
const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_draws_have_mean_zero_and_deviation_one_and_repeat() {
        let draws = Draws::new(7);
        let all: Vec<f64> = (0..20_000).map(|n| draws.normal([n, 1, 2])).collect();
        let mean = all.iter().sum::<f64>() / 20_000.0;
        let square = all.iter().map(|z| z * z).sum::<f64>() / 20_000.0;
        assert!(
            mean.abs() < 0.03 && (square - 1.0).abs() < 0.05,
            "{mean} {square}"
        );
        assert_eq!(draws.normal([3, 1, 2]), all[3]);
        assert_ne!(Draws::new(8).normal([3, 1, 2]), all[3]);
        assert_ne!(draws.normal([1, 3, 2]), draws.normal([3, 1, 2]));
    }
}
