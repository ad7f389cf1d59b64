//! Quantities with their units, so that bytes and rates cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

/// An amount of data, in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A data rate, in bytes per second.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BytesPerSecond(pub u64);

/// A rate of pods, in pods per second.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PodsPerSecond(pub u32);

impl Bytes {
    /// Mebibytes (2²⁰), saturating.
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes.saturating_mul(MIB))
    }

    /// Gibibytes (2³⁰), saturating.
    pub const fn gib(gibibytes: u64) -> Self {
        Self(gibibytes.saturating_mul(GIB))
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl BytesPerSecond {
    /// Mebibytes (2²⁰) per second, saturating.
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes.saturating_mul(MIB))
    }

    /// Megabits (10⁶) per second, as network links are sold; saturating.
    pub const fn megabits(megabits: u64) -> Self {
        Self(megabits.saturating_mul(1_000_000 / 8))
    }
}

/// With one decimal in the largest binary unit that fits: `1.5 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        match units.into_iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(size);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

/// As [`Bytes`], followed by `/s`.
impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.0))
    }
}

impl fmt::Display for PodsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pods/s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_in_the_largest_unit() {
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes::mib(1536).to_string(), "1.5 GiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16777215.9 TiB");
        assert_eq!(BytesPerSecond::megabits(100).to_string(), "11.9 MiB/s");
        assert_eq!(Bytes::gib(u64::MAX), Bytes(u64::MAX));
    }
}
