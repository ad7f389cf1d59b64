//! The way to the target, and versions that may not meet even now.

use migrate_core::preconditions::check_skew;
use migrate_core::skew::{PathError, PathStop, UpgradePath, path_of_cluster};
use migrate_core::{ClusterModel, Finding, KubeVersion, ObjectName, PoolPolicy, Severity};

use super::codes;

/// Findings about versions, from the model and the targets of pools alone.
pub(crate) fn check(
    model: &ClusterModel,
    pools: &PoolPolicy,
    target: &KubeVersion,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = path_of_cluster(model, pools, target);
    let next = match &path {
        Ok(path) => path.stops.first().map(|stop| stop.minor),
        Err(_) => None,
    };
    match path {
        Err(error) => findings.push(no_path(target, error)),
        Ok(path) if path.stops.len() > 1 => findings.push(several_hops(&path)),
        Ok(_) => {}
    }
    findings.extend(check_skew(model, next));
    findings
}

fn no_path(target: &KubeVersion, error: PathError) -> Finding {
    let object = ObjectName::cluster("Target", target.to_string());
    let cure = "see the message; nothing can be upgraded before that";
    Finding::new(
        codes::NO_PATH,
        Severity::Blocker,
        object,
        error.to_string(),
        cure,
    )
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
        check(&model, &PoolPolicy::default(), &target.parse().unwrap())
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
    fn the_whole_control_plane_counts() {
        let kubelets = ["v1.36.3"];
        let ahead = codes_of(&["v1.36.3", "v1.37.3"], &kubelets, "v1.37.2");
        assert_eq!(ahead.len(), 1, "{ahead:?}");
        assert_eq!(ahead[0].code, codes::NO_PATH);
        assert!(ahead[0].evidence.contains("v1.37.3"), "{}", ahead[0]);
        assert_eq!(codes_of(&["v1.36.3", "v1.37.2"], &kubelets, "v1.37.2"), []);
        let nobody = codes_of(&[], &kubelets, "v1.37.2");
        assert_eq!(nobody[0].code, codes::NO_PATH);
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

    #[test]
    fn a_pool_that_cannot_be_held_back_is_a_blocker() {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        let version = |text: &str| text.parse::<KubeVersion>().unwrap();
        let member = ControlPlaneMember::new("cp", version("v1.36.3"));
        model.control_plane.push(member);
        model.nodes.push(Node::new("n", version("v1.34.1")));
        let found = |own: &str, target: &str| {
            let mut pools = PoolPolicy::default();
            let pool = migrate_core::policy::DEFAULT_POOL.to_owned();
            pools.target_of.insert(pool, version(own));
            check(&model, &pools, &version(target))
        };
        assert_eq!(found("v1.34.1", "v1.37.2"), []);
        let ahead = found("v1.37.3", "v1.37.2");
        assert_eq!(ahead.len(), 1, "{ahead:?}");
        assert_eq!(ahead[0].code, codes::NO_PATH);
        assert!(ahead[0].evidence.contains("pool default"), "{}", ahead[0]);
    }
}
