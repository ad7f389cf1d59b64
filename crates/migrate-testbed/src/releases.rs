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
    /// What kubeadm deploys beside it, where the testbed runs kubeadm.
    pub(crate) kubeadm: Option<KubeadmParts>,
}

/// Versions of what kubeadm deploys beside Kubernetes itself, without `v`: its
/// own constants, `app/constants/constants.go` of the release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KubeadmParts {
    pub(crate) coredns: &'static str,
    /// The image's tag is this and `-0`.
    pub(crate) etcd: &'static str,
    pub(crate) pause: &'static str,
}

/// The network plugins of every node.
pub(crate) const CNI_PLUGINS: &str = "1.9.1";

/// The kwok that plays the kubelets of every release.
pub(crate) const KWOK: &str = "0.8.0";

const ETCD: &str = "3.6.16";

impl Release {
    /// The releases that the ordinary tests use, oldest first.
    pub const TESTED: &'static [Self] = &[
        Self::new(36, "1.36.3").with_kubeadm("1.14.2", "3.6.8"),
        Self::new(37, "1.37.2").with_kubeadm("1.14.6", "3.7.0"),
    ];

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
            kubeadm: None,
        }
    }

    const fn with_kubeadm(self, coredns: &'static str, etcd: &'static str) -> Self {
        let pause = "3.10.2";
        Self {
            kubeadm: Some(KubeadmParts {
                coredns,
                etcd,
                pause,
            }),
            ..self
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
