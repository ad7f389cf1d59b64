//! What the actions of one run tell of its levels, of σ, and of each other.
//!
//! Key k (a kind of target and phase) in zone z has the level
//!
//! ```text
//! mₖ + sₖ (√ρ · c + √τ · ζ_z + √(1 − ρ) · eₖ)     c, ζ_z, eₖ ~ N(0, 1)
//! ```
//!
//! c is common to all that a run does and ζ_z to all in a zone, so pools that were begun
//! say something of those that were not. Single actions lie around the level by σₖ
//! with the shape of a [`Tail`]. [`Levels::given`] finds the most likely c, ζ, e and σ by
//! expectation and maximisation: under Student's t an action is normal with a
//! precision of its own, which is what it weighs, and what is cut off counts as what it
//! is expected to be. With the weights known the levels are a linear
//! system, in which each e has one equation and is eliminated.

mod linear;
#[cfg(test)]
mod tests;

use migrate_core::cost::{Belief, Draws, Sample, Tail};

use super::STUCK;
use linear::Cholesky;

/// ρ. Of the variance of a level the share that all keys have in common: a slow
/// cluster is slow in everything. Assumed.
const COMMON: f64 = 0.5;
/// τ. Variance of a zone, in that of a level: with public figures a deviation of 0.21 of
/// ln, so that of two zones one is 1.36 times as slow (one deviation). Assumed.
const ZONE: f64 = 0.25;
/// How many actions what was believed of σ counts for, of all keys and of each.
const SIGMA_WEIGHT: f64 = 10.0;
/// What one action more takes off the weight of those before it of its key: some 64 count.
const FORGETTING: f64 = 1.0 / 64.0;
/// The last so many of a key are looked at: what is older has a weight below 1/3000.
const REMEMBERED: usize = 512;
/// Rounds of expectation and maximisation; they have settled before.
const ROUNDS: usize = 20;
/// Deviations of a level: so wide that its samples alone decide.
const WIDE: f64 = 10.0;

/// One action in its zone, if it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) zone: Option<usize>,
    pub(super) sample: Sample,
}

/// What is believed of all keys under one tail.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    tail: Tail,
    /// ln of how likely what was seen is under this tail, but for a constant.
    pub(super) evidence: f64,
    /// c, and ζ of each zone.
    shared: Vec<f64>,
    /// Of their precision.
    root: Cholesky,
    keys: Vec<Key>,
}

/// What is believed of one key.
#[derive(Clone, Debug)]
struct Key {
    prior: Belief,
    /// eₖ, where c and ζ are as they most likely are.
    own: f64,
    /// By how much it changes with each of these.
    follows: Vec<f64>,
    /// Its deviation, with these known.
    own_sd: f64,
    sigma: f64,
    /// Deviation of ln σ.
    sigma_sd: f64,
    /// How much its own samples tell of the level, in 1/ln².
    told: f64,
}

/// Levels and σ in one sample of a run.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) tail: Tail,
    /// By key and zone, that of no zone last.
    levels: Vec<f64>,
    sigmas: Vec<f64>,
    zones: usize,
}

/// What the samples of one key in one zone add up to.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Σ weights / σ².
    weight: f64,
    /// Σ weights · (value − mean) / σ².
    pull: f64,
    /// Σ information / σ².
    told: f64,
}

impl Levels {
    /// What is believed after `seen`, by key and oldest first, in `zones` zones.
    pub(super) fn given(priors: &[Belief], seen: &[Vec<Seen>], zones: usize, tail: Tail) -> Self {
        let keys = priors.iter().map(|prior| Key::new(*prior, tail, zones));
        let mut levels = Self {
            tail,
            evidence: 0.0,
            shared: vec![0.0; 1 + zones],
            root: Cholesky::identity(1 + zones),
            keys: keys.collect(),
        };
        if seen.iter().all(Vec::is_empty) {
            return levels;
        }
        for _ in 0..ROUNDS {
            levels.improve(seen, zones);
        }
        levels
    }

    /// What `samples` of one key in one run say of its level alone, whatever was believed of
    /// it, and of σ; with the evidence.
    pub(super) fn alone(prior: Belief, samples: &[Sample], tail: Tail) -> (Belief, f64) {
        let wide = Belief::new(prior.mean, WIDE, prior.sigma);
        let samples = samples.iter();
        let seen = samples.map(|&sample| Seen { zone: None, sample });
        let levels = Self::given(&[wide], &[seen.collect()], 0, tail);
        let sd = (1.0 / (WIDE.powi(-2) + levels.keys[0].told)).sqrt();
        let sigma = levels.keys[0].sigma / tail.scale();
        let belief = Belief::new(levels.level(0, None), sd, sigma);
        (belief, levels.evidence)
    }

    /// The most likely level of `key` in `zone`.
    pub(super) fn level(&self, key: usize, zone: Option<usize>) -> f64 {
        self.keys[key].level(&self.shared, self.keys[key].own, zone)
    }

    /// Levels and σ as they may be in sample `run`.
    pub(super) fn draw(&self, draws: &Draws, run: u32) -> Drawn {
        let zones = self.shared.len() - 1;
        let normal = |at: usize| draws.normal([run.into(), u64::MAX, at as u64]);
        let noise = (0..=zones).map(normal).collect();
        let off = self.root.solved_transposed(noise);
        let shared: Vec<f64> = self
            .shared
            .iter()
            .zip(&off)
            .map(|(it, off)| it + off)
            .collect();
        let mut drawn = Drawn {
            tail: self.tail,
            levels: Vec::with_capacity(self.keys.len() * (zones + 1)),
            sigmas: Vec::with_capacity(self.keys.len()),
            zones,
        };
        for (at, key) in (zones + 1..).step_by(2).zip(&self.keys) {
            let follows = key.follows.iter().zip(&off);
            let follows: f64 = follows.map(|(by, off)| by * off).sum();
            let own = key.own + follows + key.own_sd * normal(at);
            let each = (0..zones).map(Some).chain([None]);
            drawn
                .levels
                .extend(each.map(|zone| key.level(&shared, own, zone)));
            drawn
                .sigmas
                .push(key.sigma * (key.sigma_sd * normal(at + 1)).exp());
        }
        drawn
    }

    /// One round.
    fn improve(&mut self, seen: &[Vec<Seen>], zones: usize) {
        let mut cells = vec![Cell::default(); self.keys.len() * (zones + 1)];
        let mut of_sigma = Vec::with_capacity(self.keys.len());
        self.evidence = 0.0;
        for (at, (key, seen)) in self.keys.iter().zip(seen).enumerate() {
            let cells = &mut cells[at * (zones + 1)..][..=zones];
            let (mut squares, mut count, mut weight) = (0.0, 0.0, 1.0);
            let counts = key.prior.sd > 0.0 && key.prior.sigma > 0.0;
            for Seen { zone, sample } in seen.iter().rev().take(REMEMBERED).filter(|_| counts) {
                let level = key.level(&self.shared, key.own, *zone);
                let away = (sample.log_ratio - level) / key.sigma;
                let told = self.tail.tells(away, sample.is_censored);
                let square = key.sigma * key.sigma;
                let cell = &mut cells[zone.unwrap_or(zones)];
                cell.weight += weight * told.weight / square;
                let mean = key.prior.mean;
                let pull = told.weight * (level - mean) + key.sigma * told.first;
                cell.pull += weight * pull / square;
                cell.told += weight * told.information / square;
                squares += weight * told.second * square;
                count += weight;
                let is_density = f64::from(u8::from(!sample.is_censored));
                self.evidence += weight * (told.log_likelihood - is_density * key.sigma.ln());
                weight *= 1.0 - FORGETTING;
            }
            of_sigma.push((squares, count));
        }
        self.solve(&cells, zones);
        self.scale(&of_sigma);
    }

    /// The levels under the weights of `cells`, and how certain they are.
    fn solve(&mut self, cells: &[Cell], zones: usize) {
        let of = |key: usize| &cells[key * (zones + 1)..][..=zones];
        let mut system = System::new(1 + zones);
        let mut certainty = System::new(1 + zones);
        for (at, key) in self.keys.iter().enumerate() {
            system.add(key, of(at), |cell| cell.weight);
            certainty.add(key, of(at), |cell| cell.told);
        }
        let root = Cholesky::of(&system.matrix, 1 + zones);
        self.shared = root.solved_transposed(root.solved(system.right));
        self.root = Cholesky::of(&certainty.matrix, 1 + zones);
        self.evidence -= self.root.log_determinant();
        self.evidence -= self.shared.iter().map(|it| it * it / 2.0).sum::<f64>();
        for (at, key) in self.keys.iter_mut().enumerate() {
            let (of_own, own) = (key.of_own(), Sums::of(key, of(at), |cell| cell.weight));
            let pull: f64 = of(at).iter().map(|cell| cell.pull).sum();
            let explained: f64 = own
                .shared
                .iter()
                .zip(&self.shared)
                .map(|(a, b)| a * b)
                .sum();
            key.own = of_own * (pull - explained) / (1.0 + of_own * of_own * own.all);
            let certain = Sums::of(key, of(at), |cell| cell.told);
            let precision = 1.0 + of_own * of_own * certain.all;
            let follows = certain.shared.iter().map(|it| -of_own * it / precision);
            key.follows = follows.collect();
            key.own_sd = precision.sqrt().recip();
            key.told = certain.all;
            self.evidence -= precision.ln() / 2.0 + key.own * key.own / 2.0;
        }
    }

    /// σ of each key from the sum of squares and the count of its actions. What it is
    /// believed to be changes by what all keys show: a cluster that is uneven is so in
    /// everything.
    fn scale(&mut self, of_sigma: &[(f64, f64)]) {
        let (mut squares, mut count) = (SIGMA_WEIGHT, SIGMA_WEIGHT);
        for (key, (square, of)) in self.keys.iter().zip(of_sigma) {
            if *of > 0.0 {
                squares += square / key.believed(self.tail).powi(2);
                count += of;
            }
        }
        let common = squares / count;
        self.evidence -= SIGMA_WEIGHT / 2.0 * (common.ln() + 1.0 / common);
        for (key, (square, count)) in self.keys.iter_mut().zip(of_sigma) {
            let believed = common * key.believed(self.tail).powi(2);
            let variance = (SIGMA_WEIGHT * believed + square) / (SIGMA_WEIGHT + count);
            if *count > 0.0 {
                let ratio = variance / believed;
                self.evidence -= SIGMA_WEIGHT / 2.0 * (ratio.ln() + 1.0 / ratio - 1.0);
            }
            key.sigma = variance.sqrt();
            key.sigma_sd = deviation_of_sigma(self.tail, *count);
        }
    }
}

/// Of ln σ: (2 n ν / (ν + 3))^−½ of n actions.
fn deviation_of_sigma(tail: Tail, count: f64) -> f64 {
    (2.0 * (SIGMA_WEIGHT + count * tail.information_of_sigma()))
        .sqrt()
        .recip()
}

impl Key {
    fn new(prior: Belief, tail: Tail, zones: usize) -> Self {
        let mut key = Self {
            prior,
            own: 0.0,
            follows: vec![0.0; 1 + zones],
            own_sd: 1.0,
            sigma: 0.0,
            sigma_sd: deviation_of_sigma(tail, 0.0),
            told: 0.0,
        };
        key.sigma = key.believed(tail);
        key
    }

    fn believed(&self, tail: Tail) -> f64 {
        self.prior.sigma * tail.scale()
    }

    fn level(&self, shared: &[f64], own: f64, zone: Option<usize>) -> f64 {
        let of_zone = zone.map_or(0.0, |zone| self.of_zone() * shared[1 + zone]);
        self.prior.mean + self.of_common() * shared[0] + of_zone + self.of_own() * own
    }

    fn of_common(&self) -> f64 {
        self.prior.sd * COMMON.sqrt()
    }

    fn of_zone(&self) -> f64 {
        self.prior.sd * ZONE.sqrt()
    }

    fn of_own(&self) -> f64 {
        self.prior.sd * (1.0 - COMMON).sqrt()
    }
}

impl Drawn {
    pub(super) fn level(&self, key: usize, zone: Option<usize>) -> f64 {
        self.levels[key * (self.zones + 1) + zone.unwrap_or(self.zones)]
    }

    pub(super) fn sigma(&self, key: usize) -> f64 {
        self.sigmas[key]
    }

    /// What an action of `key` takes, in what is expected of it. Its luck is that of `of`.
    pub(super) fn ratio(
        &self,
        key: usize,
        zone: Option<usize>,
        draws: &Draws,
        of: [u64; 3],
    ) -> f64 {
        let away = (self.sigma(key) * draws.luck(self.tail, of)).min(STUCK);
        (self.level(key, zone) + away).exp()
    }
}

/// Precisions of a key's samples: all, and times what they have of c and each ζ.
struct Sums {
    all: f64,
    shared: Vec<f64>,
}

impl Sums {
    fn of(key: &Key, cells: &[Cell], precision: impl Fn(&Cell) -> f64) -> Self {
        let all: f64 = cells.iter().map(&precision).sum();
        let zones = cells[..cells.len() - 1].iter();
        let zones = zones.map(|cell| key.of_zone() * precision(cell));
        let shared = [key.of_common() * all].into_iter().chain(zones).collect();
        Self { all, shared }
    }
}

/// The equations of c and ζ after each e is eliminated.
struct System {
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl System {
    fn new(size: usize) -> Self {
        Self {
            matrix: Cholesky::identity(size).into_rows(),
            right: vec![0.0; size],
        }
    }

    /// Adds what the samples of `key` add up to in each zone, that of no zone last.
    fn add(&mut self, key: &Key, cells: &[Cell], precision: impl Fn(&Cell) -> f64) {
        let size = self.right.len();
        let sums = Sums::of(key, cells, precision);
        let (common, of_zone, of_own) = (key.of_common(), key.of_zone(), key.of_own());
        let pulls: f64 = cells.iter().map(|cell| cell.pull).sum();
        self.matrix[0] += common * sums.shared[0];
        self.right[0] += common * pulls;
        for (at, cell) in (1..size).zip(cells) {
            self.matrix[at * size] += common * sums.shared[at];
            self.matrix[at * size + at] += of_zone * sums.shared[at];
            self.right[at] += of_zone * cell.pull;
        }
        let taken = of_own * of_own / (1.0 + of_own * of_own * sums.all);
        for row in 0..size {
            let of_row = taken * sums.shared[row];
            self.right[row] -= of_row * pulls;
            for column in 0..=row {
                self.matrix[row * size + column] -= of_row * sums.shared[column];
            }
        }
    }
}
