//! Kubernetes versions: parsing, canonical text, and an order that never
//! claims more than is known.
//!
//! | text | read as |
//! |---|---|
//! | `v1.37.2`, `1.37.2` | a release |
//! | `1.37` | a minor whose patch is not named |
//! | `v1.37.0-rc.1` | a pre-release (`alpha`, `beta` or `rc`) |
//! | `v1.36.3+k3s1`, `v1.35.4-eks-1a2b3c`, `v1.34.1-gke.1234567` | a release with a vendor build |
//! | `v1.38.0-alpha.1.95+0c1d2e` | a pre-release with a build |
//!
//! The canonical text always starts with `v`. Everything after the first `-`
//! that does not start with `alpha`, `beta` or `rc` is a vendor build, not a
//! pre-release: `v1.35.4-eks-1a2b3c` is *not* older than `v1.35.4`, as it would
//! be by the rules of semantic versioning.
//!
//! # Two orders
//!
//! - [`KubeVersion::compare`] is the one decisions are taken with. It answers
//!   with a [`VersionComparison`], which can also say that there is no order.
//! - [`Ord`] is total, so that versions can be keys of maps and be sorted in
//!   reports. It agrees with `compare` wherever that one decides, and breaks
//!   the remaining ties by text.

mod minor;
mod parse;
mod pre_release;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::minor::MinorVersion;
pub use self::parse::{ParseVersionError, VersionProblem};
pub use self::pre_release::{PreRelease, PreReleaseStage};

/// A Kubernetes version as components report it and people write it.
///
/// Serialised as its canonical text, see the [module documentation](self).
///
/// ```
/// use migrate_core::version::{KubeVersion, VersionComparison};
///
/// let node: KubeVersion = "1.36.3+k3s1".parse()?;
/// let target: KubeVersion = "v1.37.0".parse()?;
/// assert_eq!(node.to_string(), "v1.36.3+k3s1");
/// assert_eq!(node.compare(&target), VersionComparison::Older);
/// assert_eq!(node.minor_distance(&target), Some(1));
/// # Ok::<(), migrate_core::version::ParseVersionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubeVersion {
    minor: MinorVersion,
    patch: Option<u32>,
    pre_release: Option<PreRelease>,
    /// With its leading `-` or `+`, because both spellings are in use and the
    /// text must be given back as it was.
    build: Option<Box<str>>,
}

/// How one version stands to another; the answer of [`KubeVersion::compare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum VersionComparison {
    /// The first version is older.
    Older,
    /// Both name exactly the same version, build included.
    Same,
    /// The first version is newer.
    Newer,
    /// Same version, another vendor build (or one with a build and one
    /// without): vendors number their builds as they please, so there is no
    /// order.
    DifferentBuild,
    /// Same minor, and one of the two does not name its patch: `1.37` is
    /// neither older nor newer than `1.37.2`.
    PatchUnknown,
}

impl KubeVersion {
    /// The release `major.minor.patch`, without pre-release or build.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            minor: MinorVersion::new(major, minor),
            patch: Some(patch),
            pre_release: None,
            build: None,
        }
    }

    /// The major version; 1 for every Kubernetes published so far.
    pub const fn major(&self) -> u32 {
        self.minor.major()
    }

    /// The minor version as a plain number, `37` in `v1.37.2`.
    pub const fn minor(&self) -> u32 {
        self.minor.minor()
    }

    /// The patch, or `None` if the text named only a minor.
    pub const fn patch(&self) -> Option<u32> {
        self.patch
    }

    /// The pre-release part, `rc.1` in `v1.37.0-rc.1`.
    pub const fn pre_release(&self) -> Option<&PreRelease> {
        self.pre_release.as_ref()
    }

    /// The vendor build without its leading separator: `k3s1`, `eks-1a2b3c`,
    /// `gke.1234567`.
    pub fn vendor_build(&self) -> Option<&str> {
        self.build.as_deref().and_then(|build| build.get(1..))
    }

    /// The minor this version belongs to. The version skew policy speaks only
    /// of minors; a pre-release belongs to the minor it leads to.
    pub const fn minor_version(&self) -> MinorVersion {
        self.minor
    }

    /// Whether this is an alpha, beta or release candidate. A vendor build is
    /// not.
    pub const fn is_prerelease(&self) -> bool {
        self.pre_release.is_some()
    }

    /// Minors to go from this version to `other`: 1 from 1.36 to 1.37, −1 the
    /// other way. `None` if the majors differ, where no distance is defined.
    pub fn minor_distance(&self, other: &Self) -> Option<i64> {
        self.minor.distance_to(other.minor)
    }

    /// How this version stands to `other`, as far as the two texts tell.
    ///
    /// Major, minor, patch, then pre-release before release (`alpha` < `beta` <
    /// `rc` < the release; within a stage number by number, fewer numbers
    /// first). What is left is [`DifferentBuild`](VersionComparison::DifferentBuild);
    /// a patch that one side does not name makes versions of the same minor
    /// [`PatchUnknown`](VersionComparison::PatchUnknown) unless they are equal.
    pub fn compare(&self, other: &Self) -> VersionComparison {
        if self == other {
            return VersionComparison::Same;
        }
        let by_minor = self.minor.cmp(&other.minor);
        if by_minor.is_eq() && (self.patch.is_none() || other.patch.is_none()) {
            return VersionComparison::PatchUnknown;
        }
        match by_minor.then_with(|| self.cmp_within_minor(other)) {
            Ordering::Less => VersionComparison::Older,
            Ordering::Equal => VersionComparison::DifferentBuild,
            Ordering::Greater => VersionComparison::Newer,
        }
    }

    /// Whether a component of this version has reached `target`.
    ///
    /// What `target` leaves open is met by anything: `1.37` by every release
    /// of that minor (not by its pre-releases), `v1.37.2` by every vendor's
    /// build of it. A newer version has not reached it but passed it.
    pub fn satisfies(&self, target: &Self) -> bool {
        match self.compare(target) {
            VersionComparison::Same => true,
            VersionComparison::DifferentBuild => target.build.is_none(),
            VersionComparison::PatchUnknown => target.patch.is_none() && !self.is_prerelease(),
            VersionComparison::Older | VersionComparison::Newer => false,
        }
    }

    /// Whether a component of this version has nothing to do on the way to
    /// `target`: it satisfies it, or has passed it and is left alone.
    pub fn has_reached(&self, target: &Self) -> bool {
        self.satisfies(target) || self.compare(target) == VersionComparison::Newer
    }

    /// Whether it comes before `other` for certain: builds have no order, and
    /// neither have patches that one side does not name.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.compare(other) == VersionComparison::Older
    }

    /// This version, or `other` where that is older for certain.
    #[must_use]
    pub fn or_older<'a>(&'a self, other: &'a Self) -> &'a Self {
        match other.is_older_than(self) {
            true => other,
            false => self,
        }
    }

    /// Patch, then pre-release before release; builds left out.
    fn cmp_within_minor(&self, other: &Self) -> Ordering {
        self.patch
            .cmp(&other.patch)
            .then_with(|| match (&self.pre_release, &other.pre_release) {
                (Some(a), Some(b)) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            })
    }
}

/// Total, for maps and reports: minor, patch (not named first), pre-release
/// before release, then the build by its bytes (none first). Take decisions
/// with [`KubeVersion::compare`], which does not invent an order of builds.
impl Ord for KubeVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        self.minor
            .cmp(&other.minor)
            .then_with(|| self.cmp_within_minor(other))
            .then_with(|| self.build.cmp(&other.build))
    }
}

impl PartialOrd for KubeVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A minor whose patch is not named.
impl From<MinorVersion> for KubeVersion {
    fn from(minor: MinorVersion) -> Self {
        Self {
            minor,
            patch: None,
            pre_release: None,
            build: None,
        }
    }
}

impl FromStr for KubeVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::kube_version(text)
    }
}

impl TryFrom<String> for KubeVersion {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KubeVersion> for String {
    fn from(version: KubeVersion) -> Self {
        version.to_string()
    }
}

/// The canonical text; parsing it gives the same version back.
impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.minor)?;
        if let Some(patch) = self.patch {
            write!(f, ".{patch}")?;
        }
        if let Some(pre_release) = &self.pre_release {
            write!(f, "-{pre_release}")?;
        }
        f.write_str(self.build.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::VersionComparison::{DifferentBuild, Newer, Older, PatchUnknown, Same};
    use super::*;

    fn version(text: &str) -> KubeVersion {
        text.parse().unwrap()
    }

    /// Small numbers, so that equal parts are common.
    fn any_version() -> impl Strategy<Value = KubeVersion> {
        let pre_release = prop::option::of("(alpha|beta|rc)(\\.[0-3]){0,2}");
        let build = prop::option::of("[-+](k3s|eks|gke)[.-]?[0-2a-c]{1,2}");
        let suffix = (pre_release, build).prop_map(|(pre_release, build)| {
            let pre_release = pre_release.map(|p| format!("-{p}")).unwrap_or_default();
            format!("{pre_release}{}", build.unwrap_or_default())
        });
        (1u32..3, 35u32..38, prop::option::of((0u32..3, suffix))).prop_map(
            |(major, minor, rest)| match rest {
                Some((patch, suffix)) => version(&format!("{major}.{minor}.{patch}{suffix}")),
                None => MinorVersion::new(major, minor).into(),
            },
        )
    }

    #[test]
    fn reads_every_spelling_in_use() {
        for (text, canonical, pre_release, vendor) in [
            ("v1.37.2", "v1.37.2", false, None),
            ("1.37", "v1.37", false, None),
            ("v1.37.0-rc.1", "v1.37.0-rc.1", true, None),
            ("1.37.0-RC1", "v1.37.0-rc.1", true, None),
            ("v1.36.3+k3s1", "v1.36.3+k3s1", false, Some("k3s1")),
            ("v1.36.3+rke2r1", "v1.36.3+rke2r1", false, Some("rke2r1")),
            (
                "v1.35.4-eks-1a2b3c",
                "v1.35.4-eks-1a2b3c",
                false,
                Some("eks-1a2b3c"),
            ),
            (
                "v1.34.1-gke.1234567",
                "v1.34.1-gke.1234567",
                false,
                Some("gke.1234567"),
            ),
            (
                "v1.26.5+vmware.2-fips.1",
                "v1.26.5+vmware.2-fips.1",
                false,
                Some("vmware.2-fips.1"),
            ),
            (
                "v1.38.0-alpha.1.95+0c1d2e",
                "v1.38.0-alpha.1.95+0c1d2e",
                true,
                Some("0c1d2e"),
            ),
            (
                "v1.38.0-alpha.1-gke.7",
                "v1.38.0-alpha.1-gke.7",
                true,
                Some("gke.7"),
            ),
            // Starts like a pre-release stage, but is a word of its own.
            (
                "v1.36.1-rcloud.2",
                "v1.36.1-rcloud.2",
                false,
                Some("rcloud.2"),
            ),
        ] {
            let parsed = version(text);
            assert_eq!(parsed.to_string(), canonical, "{text}");
            assert_eq!(parsed.is_prerelease(), pre_release, "{text}");
            assert_eq!(parsed.vendor_build(), vendor, "{text}");
        }
    }

    #[test]
    fn a_target_leaves_open_what_it_does_not_say() {
        for (version, target, satisfies, reached) in [
            ("1.37.2", "1.37.2", true, true),
            ("1.37.2", "1.37", true, true),
            ("1.37.0-rc.1", "1.37", false, false),
            ("1.37.2+k3s1", "1.37.2", true, true),
            ("1.37.2+k3s1", "1.37.2+k3s2", false, false),
            ("1.37.3", "1.37.2", false, true),
            ("1.36.9", "1.37", false, false),
            ("1.36.0", "2.0.0", false, false),
        ] {
            let (a, b): (KubeVersion, KubeVersion) =
                (version.parse().unwrap(), target.parse().unwrap());
            assert_eq!(a.satisfies(&b), satisfies, "{version} {target}");
            assert_eq!(a.has_reached(&b), reached, "{version} {target}");
        }
    }

    #[test]
    fn compares_as_documented() {
        for (a, b, expected) in [
            ("1.36.9", "1.37.0", Older),
            ("1.9.0", "1.10.0", Older),
            ("2.0.0", "1.37.0", Newer),
            ("1.37.2", "1.37.10", Older),
            ("1.37.0-rc.1", "1.37.0", Older),
            ("1.37.0-alpha.3", "1.37.0-beta.0", Older),
            ("1.37.0-rc.10", "1.37.0-rc.9", Newer),
            ("1.37.0-alpha.1", "1.37.0-alpha.1.95", Older),
            ("1.37.0-rc.1", "1.36.9", Newer),
            ("v1.37.2", "1.37.2", Same),
            ("1.37", "1.37", Same),
            ("1.37", "1.37.2", PatchUnknown),
            ("1.37.0-rc.1", "1.37", PatchUnknown),
            ("1.37", "1.38.0-rc.1", Older),
            ("1.36.3+k3s1", "1.36.3+k3s2", DifferentBuild),
            ("1.35.4-eks-1a2b3c", "1.35.4", DifferentBuild),
            ("1.35.4-eks-1a2b3c", "1.35.5", Older),
            ("1.36.0-rc.1+k3s1", "1.36.0+k3s1", Older),
        ] {
            assert_eq!(version(a).compare(&version(b)), expected, "{a} to {b}");
        }
    }

    #[test]
    fn sorting_tells_all_versions_apart() {
        let sorted = [
            "v1.36",
            "v1.36.0-alpha.1",
            "v1.36.0-rc.1",
            "v1.36.0-rc.1+k3s1",
            "v1.36.0",
            "v1.36.0+k3s1",
            "v1.36.0+k3s2",
            "v1.36.0-eks-1",
            "v1.36.1",
            "v1.37",
        ]
        .map(version);
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn serde_uses_the_canonical_text() {
        let json = serde_json::to_string(&version("1.36.3+k3s1")).unwrap();
        assert_eq!(json, "\"v1.36.3+k3s1\"");
        assert_eq!(
            serde_json::from_str::<KubeVersion>(&json).unwrap(),
            version("1.36.3+k3s1")
        );
        let error = serde_json::from_str::<KubeVersion>("\"1.x\"").unwrap_err();
        assert!(error.to_string().contains("\"1.x\""), "{error}");
    }

    proptest! {
        #[test]
        fn canonical_text_round_trips(version in any_version()) {
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }

        #[test]
        fn any_accepted_text_has_a_fixed_canonical_text(
            text in "v?[0-9]{1,3}\\.[0-9]{1,2}(\\.[0-9]{1,2})?([-+](rc|beta|[a-z0-9]{1,4})([.+-]?[a-z0-9]{1,3}){0,3})?"
        ) {
            if let Ok(parsed) = text.parse::<KubeVersion>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>(), near in "[v0-9.+a-z-]{0,24}") {
            for text in [text, near] {
                if let Err(error) = text.parse::<KubeVersion>() {
                    prop_assert!(!error.to_string().is_empty());
                }
                let _ = text.parse::<MinorVersion>();
            }
        }

        #[test]
        fn ord_is_a_total_order(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b).is_eq(), a == b);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn compare_is_antisymmetric_and_ord_agrees(a in any_version(), b in any_version()) {
            let mirrored = match b.compare(&a) {
                Older => Newer,
                Newer => Older,
                other => other,
            };
            prop_assert_eq!(a.compare(&b), mirrored);
            match a.compare(&b) {
                Older => prop_assert!(a < b),
                Newer => prop_assert!(a > b),
                Same => prop_assert!(a == b),
                DifferentBuild | PatchUnknown => prop_assert!(a != b),
            }
        }

        #[test]
        fn a_build_never_decides(a in any_version(), b in any_version()) {
            let bare = |v: &KubeVersion| KubeVersion { build: None, ..v.clone() };
            match a.compare(&b) {
                decided @ (Older | Newer) => prop_assert_eq!(bare(&a).compare(&bare(&b)), decided),
                DifferentBuild => prop_assert_eq!(bare(&a), bare(&b)),
                _ => {}
            }
        }
    }
}
