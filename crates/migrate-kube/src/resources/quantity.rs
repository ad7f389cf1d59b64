//! Kubernetes quantities.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};

/// A resource quantity such as `250m`, `1.5`, `2Gi` or `1e3`, in thousandths.
///
/// Amounts are never negative here (those of nodes and pods are not), round up
/// to the next thousandth as the API server does, and saturate.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Quantity {
    milli: u128,
}

impl Quantity {
    /// Reads `text`; `None` if it is not a quantity, or negative.
    pub fn parse(text: &str) -> Option<Self> {
        let split = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let number = number.strip_prefix('+').unwrap_or(number);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
            return None;
        }
        // Twenty digits hold every amount the API can store; more saturate.
        let fraction = fraction.get(..20).unwrap_or(fraction);
        let mantissa = format!("{whole}{fraction}")
            .parse::<u128>()
            .unwrap_or(u128::MAX);
        let scale = Scale::parse(suffix)?;
        let exponent = scale.ten + 3 - i32::try_from(fraction.len()).ok()?;
        let mantissa = mantissa.saturating_mul(scale.times);
        let power = 10_u128
            .checked_pow(exponent.unsigned_abs())
            .unwrap_or(u128::MAX);
        let milli = if exponent < 0 {
            mantissa.div_ceil(power)
        } else {
            mantissa.saturating_mul(power)
        };
        Some(Self { milli })
    }

    /// The sum, saturating.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            milli: self.milli.saturating_add(other.milli),
        }
    }

    /// In thousandths, saturating.
    pub fn milli(self) -> u64 {
        u64::try_from(self.milli).unwrap_or(u64::MAX)
    }

    /// In whole units, rounded up, saturating.
    pub fn units(self) -> u64 {
        u64::try_from(self.milli.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

struct Scale {
    times: u128,
    ten: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        let ten = |ten| Some(Self { times: 1, ten });
        let two = |power: u32| {
            Some(Self {
                times: 1 << power,
                ten: 0,
            })
        };
        match suffix {
            "n" => ten(-9),
            "u" => ten(-6),
            "m" => ten(-3),
            "" => ten(0),
            "k" => ten(3),
            "M" => ten(6),
            "G" => ten(9),
            "T" => ten(12),
            "P" => ten(15),
            "E" => ten(18),
            "Ki" => two(10),
            "Mi" => two(20),
            "Gi" => two(30),
            "Ti" => two(40),
            "Pi" => two(50),
            "Ei" => two(60),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
                (-30..=30).contains(&exponent).then_some(Self {
                    times: 1,
                    ten: exponent,
                })
            }
        }
    }
}

/// A string, or a plain number as some clients write it.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity such as 250m or 2Gi")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text)
                    .ok_or_else(|| E::custom(format_args!("{text:?} is no quantity")))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity {
                    milli: u128::from(number) * 1000,
                })
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.milli.is_multiple_of(1000) {
            serializer.collect_str(&(self.milli / 1000))
        } else {
            serializer.collect_str(&format_args!("{}m", self.milli))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_fractions_and_exponents() {
        for (text, milli) in [
            ("0", 0),
            ("250m", 250),
            ("1.5", 1500),
            (".5", 500),
            ("2.", 2000),
            ("1e3", 1_000_000),
            ("1E2", 100_000),
            ("5e-1", 500),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("128974848000m", 128_974_848_000),
            ("100u", 1),
            ("1n", 1),
        ] {
            assert_eq!(
                Quantity::parse(text).map(Quantity::milli),
                Some(milli),
                "{text}"
            );
        }
        for text in [
            "", "-1", "Gi", "1.2.3", "1 Gi", "1Kib", "e3", "1e", "0x1", "1e99999",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert_eq!(Quantity::parse("64E").map(Quantity::units), Some(u64::MAX));
        assert_eq!(Quantity::parse("1m").map(Quantity::units), Some(1));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_survives_json(text in "[-+0-9.eEkKmMGiTPun]{0,24}") {
            if let Some(quantity) = Quantity::parse(&text) {
                let json = serde_json::to_string(&quantity).unwrap();
                prop_assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), quantity);
            }
        }
    }
}
