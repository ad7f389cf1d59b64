//! Distributions in a line.

use std::fmt;

/// Values, sorted.
#[derive(Clone, Debug, Default)]
pub struct Distribution(Vec<f64>);

impl Distribution {
    /// The distribution of `values`; what is no number comes last.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// How many values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their mean; 0 of none.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The value that a part of `quantile` (0 to 1) does not exceed; 0 of none.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        let at = rank.saturating_sub(1).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The largest; 0 of none.
    pub fn worst(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }
}

/// `n`, mean, P50, P90, P95, P99 and worst as cells of a Markdown table, with
/// three decimals.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {:.3}", self.len(), self.mean())?;
        for quantile in [0.5, 0.9, 0.95, 0.99] {
            write!(f, " | {:.3}", self.quantile(quantile))?;
        }
        write!(f, " | {:.3}", self.worst())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_are_there() {
        let of_ten = Distribution::new((1..=10).rev().map(f64::from));
        assert_eq!(of_ten.quantile(0.5), 5.0);
        assert_eq!(of_ten.quantile(0.95), 10.0);
        assert_eq!(of_ten.mean(), 5.5);
        assert_eq!(of_ten.worst(), 10.0);
        assert_eq!(Distribution::default().quantile(0.5), 0.0);
    }
}
