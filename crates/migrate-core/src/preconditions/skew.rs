//! Versions that may not meet, now or while members are upgraded.

use std::collections::BTreeMap;

use super::codes;
use crate::impossible::names;
use crate::skew::{Component, ComponentInstance, Reachable, SkewViolation, check};
use crate::version::MinorVersion;
use crate::{ClusterModel, Finding, KubeVersion, ObjectName, Severity};

/// Rules of the skew policy that are broken now, or as soon as the first member
/// runs `next`; one finding for each component and version.
///
/// While members go from one version to another a component may meet any of
/// them, so each has to be legal next to all. `None` for `next` where there is
/// no way from here: then only what runs now is judged.
pub fn check_skew(model: &ClusterModel, next: Option<MinorVersion>) -> Vec<Finding> {
    let members = &model.control_plane;
    let running = members.iter().map(|member| member.version.minor_version());
    // Which server a kubelet's kubeconfig names is not in the model: it may be
    // any of them.
    let reachable: Reachable = running.chain(next).collect();
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
        let violations = check(&instance);
        findings.extend(violations.iter().map(|violation| broken(violation, &on)));
    }
    findings
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
}
