//! The way to the target, and versions that may not meet even now.

use migrate_core::preconditions::check_skew;
use migrate_core::skew::{PathStop, UpgradePath, upgrade_path};
use migrate_core::{ClusterModel, Finding, KubeVersion, ObjectName, Severity};

use super::codes;

/// Findings about versions, from the model alone.
pub(crate) fn check(model: &ClusterModel, target: &KubeVersion) -> Vec<Finding> {
    let oldest = model
        .control_plane
        .iter()
        .map(|member| &member.version)
        .min();
    let kubelets = model.nodes.iter().map(|node| &node.kubelet_version).min();
    let mut findings = Vec::new();
    let path = oldest.map(|oldest| upgrade_path(oldest, kubelets, target));
    let next = match &path {
        Some(Ok(path)) => path.stops.first().map(|stop| stop.minor),
        _ => None,
    };
    match path {
        None => findings.push(no_path(
            target,
            "no API server is known".to_owned(),
            "observe the cluster again",
        )),
        Some(Err(error)) => findings.push(no_path(
            target,
            error.to_string(),
            "see the message; nothing can be upgraded before that",
        )),
        Some(Ok(path)) if path.stops.len() > 1 => findings.push(several_hops(&path)),
        Some(Ok(_)) => {}
    }
    findings.extend(check_skew(model, next));
    findings
}

fn no_path(target: &KubeVersion, evidence: String, cure: &str) -> Finding {
    let object = ObjectName::cluster("Target", target.to_string());
    Finding::new(codes::NO_PATH, Severity::Blocker, object, evidence, cure)
}

fn several_hops(path: &UpgradePath) -> Finding {
    let stops: Vec<String> = path.stops.iter().map(describe).collect();
    let first = stops.first().map_or("", String::as_str);
    Finding::new(
        codes::SEVERAL_HOPS,
        Severity::Blocker,
        ObjectName::cluster("Target", path.target.to_string()),
        format!(
            "it is {} hops away ({path}): {}",
            stops.len(),
            stops.join("; then ")
        ),
        format!("start with: {first}"),
    )
}

fn describe(stop: &PathStop) -> String {
    let what = match (stop.control_plane, stop.workers) {
        (true, false) => "the control plane",
        (false, true) => "every node",
        _ => "the control plane and every node",
    };
    format!("{what} to {}", stop.minor)
}

#[cfg(test)]
mod tests {
    use migrate_core::model::ControlPlaneMember;
    use migrate_core::{ClusterId, Moment, Node};

    use super::*;

    fn codes_of(members: &[&str], kubelets: &[&str], target: &str) -> Vec<Finding> {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        for (index, version) in members.iter().enumerate() {
            let version = version.parse().unwrap();
            model
                .control_plane
                .push(ControlPlaneMember::new(format!("cp-{index}"), version));
        }
        for (index, version) in kubelets.iter().enumerate() {
            model
                .nodes
                .push(Node::new(format!("n{index}"), version.parse().unwrap()));
        }
        check(&model, &target.parse().unwrap())
    }

    #[test]
    fn one_hop_and_nothing_to_do_are_fine() {
        assert_eq!(
            codes_of(&["v1.36.3"], &["v1.36.3", "v1.34.1"], "v1.37.1"),
            []
        );
        assert_eq!(codes_of(&["v1.37.1"], &["v1.36.3"], "v1.37.1"), []);
        assert_eq!(codes_of(&["v1.37.1"], &["v1.37.1"], "v1.37.1"), []);
    }

    #[test]
    fn the_way_is_named() {
        let found = codes_of(&["v1.36.3"], &["v1.36.3"], "v1.38.0");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code, codes::SEVERAL_HOPS);
        assert!(
            found[0].evidence.contains("1.36 -> 1.37 -> 1.38"),
            "{}",
            found[0]
        );
        assert!(
            found[0].cure.contains("the control plane to 1.37"),
            "{}",
            found[0]
        );
        let found = codes_of(&["v1.36.3"], &["v1.36.3", "v1.33.0"], "v1.37.0");
        assert!(found[0].cure.contains("every node to 1.36"), "{}", found[0]);
        let found = codes_of(&["v1.37.3"], &["v1.37.3"], "v1.36.0");
        assert_eq!(found[0].code, codes::NO_PATH);
        assert!(
            found[0].evidence.contains("restore a backup"),
            "{}",
            found[0]
        );
    }
}
