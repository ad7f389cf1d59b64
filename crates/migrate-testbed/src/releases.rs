//! The releases the testbed can run.

use crate::Error;

/// A Kubernetes release with the etcd it is run on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Release {
    /// Minor version, `36` for Kubernetes 1.36.
    pub minor: u32,
    /// Full version without `v`, `1.36.3`.
    pub kubernetes: &'static str,
    /// Version of etcd without `v`.
    pub etcd: &'static str,
}

/// The kwok that plays the kubelets of every release.
pub(crate) const KWOK: &str = "0.8.0";

const ETCD: &str = "3.6.16";

impl Release {
    /// The releases that the ordinary tests use, oldest first.
    pub const TESTED: &'static [Self] = &[Self::new(36, "1.36.3"), Self::new(37, "1.37.2")];

    /// Older releases for the extended version matrix, oldest first.
    pub const EXTENDED: &'static [Self] = &[
        Self::new(33, "1.33.13"),
        Self::new(34, "1.34.4"),
        Self::new(35, "1.35.4"),
    ];

    const fn new(minor: u32, kubernetes: &'static str) -> Self {
        Self {
            minor,
            kubernetes,
            etcd: ETCD,
        }
    }

    /// The release of a minor version.
    ///
    /// # Errors
    /// [`Error::UnknownMinor`].
    pub fn of_minor(minor: u32) -> Result<Self, Error> {
        Self::all()
            .find(|release| release.minor == minor)
            .ok_or(Error::UnknownMinor { minor })
    }

    pub(crate) fn known() -> String {
        let versions: Vec<_> = Self::all().map(|release| release.kubernetes).collect();
        versions.join(", ")
    }

    fn all() -> impl Iterator<Item = Self> {
        Self::EXTENDED.iter().chain(Self::TESTED).copied()
    }
}
