//! The pre-release part of a version.

use std::fmt;

/// How far a pre-release is from its release, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PreReleaseStage {
    /// `alpha`
    Alpha,
    /// `beta`
    Beta,
    /// `rc`, a release candidate
    ReleaseCandidate,
}

/// `rc.1`, `beta.0`, `alpha.1.95`. Ordered by stage, then number by number,
/// fewer numbers first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PreRelease {
    stage: PreReleaseStage,
    numbers: Box<[u32]>,
}

impl PreReleaseStage {
    pub(super) const ALL: [Self; 3] = [Self::Alpha, Self::Beta, Self::ReleaseCandidate];

    /// The word used in version texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::ReleaseCandidate => "rc",
        }
    }
}

impl PreRelease {
    pub(super) fn new(stage: PreReleaseStage, numbers: Vec<u32>) -> Self {
        Self {
            stage,
            numbers: numbers.into_boxed_slice(),
        }
    }

    /// The stage, `rc` in `rc.1`.
    pub const fn stage(&self) -> PreReleaseStage {
        self.stage
    }

    /// The numbers after the stage: `[1]` in `rc.1`; builds between two
    /// pre-releases have a second one, the commits since.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }
}

impl fmt::Display for PreRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stage.as_str())?;
        self.numbers.iter().try_for_each(|n| write!(f, ".{n}"))
    }
}
