//! The policy as a table.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::version::MinorVersion;

/// Name of the policy most rules come from.
pub const VERSION_SKEW_POLICY: &str = "Kubernetes version skew policy";

/// Name of the policy the rules about kubeadm come from.
pub const KUBEADM_SKEW_POLICY: &str = "kubeadm version skew policy";

/// Components older than this minor are held to the tighter
/// [`SkewAllowance::minors_of_legacy`].
pub const LEGACY_BEFORE: MinorVersion = MinorVersion::new(1, 25);

/// One row of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkewRule {
    /// The component that is judged.
    pub component: Component,
    /// What it is judged against.
    pub against: SkewPeer,
    /// How much older than the *newest* peer it may be.
    pub older: SkewAllowance,
    /// How much newer than the *oldest* peer it may be.
    pub newer: SkewAllowance,
    /// The rule in one sentence, for people.
    pub sentence: &'static str,
    /// Name of the policy it belongs to.
    pub source: &'static str,
}

/// What a rule compares a component with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SkewPeer {
    /// The API servers it can reach; for an API server, those of its control
    /// plane.
    ApiServers,
    /// The kubelet on the same node.
    LocalKubelet,
    /// The minor that an upgrade goes to.
    UpgradeTarget,
}

/// A distance in minors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkewAllowance {
    /// For components from [`LEGACY_BEFORE`] on.
    pub minors: u32,
    /// For older components; never more than `minors`, and at most one less,
    /// so that what is allowed is always one unbroken range.
    pub minors_of_legacy: u32,
}

/// Minors from `oldest` to `newest`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VersionRange {
    /// The first minor of the range.
    pub oldest: MinorVersion,
    /// The last minor of the range.
    pub newest: MinorVersion,
}

/// The version skew policy of every component.
pub const SKEW_RULES: &[SkewRule] = &[
    SkewRule {
        component: Component::ApiServer,
        against: SkewPeer::ApiServers,
        older: SkewAllowance::of(1),
        newer: SkewAllowance::of(1),
        sentence: "the kube-apiservers of one control plane must be within one minor of each other",
        source: VERSION_SKEW_POLICY,
    },
    not_newer_one_older(
        Component::ControllerManager,
        "kube-controller-manager must not be newer than any kube-apiserver it can reach \
         and at most one minor older",
    ),
    not_newer_one_older(
        Component::Scheduler,
        "kube-scheduler must not be newer than any kube-apiserver it can reach \
         and at most one minor older",
    ),
    not_newer_one_older(
        Component::CloudControllerManager,
        "cloud-controller-manager must not be newer than any kube-apiserver it can reach \
         and at most one minor older",
    ),
    SkewRule {
        component: Component::Kubelet,
        against: SkewPeer::ApiServers,
        older: SkewAllowance::THREE_OR_LEGACY_TWO,
        newer: SkewAllowance::of(0),
        sentence: "kubelet must not be newer than any kube-apiserver it can reach \
                   and at most three minors older (two before 1.25)",
        source: VERSION_SKEW_POLICY,
    },
    SkewRule {
        component: Component::KubeProxy,
        against: SkewPeer::ApiServers,
        older: SkewAllowance::THREE_OR_LEGACY_TWO,
        newer: SkewAllowance::of(0),
        sentence: "kube-proxy must not be newer than any kube-apiserver it can reach \
                   and at most three minors older (two before 1.25)",
        source: VERSION_SKEW_POLICY,
    },
    SkewRule {
        component: Component::KubeProxy,
        against: SkewPeer::LocalKubelet,
        older: SkewAllowance::THREE_OR_LEGACY_TWO,
        newer: SkewAllowance::THREE_OR_LEGACY_TWO,
        sentence: "kube-proxy must be within three minors (two before 1.25) \
                   of the kubelet on its node",
        source: VERSION_SKEW_POLICY,
    },
    SkewRule {
        component: Component::Kubectl,
        against: SkewPeer::ApiServers,
        older: SkewAllowance::of(1),
        newer: SkewAllowance::of(1),
        sentence: "kubectl must be within one minor of every kube-apiserver it can reach",
        source: VERSION_SKEW_POLICY,
    },
    SkewRule {
        component: Component::Kubeadm,
        against: SkewPeer::ApiServers,
        older: SkewAllowance::of(0),
        newer: SkewAllowance::of(1),
        sentence: "kubeadm must not be older than the control plane it works on \
                   and at most one minor newer",
        source: KUBEADM_SKEW_POLICY,
    },
    SkewRule {
        component: Component::Kubeadm,
        against: SkewPeer::UpgradeTarget,
        older: SkewAllowance::of(0),
        newer: SkewAllowance::of(0),
        sentence: "kubeadm must be of the minor it upgrades to",
        source: KUBEADM_SKEW_POLICY,
    },
];

const fn not_newer_one_older(component: Component, sentence: &'static str) -> SkewRule {
    SkewRule {
        component,
        against: SkewPeer::ApiServers,
        older: SkewAllowance::of(1),
        newer: SkewAllowance::of(0),
        sentence,
        source: VERSION_SKEW_POLICY,
    }
}

impl SkewRule {
    /// The minors allowed next to peers from `peers.oldest` to `peers.newest`;
    /// `None` if there are none, because the peers are too far apart or of
    /// different majors.
    pub fn allowed(&self, peers: VersionRange) -> Option<VersionRange> {
        let mut oldest = peers.newest.older_by(self.older.minors);
        if oldest < LEGACY_BEFORE {
            oldest = peers.newest.older_by(self.older.minors_of_legacy);
        }
        let mut newest = peers.oldest.newer_by(self.newer.minors);
        if newest < LEGACY_BEFORE {
            newest = peers.oldest.newer_by(self.newer.minors_of_legacy);
        }
        VersionRange::new(oldest, newest)
    }
}

impl SkewAllowance {
    const THREE_OR_LEGACY_TWO: Self = Self {
        minors: 3,
        minors_of_legacy: 2,
    };

    const fn of(minors: u32) -> Self {
        Self {
            minors,
            minors_of_legacy: minors,
        }
    }
}

impl VersionRange {
    /// The range, or `None` if `newest` is older than `oldest`.
    pub fn new(oldest: MinorVersion, newest: MinorVersion) -> Option<Self> {
        (oldest <= newest).then_some(Self { oldest, newest })
    }

    /// Whether `minor` is in it.
    pub fn contains(self, minor: MinorVersion) -> bool {
        self.oldest <= minor && minor <= self.newest
    }
}

impl fmt::Display for SkewPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiServers => "kube-apiserver",
            Self::LocalKubelet => "the kubelet on its node at",
            Self::UpgradeTarget => "the upgrade target",
        })
    }
}

/// `1.34 to 1.37`, or `1.37` for a single minor.
impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.oldest.fmt(f)?;
        if self.oldest != self.newest {
            write!(f, " to {}", self.newest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The policy once more, as the published text words it, minor by minor.
    fn policy(component: Component, version: i64, oldest: i64, newest: i64) -> bool {
        let reach = if version < 25 { 2 } else { 3 };
        match component {
            Component::ApiServer => {
                newest.max(version) - version <= 1 && version.max(oldest) - oldest <= 1
            }
            Component::ControllerManager
            | Component::Scheduler
            | Component::CloudControllerManager => version <= oldest && version >= newest - 1,
            Component::Kubelet | Component::KubeProxy => {
                version <= oldest && version >= newest - reach
            }
            Component::Kubectl => (newest - 1..=oldest + 1).contains(&version),
            Component::Kubeadm => (newest..=oldest + 1).contains(&version),
        }
    }

    proptest! {
        #[test]
        fn ranges_agree_with_the_policy_minor_by_minor(
            version in 15u32..45, oldest in 18u32..42, apart in 0u32..5
        ) {
            let minor = |m| MinorVersion::new(1, m);
            let peers = VersionRange::new(minor(oldest), minor(oldest + apart)).unwrap();
            let (v, a, b) = (version.into(), oldest.into(), (oldest + apart).into());
            for rule in SKEW_RULES {
                let by_range = rule.allowed(peers).is_some_and(|r| r.contains(minor(version)));
                let by_policy = match rule.against {
                    SkewPeer::ApiServers => policy(rule.component, v, a, b),
                    SkewPeer::LocalKubelet => {
                        let reach = if v < 25 { 2 } else { 3 };
                        (v - a).abs() <= reach && (v - b).abs() <= reach
                    }
                    SkewPeer::UpgradeTarget => v == a && v == b,
                };
                prop_assert_eq!(by_range, by_policy, "{:?} {} with {}", rule, version, peers);
            }
        }
    }

    #[test]
    fn every_component_has_a_rule_about_api_servers() {
        use Component::*;
        for component in [
            ApiServer,
            ControllerManager,
            Scheduler,
            CloudControllerManager,
            Kubelet,
            KubeProxy,
            Kubectl,
            Kubeadm,
        ] {
            let rules = SKEW_RULES
                .iter()
                .filter(|rule| rule.component == component && rule.against == SkewPeer::ApiServers);
            assert_eq!(rules.count(), 1, "{component}");
        }
    }
}
