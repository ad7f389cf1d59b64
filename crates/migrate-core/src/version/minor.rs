//! A minor version, the unit of the version skew policy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::parse::{self, ParseVersionError};

/// `1.37`: what the version skew policy and upgrade paths speak of.
///
/// Ordered by major, then minor. Its text, also in serialised form, is `1.37`
/// without `v`; parsing accepts `v1.37` too and refuses a patch, because
/// dropping it in silence would hide a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinorVersion {
    major: u32,
    minor: u32,
}

impl MinorVersion {
    /// The minor version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The major version.
    pub const fn major(self) -> u32 {
        self.major
    }

    /// The minor version as a plain number.
    pub const fn minor(self) -> u32 {
        self.minor
    }

    /// The minor after this one, within the same major (saturating).
    #[must_use]
    pub const fn next(self) -> Self {
        self.newer_by(1)
    }

    /// The minor `minors` after this one, within the same major (saturating).
    #[must_use]
    pub const fn newer_by(self, minors: u32) -> Self {
        Self::new(self.major, self.minor.saturating_add(minors))
    }

    /// The minor `minors` before this one; never below `.0` of the same major.
    #[must_use]
    pub const fn older_by(self, minors: u32) -> Self {
        Self::new(self.major, self.minor.saturating_sub(minors))
    }

    /// Minors to go from this one to `other`, negative if `other` is older.
    /// `None` if the majors differ.
    pub fn distance_to(self, other: Self) -> Option<i64> {
        (self.major == other.major).then(|| i64::from(other.minor) - i64::from(self.minor))
    }
}

impl FromStr for MinorVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::minor_version(text)
    }
}

impl TryFrom<String> for MinorVersion {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MinorVersion> for String {
    fn from(minor: MinorVersion) -> Self {
        minor.to_string()
    }
}

impl fmt::Display for MinorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn steps_stay_within_the_major() {
        let minor = MinorVersion::new(1, 37);
        assert_eq!(minor.next(), MinorVersion::new(1, 38));
        assert_eq!(minor.older_by(40), MinorVersion::new(1, 0));
        assert_eq!(
            MinorVersion::new(1, u32::MAX).next(),
            MinorVersion::new(1, u32::MAX)
        );
        assert_eq!(minor.distance_to(MinorVersion::new(1, 35)), Some(-2));
        assert_eq!(minor.distance_to(MinorVersion::new(2, 37)), None);
    }

    #[test]
    fn text_is_a_map_key_and_a_patch_is_refused() {
        let map = BTreeMap::from([(MinorVersion::new(1, 9), 1), (MinorVersion::new(1, 10), 2)]);
        assert_eq!(
            serde_json::to_string(&map).unwrap(),
            r#"{"1.9":1,"1.10":2}"#
        );
        assert_eq!("v1.37".parse(), Ok(MinorVersion::new(1, 37)));
        let error = "1.37.2".parse::<MinorVersion>().unwrap_err().to_string();
        assert!(
            error.contains("\"1.37.2\"") && error.contains("`1.37`"),
            "{error}"
        );
    }
}
