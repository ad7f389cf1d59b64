//! A count that may be given as a percentage.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A number of pods or nodes, or a percentage of them; `intstr.IntOrString` of
/// the Kubernetes API: `3` or `"25%"`.
///
/// A percentage may be above 100, as for `maxSurge`; what the result may be is
/// the caller's to limit. The API has exactly these two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrPercent {
    /// An absolute number.
    Int(u32),
    /// A percentage of a total.
    Percent(u32),
}

/// A text that is neither a whole number nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{input:?} is neither a count nor a percentage; write it like `3` or `\"25%\"`")]
pub struct ParseIntOrPercentError {
    input: String,
}

impl IntOrPercent {
    /// The number of things out of `total`, a fraction rounded **up**: as the
    /// disruption controller rounds both minAvailable and maxUnavailable of a
    /// PodDisruptionBudget, and Deployments their maxSurge. Saturates.
    pub fn resolve_up(self, total: u32) -> u32 {
        self.resolve(total, u64::div_ceil)
    }

    /// The number of things out of `total`, a fraction rounded **down**: as
    /// Deployments round their maxUnavailable. Saturates.
    pub fn resolve_down(self, total: u32) -> u32 {
        self.resolve(total, |hundredths, hundred| hundredths / hundred)
    }

    fn resolve(self, total: u32, divide: impl Fn(u64, u64) -> u64) -> u32 {
        match self {
            Self::Int(count) => count,
            Self::Percent(percent) => {
                let share = divide(u64::from(percent) * u64::from(total), 100);
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Reads `3` and `25%`. In serialised form a count is a number and only a
/// percentage is a string.
impl FromStr for IntOrPercent {
    type Err = ParseIntOrPercentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent = text.strip_suffix('%');
        let digits = percent.unwrap_or(text);
        // `u32::from_str` would also take a sign.
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse() {
            Ok(number) if is_number && percent.is_some() => Ok(Self::Percent(number)),
            Ok(number) if is_number => Ok(Self::Int(number)),
            _ => Err(ParseIntOrPercentError {
                input: text.chars().take(80).collect(),
            }),
        }
    }
}

impl fmt::Display for IntOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for IntOrPercent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntOrPercentVisitor)
    }
}

/// Written by hand because a derived untagged enum hides the reason of a
/// refusal.
struct IntOrPercentVisitor;

impl Visitor<'_> for IntOrPercentVisitor {
    type Value = IntOrPercent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count like `3` or a percentage like `\"25%\"`")
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Self::Value, E> {
        match u32::try_from(count) {
            Ok(count) => Ok(IntOrPercent::Int(count)),
            Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(count), &self)),
        }
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Self::Value, E> {
        match u64::try_from(count) {
            Ok(count) => self.visit_u64(count),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(count), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text.parse() {
            Ok(percent @ IntOrPercent::Percent(_)) => Ok(percent),
            // Kubernetes refuses a count in quotes.
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::IntOrPercent::{Int, Percent};
    use super::*;

    #[test]
    fn rounds_as_the_controllers_do() {
        for (value, total, up, down) in [
            (Percent(50), 7, 4, 3),
            (Percent(25), 10, 3, 2),
            (Percent(1), 1, 1, 0),
            (Percent(0), 10, 0, 0),
            (Percent(100), 7, 7, 7),
            (Percent(30), 10, 3, 3),
            (Percent(200), 3, 6, 6),
            (Percent(50), 0, 0, 0),
            (Int(5), 3, 5, 5),
            (Percent(u32::MAX), u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(value.resolve_up(total), up, "{value} of {total}");
            assert_eq!(value.resolve_down(total), down, "{value} of {total}");
        }
    }

    #[test]
    fn bad_values_are_refused_with_the_value_and_a_cure() {
        for json in [
            "\"25\"",
            "\"25 %\"",
            "\"%\"",
            "\"+5%\"",
            "\"-5%\"",
            "\"x\"",
            "-1",
            "1.5",
            "4294967296",
            "\"4294967296%\"",
            "null",
            "[1]",
        ] {
            let error = serde_json::from_str::<IntOrPercent>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains("`\"25%\"`"), "{json}: {error}");
        }
        let error = "many".parse::<IntOrPercent>().unwrap_err().to_string();
        assert!(
            error.contains("\"many\"") && error.contains("`3`"),
            "{error}"
        );
    }

    fn any_value() -> impl Strategy<Value = IntOrPercent> {
        prop_oneof![any::<u32>().prop_map(Int), (0u32..300).prop_map(Percent)]
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(value in any_value()) {
            prop_assert_eq!(value.to_string().parse(), Ok(value));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<IntOrPercent>(&json).unwrap(), value);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<IntOrPercent>();
        }

        /// The controllers compute in floating point; whole numbers must give
        /// the same.
        #[test]
        fn agrees_with_floating_point(percent in 0u32..=100, total in 0u32..200_000) {
            let exact = f64::from(percent) * f64::from(total) / 100.0;
            prop_assert_eq!(f64::from(Percent(percent).resolve_up(total)), exact.ceil());
            prop_assert_eq!(f64::from(Percent(percent).resolve_down(total)), exact.floor());
        }
    }
}
