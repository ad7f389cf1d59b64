//! How likely each tail of single actions is.

use std::collections::BTreeMap;

use migrate_core::cost::{Belief, Tail};

/// By [`Tail::EACH`]; they add up to one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weights([f64; Tail::EACH.len()]);

/// Nothing is published about the tails of upgrades: all are as likely.
impl Default for Weights {
    fn default() -> Self {
        Self([1.0 / Tail::EACH.len() as f64; Tail::EACH.len()])
    }
}

impl Weights {
    /// After something that each tail explains by `evidence`, a logarithm.
    pub(super) fn given(self, evidence: [f64; Tail::EACH.len()]) -> Self {
        let most = evidence.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let mut weights = self.0;
        for (weight, evidence) in weights.iter_mut().zip(evidence) {
            *weight *= (evidence - most).exp();
        }
        let sum: f64 = weights.iter().sum();
        Self(weights.map(|weight| weight / sum))
    }

    /// Which of them a uniform number falls on.
    pub(super) fn pick(self, uniform: f64) -> usize {
        let mut below = 0.0;
        let reached = self.0.iter().position(|weight| {
            below += weight;
            uniform < below
        });
        reached.unwrap_or(self.0.len() - 1)
    }

    /// The weighted mean of `values`.
    pub(super) fn mean(self, values: [f64; Tail::EACH.len()]) -> f64 {
        self.0
            .iter()
            .zip(values)
            .map(|(weight, it)| weight * it)
            .sum()
    }

    /// The same of beliefs of the same keys.
    pub(super) fn mean_of<K: Clone + Ord>(
        self,
        each: [&BTreeMap<K, Belief>; Tail::EACH.len()],
    ) -> BTreeMap<K, Belief> {
        let mean = |key: &K, part: fn(&Belief) -> f64| {
            self.mean(each.map(|beliefs| beliefs.get(key).map_or(0.0, part)))
        };
        let keys = each[0].keys();
        let means = keys.map(|key| {
            let belief = Belief::new(
                mean(key, |it| it.mean),
                mean(key, |it| it.sd),
                mean(key, |it| it.sigma),
            );
            (key.clone(), belief)
        });
        means.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_that_explains_more_weighs_more() {
        let weights = Weights::default().given([0.0, 2f64.ln(), f64::NEG_INFINITY]);
        assert!((weights.mean([1.0, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-12);
        let picked = [0.0, 0.3, 0.34, 0.999_999].map(|uniform| weights.pick(uniform));
        assert_eq!(picked, [0, 0, 1, 1]);
        let same = weights.given([-1e6; 3]);
        assert_eq!(same.pick(0.5), 1, "{same:?}");
    }
}
