//! Versions that may not meet, now or while members are upgraded.

use std::collections::BTreeMap;

use super::codes;
use crate::impossible::names;
use crate::skew::{Component, ComponentInstance, Reachable, SkewViolation, VersionRange, check};
use crate::version::MinorVersion;
use crate::{ClusterModel, Finding, KubeVersion, ObjectName, Severity};

/// Rules of the skew policy that are broken now, or as soon as the first member
/// runs `next`; one finding for each component and version.
///
/// While members go from one version to another a component may meet any of
/// them, so each has to be legal next to all. A kubelet that is not is a blocker,
/// unless it is so already, the way to `next` makes it no worse, and it is over
/// when everything is there: of that a cluster is told with a warning. So are
/// kubelets that are newer than an API server which is still to come to them, and
/// those that are too old for one that is at `next` before the others.
///
/// `None` for `next` where there is no way from here: then only what runs now is
/// judged, and nothing ends.
///
/// # Assumptions
/// Every kubelet that is behind is brought along with this hop, as
/// [`path_of_cluster`](crate::skew::path_of_cluster) has it.
pub fn check_skew(model: &ClusterModel, next: Option<MinorVersion>) -> Vec<Finding> {
    let members = &model.control_plane;
    let running = members.iter().map(|member| member.version.minor_version());
    // Which server a kubelet's kubeconfig names is not in the model: it may be
    // any of them.
    let reachable: Reachable = running.clone().chain(next).collect();
    let way = next.and_then(|next| Way::of(running, next));
    let members = members
        .iter()
        .map(|member| ((Component::ApiServer, &member.version), &member.name));
    let nodes = model
        .nodes
        .iter()
        .map(|node| ((Component::Kubelet, &node.kubelet_version), &node.name));
    let mut alike: BTreeMap<(Component, &KubeVersion), Vec<&str>> = BTreeMap::new();
    // Neighbours are mostly alike, and equality is told much sooner than an order.
    let mut all = members.chain(nodes).peekable();
    while let Some((what, name)) = all.next() {
        let on = alike.entry(what).or_default();
        on.push(name);
        while let Some((_, name)) = all.next_if(|(other, _)| *other == what) {
            on.push(name);
        }
    }
    let mut findings = Vec::new();
    for ((component, version), on) in alike {
        let first = on.first().copied().unwrap_or_default();
        let instance = ComponentInstance::new(component, first, version.clone(), reachable.clone());
        let kubelet = (component == Component::Kubelet).then(|| version.minor_version());
        let end = way.zip(kubelet).and_then(|(way, kubelet)| way.end(kubelet));
        let violations = check(&instance);
        findings.extend(violations.iter().map(|violation| match &end {
            Some(end) => passing(violation, &on, end),
            None => broken(violation, &on),
        }));
    }
    findings
}

/// A hop, from what API servers run now.
#[derive(Clone, Copy, Debug)]
struct Way {
    now: VersionRange,
    next: MinorVersion,
}

impl Way {
    /// `None` without an API server, and across majors, where nothing is known.
    fn of(running: impl Iterator<Item = MinorVersion> + Clone, next: MinorVersion) -> Option<Self> {
        let now = VersionRange::new(running.clone().min()?, running.max()?)?;
        let is_one_major = now.oldest.major() == next.major() && now.newest.major() == next.major();
        is_one_major.then_some(Self { now, next })
    }

    /// How what `kubelet` breaks ends, if it is broken now, never worse than now, and
    /// over at the end of the hop.
    fn end(self, kubelet: MinorVersion) -> Option<String> {
        let Self { now, next } = self;
        if kubelet.major() != next.major() {
            return None;
        }
        if kubelet > now.oldest {
            let ends = format!("every API server goes to {next} before a node is touched");
            return (kubelet <= next).then_some(ends);
        }
        let ends = format!("no API server goes further than {next}, and its kubelet follows");
        (next <= now.newest).then_some(ends)
    }
}

/// Rules of the skew policy that a kubelet of `version` would break on `node`
/// next to the API servers there are.
pub fn check_kubelet(model: &ClusterModel, node: &str, version: &KubeVersion) -> Vec<Finding> {
    let members = model.control_plane.iter();
    let reachable: Reachable = members
        .map(|member| member.version.minor_version())
        .collect();
    let kubelet = ComponentInstance::new(Component::Kubelet, node, version.clone(), reachable);
    let violations = check(&kubelet);
    violations
        .iter()
        .map(|violation| broken(violation, &[node]))
        .collect()
}

/// What is broken today, and what the hop brings to its `end`.
fn passing(violation: &SkewViolation, on: &[&str], end: &str) -> Finding {
    let mut finding = broken(violation, on);
    finding.severity = Severity::Warning;
    finding.evidence = format!(
        "{}; it is so before anything begins, and this upgrade ends it: {end}",
        finding.evidence
    );
    finding.cure = "nothing has to be cured first: let the upgrade go on, and leave no such mix \
                    behind for long"
        .to_owned();
    finding
}

fn broken(violation: &SkewViolation, on: &[&str]) -> Finding {
    let kind = match violation.component {
        Component::ApiServer => "ControlPlaneMember",
        _ => "Node",
    };
    let mut evidence = violation.to_string();
    if on.len() > 1 {
        evidence = format!(
            "{evidence}; the same on {} in all: {}",
            on.len(),
            names(on.iter().copied())
        );
    }
    Finding::new(
        codes::SKEW,
        Severity::Blocker,
        ObjectName::cluster(kind, violation.object.clone()),
        evidence,
        "bring these versions together before anything else is changed",
    )
}

#[cfg(test)]
mod tests {
    use crate::{ClusterId, ControlPlaneMember, Moment, Node};

    use super::*;

    fn found(members: &[&str], kubelets: &[&str], next: Option<&str>) -> Vec<Finding> {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        for (index, version) in members.iter().enumerate() {
            let version = version.parse().unwrap();
            let member = ControlPlaneMember::new(format!("cp-{index}"), version);
            model.control_plane.push(member);
        }
        for (index, version) in kubelets.iter().enumerate() {
            let node = Node::new(format!("n{index}"), version.parse().unwrap());
            model.nodes.push(node);
        }
        let next = next.map(|next| next.parse::<KubeVersion>().unwrap().minor_version());
        check_skew(&model, next)
    }

    #[test]
    fn what_may_not_meet_is_found_once_for_each_version() {
        let kubelets = ["v1.37.0", "v1.36.0", "v1.37.0"];
        let findings = found(&["v1.36.3", "v1.37.0"], &kubelets, Some("v1.37.0"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].object.to_string(), "Node n0");
        assert!(findings[0].evidence.contains("n0, n2"), "{}", findings[0]);
    }

    #[test]
    fn members_too_far_apart_are_found() {
        let findings = found(&["v1.35.0", "v1.37.0"], &[], None);
        let objects: Vec<_> = findings.iter().map(|f| f.object.to_string()).collect();
        assert_eq!(
            objects,
            ["ControlPlaneMember cp-0", "ControlPlaneMember cp-1"]
        );
    }

    #[test]
    fn the_version_to_come_counts_as_one_that_runs() {
        let (members, kubelets) = (["v1.36.3"], ["v1.33.9"]);
        assert_eq!(found(&members, &kubelets, None), []);
        let findings = found(&members, &kubelets, Some("v1.37.0"));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].object.to_string(), "Node n0");
    }

    /// Severities by what nodes run.
    fn judged(members: &[&str], kubelet: &str, next: Option<&str>) -> Vec<Severity> {
        let found = found(members, &[kubelet], next).into_iter();
        let kubelets = found.filter(|found| found.object.kind == "Node");
        kubelets.map(|found| found.severity).collect()
    }

    #[test]
    fn what_the_hop_ends_and_never_makes_worse_is_a_warning() {
        use Severity::{Blocker, Warning};
        let half = &["v1.36.3", "v1.37.0"][..];
        for (members, kubelet, next, expected) in [
            // Ahead of API servers that come to it.
            (half, "v1.37.0", Some("v1.37.0"), Some(Warning)),
            (&["v1.36.3"], "v1.37.2", Some("v1.37.0"), Some(Warning)),
            // They do not come that far, or stay where they are.
            (&["v1.36.3"], "v1.38.0", Some("v1.37.0"), Some(Blocker)),
            (&["v1.36.3"], "v1.37.0", Some("v1.36.4"), Some(Blocker)),
            (half, "v1.37.0", None, Some(Blocker)),
            // Behind one that is there already, and comes along.
            (half, "v1.33.9", Some("v1.37.0"), Some(Warning)),
            (&["v1.36.3"], "v1.32.9", Some("v1.36.4"), Some(Warning)),
            // None is there yet: it would be, or would be worse.
            (&["v1.36.3"], "v1.33.9", Some("v1.37.0"), Some(Blocker)),
            (&["v1.36.3"], "v1.32.9", Some("v1.37.0"), Some(Blocker)),
            // Nothing is known of what is between majors.
            (&["v1.36.3"], "v2.0.0", Some("v1.37.0"), Some(Blocker)),
            (half, "v1.36.0", Some("v1.37.0"), None),
        ] {
            let severities = judged(members, kubelet, next);
            assert_eq!(
                severities,
                Vec::from_iter(expected),
                "{members:?}, {kubelet}, {next:?}"
            );
        }
    }

    #[test]
    fn a_warning_says_who_breaks_what_and_how_it_ends() {
        let kubelets = ["v1.37.0", "v1.36.0", "v1.37.0"];
        let findings = found(&["v1.36.3", "v1.37.0"], &kubelets, Some("v1.37.0"));
        for said in [
            "kubelet n0 runs v1.37.0",
            "n0, n2",
            "every API server goes to 1.37",
        ] {
            assert!(findings[0].evidence.contains(said), "{}", findings[0]);
        }
        let findings = found(&["v1.36.3"], &["v1.32.0"], Some("v1.36.3"));
        for said in [
            "kubelet n0 runs v1.32.0",
            "further than 1.36",
            "kubelet follows",
        ] {
            assert!(findings[0].evidence.contains(said), "{}", findings[0]);
        }
    }

    /// Members that are too far apart are not brought together by one hop.
    #[test]
    fn api_servers_are_never_only_warned_of() {
        for next in [None, Some("v1.36.0"), Some("v1.37.0")] {
            let findings = found(&["v1.35.0", "v1.37.0"], &[], next);
            assert!(findings.iter().all(Finding::blocks), "{findings:?}");
            assert_eq!(findings.len(), 2, "{findings:?}");
        }
    }
}
