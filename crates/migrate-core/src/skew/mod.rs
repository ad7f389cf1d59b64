//! The version skew policy: which component may run which version next to
//! which API server, and which way leads from one version to another.
//!
//! The policy is data ([`SKEW_RULES`]) and a check ([`check`]) that says which
//! rule is broken, by what, and what would be allowed.
//!
//! # Judged per endpoint
//!
//! The policy compares a component with the API servers it *talks to*. While a
//! highly available control plane is upgraded its API servers run two minors.
//! A component that goes through a load balancer may meet either of them; one
//! whose kubeconfig names the local API server meets only that one. The same
//! kubelet can therefore be legal on one node and illegal on another, and
//! [`Reachable`] says which case it is.
//!
//! # Caveats
//!
//! - The policy knows minors only: `v1.37.0-rc.1` is judged as 1.37, a vendor
//!   build as its upstream version.
//! - API servers that run with `--emulation-version` or
//!   `--min-compatibility-version` follow other ranges; they are judged here by
//!   the version of their binary.
//! - Whether a node is drained before the minor of its kubelet changes is a
//!   rule about steps, not about versions, and is not checked here.

mod path;
mod refusal;
mod rules;
mod workers;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::version::{KubeVersion, MinorVersion};

pub use self::path::{MAX_PATH_MINORS, PathStop, UpgradePath, upgrade_path};
pub use self::refusal::PathError;
pub use self::rules::{
    KUBEADM_SKEW_POLICY, LEGACY_BEFORE, SKEW_RULES, SkewAllowance, SkewPeer, SkewRule,
    VERSION_SKEW_POLICY, VersionRange,
};
pub use self::workers::path_of_cluster;

/// A component the policy has rules for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Component {
    /// kube-apiserver
    #[serde(rename = "kube-apiserver")]
    ApiServer,
    /// kube-controller-manager
    #[serde(rename = "kube-controller-manager")]
    ControllerManager,
    /// kube-scheduler
    #[serde(rename = "kube-scheduler")]
    Scheduler,
    /// cloud-controller-manager
    #[serde(rename = "cloud-controller-manager")]
    CloudControllerManager,
    /// kubelet
    #[serde(rename = "kubelet")]
    Kubelet,
    /// kube-proxy
    #[serde(rename = "kube-proxy")]
    KubeProxy,
    /// kubectl
    #[serde(rename = "kubectl")]
    Kubectl,
    /// kubeadm
    #[serde(rename = "kubeadm")]
    Kubeadm,
}

/// The API servers a component can really reach, by its kubeconfig's `server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Reachable {
    /// One API server and never another, usually the one on the same node.
    Local(MinorVersion),
    /// Any of these, through a load balancer, a virtual address or a list of
    /// endpoints. Empty means unknown, and then no version is allowed: what
    /// cannot be judged is not called legal.
    LoadBalanced(BTreeSet<MinorVersion>),
}

/// One running component (or a tool about to be used) and what it talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ComponentInstance {
    /// What it is.
    pub component: Component,
    /// The object that shows it: a node, a pod, a host.
    pub name: String,
    /// The version it runs.
    pub version: KubeVersion,
    /// The API servers it can reach. For an API server: all of its control
    /// plane, itself included or not.
    pub reaches: Reachable,
    /// For kube-proxy: the kubelet of the same node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_kubelet: Option<MinorVersion>,
    /// For kubeadm: the minor it is asked to upgrade the cluster to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_target: Option<MinorVersion>,
}

/// A component outside the range that one rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SkewViolation {
    /// What it is.
    pub component: Component,
    /// The object that shows it.
    pub object: String,
    /// The version it runs.
    pub version: KubeVersion,
    /// What it was judged against.
    pub against: SkewPeer,
    /// The oldest and newest of those; `None` if no API server is known.
    pub peers: Option<VersionRange>,
    /// What the rule allows next to them; `None` if nothing is, because the
    /// peers are too far apart or unknown.
    pub allowed: Option<VersionRange>,
    /// The rule, in one sentence.
    pub rule: Cow<'static, str>,
    /// The policy the rule belongs to.
    pub source: Cow<'static, str>,
}

impl Component {
    /// The name of its binary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::CloudControllerManager => "cloud-controller-manager",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::Kubeadm => "kubeadm",
        }
    }
}

impl Reachable {
    /// Oldest and newest API server that can be reached; `None` if unknown.
    pub fn span(&self) -> Option<VersionRange> {
        match self {
            Self::Local(version) => VersionRange::new(*version, *version),
            Self::LoadBalanced(versions) => {
                VersionRange::new(*versions.first()?, *versions.last()?)
            }
        }
    }
}

impl FromIterator<MinorVersion> for Reachable {
    /// All of them, behind a load balancer.
    fn from_iter<I: IntoIterator<Item = MinorVersion>>(versions: I) -> Self {
        Self::LoadBalanced(versions.into_iter().collect())
    }
}

impl ComponentInstance {
    /// A component judged against the API servers it reaches.
    pub fn new(
        component: Component,
        name: impl Into<String>,
        version: KubeVersion,
        reaches: Reachable,
    ) -> Self {
        Self {
            component,
            name: name.into(),
            version,
            reaches,
            local_kubelet: None,
            upgrade_target: None,
        }
    }

    /// Judges a kube-proxy against the kubelet of its node as well.
    #[must_use]
    pub fn with_local_kubelet(mut self, kubelet: MinorVersion) -> Self {
        self.local_kubelet = Some(kubelet);
        self
    }

    /// Judges a kubeadm against the minor it is asked to upgrade to as well.
    #[must_use]
    pub fn with_upgrade_target(mut self, target: MinorVersion) -> Self {
        self.upgrade_target = Some(target);
        self
    }

    fn judge(&self, rule: &'static SkewRule) -> Option<SkewViolation> {
        let exactly = |version| VersionRange::new(version, version);
        let peers = match rule.against {
            SkewPeer::ApiServers => self.reaches.span(),
            // Rules about a peer that is not there do not apply; API servers
            // are always there.
            SkewPeer::LocalKubelet => Some(exactly(self.local_kubelet?)?),
            SkewPeer::UpgradeTarget => Some(exactly(self.upgrade_target?)?),
        };
        let allowed = peers.and_then(|peers| rule.allowed(peers));
        if allowed.is_some_and(|range| range.contains(self.version.minor_version())) {
            return None;
        }
        Some(SkewViolation {
            component: self.component,
            object: self.name.clone(),
            version: self.version.clone(),
            against: rule.against,
            peers,
            allowed,
            rule: rule.sentence.into(),
            source: rule.source.into(),
        })
    }
}

/// Every rule that this component breaks; empty if it is legal.
///
/// ```
/// use migrate_core::skew::{Component, ComponentInstance, Reachable, check};
/// use migrate_core::version::MinorVersion;
///
/// let (old, new) = (MinorVersion::new(1, 36), MinorVersion::new(1, 37));
/// let kubelet = |reaches| ComponentInstance::new(Component::Kubelet, "cp-1", new.into(), reaches);
/// // Half of the control plane is upgraded: through the load balancer a new
/// // kubelet may meet an old API server, which the policy forbids.
/// assert_eq!(check(&kubelet([old, new].into_iter().collect())).len(), 1);
/// assert!(check(&kubelet(Reachable::Local(new))).is_empty());
/// ```
pub fn check(instance: &ComponentInstance) -> Vec<SkewViolation> {
    SKEW_RULES
        .iter()
        .filter(|rule| rule.component == instance.component)
        .filter_map(|rule| instance.judge(rule))
        .collect()
}

/// The minors that `component` may run next to the API servers it can reach;
/// `None` if there are none, because those are too far apart or unknown.
///
/// The cheap form of [`check`] for callers that judge thousands of components
/// behind the same endpoint. It leaves out the rules about other peers
/// ([`SkewPeer::LocalKubelet`], [`SkewPeer::UpgradeTarget`]).
pub fn allowed_range(component: Component, reaches: &Reachable) -> Option<VersionRange> {
    let rule = SKEW_RULES
        .iter()
        .find(|rule| rule.component == component && rule.against == SkewPeer::ApiServers)?;
    rule.allowed(reaches.span()?)
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SkewViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} runs {}, but ",
            self.component, self.object, self.version
        )?;
        match &self.allowed {
            Some(allowed) => write!(f, "only {allowed} is allowed")?,
            None => f.write_str("no version is allowed")?,
        }
        match &self.peers {
            Some(peers) => write!(f, " with {} {peers}", self.against)?,
            None => write!(f, " while {} is unknown", self.against)?,
        }
        write!(f, ": {} ({})", self.rule, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minor(minor: u32) -> MinorVersion {
        MinorVersion::new(1, minor)
    }

    fn balanced(minors: &[u32]) -> Reachable {
        minors.iter().map(|&m| minor(m)).collect()
    }

    fn is_legal(component: Component, version: u32, reaches: Reachable) -> bool {
        check(&ComponentInstance::new(
            component,
            "x",
            minor(version).into(),
            reaches,
        ))
        .is_empty()
    }

    #[test]
    fn a_rolling_control_plane_is_judged_per_endpoint() {
        use Component::*;
        for component in [
            Kubelet,
            KubeProxy,
            ControllerManager,
            Scheduler,
            CloudControllerManager,
        ] {
            assert!(!is_legal(component, 37, balanced(&[36, 37])), "{component}");
            assert!(is_legal(component, 36, balanced(&[36, 37])), "{component}");
            assert!(
                is_legal(component, 37, Reachable::Local(minor(37))),
                "{component}"
            );
            assert!(
                !is_legal(component, 37, Reachable::Local(minor(36))),
                "{component}"
            );
        }
        // A kubelet three minors behind must be upgraded before the next hop.
        assert!(is_legal(Kubelet, 34, balanced(&[37])));
        assert!(!is_legal(Kubelet, 34, balanced(&[37, 38])));
        assert!(!is_legal(Scheduler, 35, balanced(&[36, 37])));
        for (kubectl, legal) in [(35, false), (36, true), (37, true), (38, false)] {
            assert_eq!(
                is_legal(Kubectl, kubectl, balanced(&[36, 37])),
                legal,
                "{kubectl}"
            );
        }
    }

    #[test]
    fn api_servers_are_at_most_one_minor_apart() {
        assert!(is_legal(Component::ApiServer, 36, balanced(&[36, 37])));
        assert!(is_legal(Component::ApiServer, 37, balanced(&[36])));
        assert!(!is_legal(Component::ApiServer, 36, balanced(&[36, 38])));
        assert!(!is_legal(Component::ApiServer, 38, balanced(&[36, 37, 38])));
    }

    #[test]
    fn kube_proxy_is_judged_against_its_kubelet_too() {
        let proxy = |version, kubelet, api_server| {
            let version = minor(version).into();
            let reaches = Reachable::Local(minor(api_server));
            check(
                &ComponentInstance::new(Component::KubeProxy, "n", version, reaches)
                    .with_local_kubelet(minor(kubelet)),
            )
        };
        assert!(proxy(37, 34, 37).is_empty());
        assert_eq!(proxy(37, 33, 37)[0].against, SkewPeer::LocalKubelet);
        assert_eq!(proxy(34, 38, 37).len(), 1);
        assert_eq!(proxy(24, 21, 24).len(), 1, "before 1.25 only two minors");
    }

    #[test]
    fn kubeadm_is_of_the_target_and_one_hop_ahead() {
        let kubeadm = |version, target, cluster: &[u32]| {
            let version = minor(version).into();
            let instance =
                ComponentInstance::new(Component::Kubeadm, "h", version, balanced(cluster));
            check(&instance.with_upgrade_target(minor(target)))
        };
        assert!(kubeadm(37, 37, &[36]).is_empty());
        assert!(kubeadm(37, 37, &[36, 37]).is_empty());
        assert!(kubeadm(37, 37, &[37]).is_empty());
        assert_eq!(kubeadm(38, 38, &[36]).len(), 1);
        assert_eq!(kubeadm(36, 37, &[36]).len(), 1);
        assert_eq!(kubeadm(36, 36, &[37]).len(), 1);
    }

    #[test]
    fn a_violation_explains_itself() {
        let version: KubeVersion = "v1.37.1+k3s1".parse().unwrap();
        let instance =
            ComponentInstance::new(Component::Kubelet, "cp-2", version, balanced(&[36, 37]));
        let violations = check(&instance);
        assert_eq!(
            violations[0].to_string(),
            "kubelet cp-2 runs v1.37.1+k3s1, but only 1.34 to 1.36 is allowed with \
             kube-apiserver 1.36 to 1.37: kubelet must not be newer than any kube-apiserver it \
             can reach and at most three minors older (two before 1.25) \
             (Kubernetes version skew policy)"
        );
        let json = serde_json::to_string(&violations).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<SkewViolation>>(&json).unwrap(),
            violations
        );
    }

    #[test]
    fn what_cannot_be_judged_is_not_legal() {
        assert!(!is_legal(Component::Kubelet, 37, balanced(&[])));
        let mixed = [minor(37), MinorVersion::new(2, 0)].into_iter().collect();
        assert!(!is_legal(Component::Kubelet, 37, mixed));
        assert_eq!(
            allowed_range(Component::Scheduler, &balanced(&[35, 37])),
            None
        );
    }
}
