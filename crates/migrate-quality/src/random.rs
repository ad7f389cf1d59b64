//! Random numbers that are the same on every machine and in every release.

/// A generator with its whole state in one number (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another sequence of the same seed, one for each `stream`, so that a draw
    /// more in one place changes nothing elsewhere.
    #[must_use]
    pub const fn stream(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        mixed.bits();
        mixed
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let wide = u128::from(self.bits()) * (limit as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Normally distributed with mean 0 and deviation 1, to within what the sum
    /// of twelve even draws gives: never beyond ±6.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Lognormal: `median` · e^(`sigma` · normal).
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// One of `items`; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Puts `items` into an order that is drawn evenly among all.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Sizes from 1 to `largest` with the heavy tail of a Zipf law: size k is drawn
/// with a weight of k^-`exponent`.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Sums of the weights up to each size.
    sums: Vec<f64>,
}

impl Zipf {
    /// Sizes from 1 to `largest`.
    pub fn new(largest: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=largest.max(1)).map(|size| {
            sum += (size as f64).powf(-exponent);
            sum
        });
        Self {
            sums: weights.collect(),
        }
    }

    /// A size.
    pub fn draw(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or_default();
        let at = random.unit() * total;
        self.sums
            .partition_point(|sum| *sum <= at)
            .saturating_add(1)
            .min(self.sums.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_shape_that_their_names_say() {
        let mut random = Random::new(7);
        let mut draws: Vec<f64> = (0..9999).map(|_| random.lognormal(100.0, 0.5)).collect();
        draws.sort_by(f64::total_cmp);
        assert!((95.0..105.0).contains(&draws[4999]), "{}", draws[4999]);
        let zipf = Zipf::new(40, 1.1);
        let sizes: Vec<usize> = (0..9999).map(|_| zipf.draw(&mut random)).collect();
        let ones = sizes.iter().filter(|size| **size == 1).count();
        let large = sizes.iter().filter(|size| **size > 20).count();
        assert!((2500..3500).contains(&ones), "{ones}");
        assert!((600..1600).contains(&large), "{large}");
        assert!(sizes.iter().all(|size| (1..=40).contains(size)));
    }

    #[test]
    fn a_shuffle_keeps_everything_and_streams_differ() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
        assert_ne!(Random::stream(1, 0).bits(), Random::stream(1, 1).bits());
    }
}
