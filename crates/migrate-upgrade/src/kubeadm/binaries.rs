//! Plain programs in the place of packages.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::unit::redacted;

/// Replaces functions of `packages.sh`, which comes before it.
pub(super) const BINARIES: &str = include_str!("binaries.sh");

/// Where `kubeadm`, `kubelet` and `kubectl` come from on nodes that have no
/// packages of them.
///
/// An `https` address, or the absolute path of files on each node, in which
/// `{name}`, `{version}` (`1.37.2`) and `{arch}` (`amd64`) stand for what is
/// wanted. Beside each program lies its SHA-256 as `….sha256`, as
/// `dl.k8s.io` has it: nothing is used whose checksum is missing or another.
///
/// ```
/// use migrate_upgrade::Binaries;
///
/// let released = "https://dl.k8s.io/release/v{version}/bin/linux/{arch}/{name}";
/// assert!(released.parse::<Binaries>().is_ok());
/// assert!("http://mirror/{version}/{name}".parse::<Binaries>().is_err());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binaries(String);

impl Binaries {
    pub(super) fn template(&self) -> &str {
        &self.0
    }
}

impl FromStr for Binaries {
    type Err = Error;

    /// # Errors
    /// [`Error::BadBinaries`]: neither `https` nor an absolute path, a placeholder is
    /// missing, or a login is in it: nodes log what their scripts are told.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::BadBinaries {
            given: text.to_owned(),
            reason: reason.to_owned(),
        };
        if !text.starts_with("https://") && !text.starts_with('/') {
            return Err(bad("is neither an https address nor an absolute path"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(bad("has a space in it"));
        }
        let host = text.strip_prefix("https://").unwrap_or_default();
        if host
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
        {
            return Err(Error::BadBinaries {
                given: redacted(text),
                reason: "has a login in it, which every node would log".to_owned(),
            });
        }
        match ["{name}", "{version}"]
            .iter()
            .find(|part| !text.contains(**part))
        {
            Some(part) => Err(bad(&format!("does not say where {part} stands"))),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Binaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_where_name_and_version_stand() {
        for good in [
            "https://dl.k8s.io/release/v{version}/bin/linux/{arch}/{name}",
            "/srv/k8s/{version}/{name}",
        ] {
            assert_eq!(good.parse::<Binaries>().unwrap().to_string(), good);
        }
        for (bad, says) in [
            ("http://x/{version}/{name}", "neither an https address"),
            ("srv/{version}/{name}", "neither an https address"),
            ("/srv/{name}", "{version} stands"),
            ("/srv/{version}", "{name} stands"),
            ("/srv/{version}/{name} x", "space"),
            ("https://me:hunter2@x/{version}/{name}", "has a login in it"),
            ("", "neither"),
        ] {
            let error = bad.parse::<Binaries>().unwrap_err();
            assert!(matches!(error, Error::BadBinaries { .. }));
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
