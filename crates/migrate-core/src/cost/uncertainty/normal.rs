//! The normal distribution: what samples are drawn with, and what is left of it
//! beyond a point.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// Beyond this many standard deviations the tail is taken by its asymptote.
const FAR: f64 = 5.0;

/// P(Z > z), to 2 · 10⁻⁷ (Abramowitz and Stegun, 7.1.26).
pub(super) fn above(z: f64) -> f64 {
    let x = z.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let half = series.into_iter().fold(0.0, |sum, term| (sum + term) * t) * (-x * x).exp() / 2.0;
    if z < 0.0 { 1.0 - half } else { half }
}

/// φ(z) / P(Z > z): how much further on the mean of what is beyond `z` lies.
pub(super) fn hazard(z: f64) -> f64 {
    if z > FAR {
        return z + 1.0 / z;
    }
    (-z * z / 2.0).exp() / TAU.sqrt() / above(z).max(f64::MIN_POSITIVE)
}

/// The z with P(Z ≤ z) = `p`, to 10⁻⁸ (Acklam). `p` is kept inside (0, 1).
pub(super) fn quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        0.007_784_695_709_041_462,
        0.322_467_129_070_039_8,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let p = p.clamp(1e-300, 1.0 - f64::EPSILON);
    let at = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        at(&C, q) / at(&D, q)
    };
    if p < 0.024_25 {
        tail(p)
    } else if p > 0.975_75 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        q * at(&A, q * q) / at(&B, q * q)
    }
}

/// A normal number that is known to be greater than `z`, from a uniform one.
pub(super) fn beyond(z: f64, uniform: f64) -> f64 {
    if z > FAR {
        return z - uniform.ln() / z;
    }
    (-quantile(uniform * above(z))).max(z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_tails_are_those_of_the_tables() {
        for (p, z) in [
            (0.5, 0.0),
            (0.8, 0.841_621),
            (0.95, 1.644_854),
            (0.001, -3.090_232),
        ] {
            assert!((quantile(p) - z).abs() < 1e-5, "{p}: {}", quantile(p));
            assert!((above(z) - (1.0 - p)).abs() < 1e-6, "{z}: {}", above(z));
        }
        assert!((hazard(0.0) - 0.797_885).abs() < 1e-5);
        assert!(
            (hazard(5.001) - hazard(4.999)).abs() < 0.05,
            "no step at the asymptote"
        );
        assert!(beyond(2.0, 0.999) >= 2.0 && beyond(8.0, 0.5) >= 8.0);
    }
}
