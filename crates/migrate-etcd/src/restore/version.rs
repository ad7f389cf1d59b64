//! Versions of etcd.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A version of etcd, by its major and minor: patches share their data format.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EtcdVersion {
    major: u16,
    minor: u16,
}

impl EtcdVersion {
    /// Version `major.minor`.
    pub fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

/// `3.6`, `3.6.16`, `v3.6.16-rc.0`.
impl FromStr for EtcdVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let trimmed = text.trim();
            let mut numbers = trimmed.strip_prefix('v').unwrap_or(trimmed).split('.');
            let major = numbers.next()?.parse().ok()?;
            let minor = numbers.next()?.parse().ok()?;
            Some(Self { major, minor })
        };
        parse().ok_or_else(|| Error::InvalidVersion {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_etcd() {
        for text in ["3.6", "3.6.0", "v3.6.16", " 3.6.0-rc.1\n"] {
            assert_eq!(text.parse().ok(), Some(EtcdVersion::new(3, 6)), "{text}");
        }
        for text in ["", "3", "three.6", "3.x"] {
            assert!(text.parse::<EtcdVersion>().is_err(), "{text}");
        }
        assert!(EtcdVersion::new(3, 10) > EtcdVersion::new(3, 9));
    }
}
