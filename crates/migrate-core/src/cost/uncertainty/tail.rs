//! How often single actions lie far from their level.
//!
//! Closed forms of Student's t with an even number of degrees of freedom ν, with
//! q = ν / (ν + t²) and x = t / √(ν + t²):
//!
//! ```text
//! P(T > t) = ½ (1 − x (1 + q/2 + 3q²/8 + …)), ν/2 terms
//! t with P(T > t) = s, α = 4s(1 − s):
//!     ν = 2: (1 − 2s) √(2/α)
//!     ν = 4: 2 √(cos(arccos(√α)/3)/√α − 1)
//! ```
//!
//! Both from W. T. Shaw, *Sampling Student's T distribution* (2006); tails are
//! written without differences of nearly equal numbers.

use std::f64::consts::TAU;

use super::normal;

/// The shape of the distribution of single actions around their level: Student's t.
///
/// Each is scaled so that from P10 to P90 it is as wide as a normal one of the same
/// `sigma`: that range is what public figures tell, and they do not tell the rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Tail {
    /// Normal: one action in 740 lies three σ above its level.
    Normal,
    /// Four degrees of freedom: one in 87 does.
    Four,
    /// Two degrees of freedom: one in 42 does, and no variance is finite.
    Two,
}

/// What one action tells of level and σ under a [`Tail`], its expectation over what is
/// not known of it: the actions of Student's t are normal with a precision λ of
/// their own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tells {
    /// The mean of λ: what it weighs.
    pub weight: f64,
    /// E[λ t], with t = (ln ratio − level) / σ.
    pub first: f64,
    /// E[λ t²].
    pub second: f64,
    /// How much it tells of the level, beside an action of a known normal: from 0 to 1.
    pub information: f64,
    /// ln of its density in t, or of the probability to last longer.
    pub log_likelihood: f64,
}

impl Tail {
    /// All of them, the lightest first.
    pub const EACH: [Self; 3] = [Self::Normal, Self::Four, Self::Two];

    /// Of a normal deviation the share that it is scaled by: z₉₀ / t₉₀.
    pub const fn scale(self) -> f64 {
        const Z90: f64 = 1.281_551_566;
        match self {
            Self::Normal => 1.0,
            Self::Four => Z90 / 1.533_206_274,
            Self::Two => Z90 / 1.885_618_083,
        }
    }

    /// How much of what an action of a normal tells of σ one of this tells: ν / (ν + 3).
    pub const fn information_of_sigma(self) -> f64 {
        match self {
            Self::Normal => 1.0,
            Self::Four => 4.0 / 7.0,
            Self::Two => 2.0 / 5.0,
        }
    }

    /// P(T > `t`), of the scaled variable.
    pub fn above(self, t: f64) -> f64 {
        match self {
            Self::Normal => normal::above(t),
            Self::Four => student_above(4, t),
            Self::Two => student_above(2, t),
        }
    }

    /// The t with P(T ≤ t) = `p`.
    pub(super) fn quantile(self, p: f64) -> f64 {
        match self {
            Self::Normal => normal::quantile(p),
            _ if p < 0.5 => -self.exceeded_by(p),
            _ => self.exceeded_by(1.0 - p),
        }
    }

    /// A number that is known to be greater than `t`, from a uniform one.
    pub(super) fn beyond(self, t: f64, uniform: f64) -> f64 {
        match self {
            Self::Normal => normal::beyond(t, uniform),
            _ => {
                let share = uniform * self.above(t);
                match share > 0.5 {
                    true => -self.exceeded_by(1.0 - share),
                    false => self.exceeded_by(share),
                }
                .max(t)
            }
        }
    }

    /// What an action at `t` tells, or, if `is_censored`, one that lasts longer.
    pub fn tells(self, t: f64, is_censored: bool) -> Tells {
        match is_censored {
            true => self.censored(t),
            false => self.ended(t),
        }
    }

    fn ended(self, t: f64) -> Tells {
        let (weight, information) = match self.degrees() {
            None => (1.0, 1.0),
            Some(degrees) => {
                let more = f64::from(degrees + 1);
                let weight = more / (f64::from(degrees) + t * t);
                (weight, more / f64::from(degrees + 3))
            }
        };
        Tells {
            weight,
            first: weight * t,
            second: weight * t * t,
            information,
            log_likelihood: self.log_density(t),
        }
    }

    /// E[λ | T > t] = P(T₊₂ > t √((ν+2)/ν)) / P(T > t), E[λT | T > t] is the hazard h,
    /// E[λT² | T > t] = 1 + th, and −(ln P(T > t))″ = h (h + (ln f)′).
    fn censored(self, t: f64) -> Tells {
        let (weight, hazard, slope, above) = match self.degrees() {
            None => (1.0, normal::hazard(t), -t, normal::above(t)),
            Some(degrees) => {
                let above = self.above(t).max(f64::MIN_POSITIVE);
                let hazard = self.log_density(t).exp() / above;
                let nu = f64::from(degrees);
                let more = student_above(degrees + 2, t * ((nu + 2.0) / nu).sqrt());
                let slope = -(nu + 1.0) * t / (nu + t * t);
                (more / above, hazard, slope, above)
            }
        };
        Tells {
            weight,
            first: hazard,
            second: (1.0 + t * hazard).max(0.0),
            information: (hazard * (hazard + slope)).clamp(0.0, 1.0),
            log_likelihood: above.max(f64::MIN_POSITIVE).ln(),
        }
    }

    const fn degrees(self) -> Option<u32> {
        match self {
            Self::Normal => None,
            Self::Four => Some(4),
            Self::Two => Some(2),
        }
    }

    fn log_density(self, t: f64) -> f64 {
        match self {
            Self::Normal => -t * t / 2.0 - TAU.ln() / 2.0,
            Self::Four => 0.375f64.ln() - 2.5 * (t * t / 4.0).ln_1p(),
            Self::Two => -1.5 * 2f64.ln() - 1.5 * (t * t / 2.0).ln_1p(),
        }
    }

    /// The t with P(T > t) = `share`, which is at most a half.
    fn exceeded_by(self, share: f64) -> f64 {
        let share = share.clamp(1e-300, 0.5);
        let alpha = 4.0 * share * (1.0 - share);
        match self {
            Self::Normal => -normal::quantile(share),
            Self::Four => {
                let root = alpha.sqrt().min(1.0);
                2.0 * ((root.acos() / 3.0).cos() / root - 1.0).max(0.0).sqrt()
            }
            Self::Two => (1.0 - 2.0 * share) * (2.0 / alpha).sqrt(),
        }
    }
}

/// P(T > t) with two, four or six degrees of freedom.
fn student_above(degrees: u32, t: f64) -> f64 {
    let all = f64::from(degrees) + t * t;
    let (q, x) = (f64::from(degrees) / all, t.abs() / all.sqrt());
    // 1 − (x · series)² as a polynomial of q, over 1 + x · series.
    let (rest, series) = match degrees {
        2 => (q, 1.0),
        4 => (q * q * (0.75 + 0.25 * q), 1.0 + q / 2.0),
        _ => (
            q * q * q * (0.625 + q * (0.234_375 + q * 0.140_625)),
            1.0 + q / 2.0 + 0.375 * q * q,
        ),
    };
    let half = rest / (1.0 + x * series) / 2.0;
    if t < 0.0 { 1.0 - half } else { half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_those_of_the_tables() {
        // P(T > t) of t₉₀, t₉₅, t₉₉.
        for (tail, table) in [
            (Tail::Normal, [1.281_552, 1.644_854, 2.326_348]),
            (Tail::Four, [1.533_206, 2.131_847, 3.746_947]),
            (Tail::Two, [1.885_618, 2.919_986, 6.964_557]),
        ] {
            for (t, share) in table.into_iter().zip([0.1, 0.05, 0.01]) {
                assert!((tail.above(t) - share).abs() < 1e-6, "{tail:?} {t}");
                assert!((tail.above(-t) - 1.0 + share).abs() < 1e-6, "{tail:?} {t}");
                assert!(
                    (tail.quantile(1.0 - share) - t).abs() < 1e-4,
                    "{tail:?} {t}"
                );
                assert!((tail.quantile(share) + t).abs() < 1e-4, "{tail:?} {t}");
            }
            assert!(tail.quantile(0.5).abs() < 1e-9);
            assert!((tail.above(tail.quantile(0.9)) - 0.1).abs() < 1e-6);
            let width = tail.scale() * tail.quantile(0.9);
            assert!((width - 1.281_552).abs() < 1e-5, "{tail:?}: {width}");
        }
        assert!((student_above(6, 1.439_756) - 0.1).abs() < 1e-6);
        assert!((student_above(6, 3.142_668) - 0.01).abs() < 1e-6);
        let [one, four, two] = Tail::EACH.map(|tail| 1.0 / tail.above(3.0 / tail.scale()));
        assert!(
            (one - 740.0).abs() < 2.0 && (four - 87.0).abs() < 1.0,
            "{one} {four}"
        );
        assert!((two - 42.0).abs() < 1.0, "{two}");
    }

    #[test]
    fn beyond_a_point_half_lies_beyond_the_median_of_what_is_left() {
        for tail in Tail::EACH {
            for t in [-3.0, 0.0, 1.5, 4.0, 30.0] {
                let median = tail.beyond(t, 0.5);
                assert!(median > t, "{tail:?} {t}: {median}");
                let left = tail.above(median) / tail.above(t);
                // The asymptote of the normal one is not exact.
                let off = if tail == Tail::Normal && t >= 4.0 {
                    1.0
                } else {
                    1e-3
                };
                assert!((left - 0.5).abs() < off, "{tail:?} {t}: {left}");
                assert!(tail.beyond(t, 1.0 - 1e-12) >= t);
            }
        }
    }

    /// The same as sums over the distribution, which has no closed form in them.
    #[test]
    fn what_an_action_tells_is_the_expectation_over_its_precision() {
        for tail in Tail::EACH {
            for t in [-1.0, 0.3, 2.0] {
                let steps = 400_000;
                let (mut weight, mut first, mut second) = (0.0, 0.0, 0.0);
                for step in 0..steps {
                    let uniform = (f64::from(step) + 0.5) / f64::from(steps);
                    let told = tail.tells(tail.beyond(t, uniform), false);
                    weight += told.weight;
                    first += told.first;
                    second += told.second;
                }
                let told = tail.tells(t, true);
                for (sum, is) in [
                    (weight, told.weight),
                    (first, told.first),
                    (second, told.second),
                ] {
                    let mean = sum / f64::from(steps);
                    assert!((mean - is).abs() < 2e-3, "{tail:?} {t}: {mean} {is}");
                }
                let ln = |t: f64| tail.tells(t, true).log_likelihood;
                let slope = (ln(t + 1e-3) - ln(t - 1e-3)) / 2e-3;
                assert!((slope + told.first).abs() < 2e-3, "{tail:?} {t}: {slope}");
            }
        }
    }
}
