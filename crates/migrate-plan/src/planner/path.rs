//! Whether the target can be reached in one hop, and the skew on the way.

use std::collections::BTreeMap;

use migrate_core::skew::{
    Component, ComponentInstance, PathError, Reachable, check as check_skew, upgrade_path,
};
use migrate_core::{ClusterModel, Finding, KubeVersion, ObjectName, Severity};

use crate::Error;

/// Refuses what is not one hop and reports what breaks the skew policy on it.
pub(super) fn check(model: &ClusterModel, target: &KubeVersion) -> Result<Vec<Finding>, Error> {
    let members = || model.control_plane.iter().map(|member| &member.version);
    let (Some(oldest), Some(newest)) = (members().min(), members().max()) else {
        return Err(Error::NoControlPlane);
    };
    let kubelets = model.nodes.iter().map(|node| &node.kubelet_version);
    let path = upgrade_path(oldest, kubelets.min(), target)?;
    // The rest of the control plane may be ahead of the oldest, but not of the
    // target.
    if let Err(error @ PathError::Downgrade { .. }) = upgrade_path(newest, None, target) {
        return Err(error.into());
    }
    let last = target.minor_version();
    if let Some(first) = path.stops.first().filter(|stop| stop.minor != last) {
        return Err(Error::SeveralHops {
            first: *first,
            path,
        });
    }
    Ok(skew_findings(model, target))
}

/// While members go from one version to the other, any component may meet
/// either: each has to be legal next to all of them.
fn skew_findings(model: &ClusterModel, target: &KubeVersion) -> Vec<Finding> {
    let members = model.control_plane.iter();
    let versions = members
        .clone()
        .map(|member| &member.version)
        .chain([target]);
    let reachable: Reachable = versions.map(KubeVersion::minor_version).collect();
    let members = members.map(|m| ((Component::ApiServer, &m.version), m.name.as_str()));
    let nodes = model.nodes.iter();
    let nodes = nodes.map(|n| ((Component::Kubelet, &n.kubelet_version), n.name.as_str()));
    // One finding per component and version names the first and counts the rest.
    let mut alike: BTreeMap<(Component, &KubeVersion), (&str, usize)> = BTreeMap::new();
    for (what, name) in members.chain(nodes) {
        alike.entry(what).or_insert((name, 0)).1 += 1;
    }
    let mut findings = Vec::new();
    for ((component, version), (name, count)) in alike {
        let instance = ComponentInstance::new(component, name, version.clone(), reachable.clone());
        for violation in check_skew(&instance) {
            let kind = if component == Component::Kubelet {
                "Node"
            } else {
                "ControlPlane"
            };
            let others = match count {
                1 => String::new(),
                _ => format!(" (and {} more of this version)", count - 1),
            };
            findings.push(Finding::new(
                super::findings::SKEW,
                Severity::Blocker,
                ObjectName::cluster(kind, name),
                format!("{violation}{others}"),
                "bring it to a version that is allowed before the upgrade begins",
            ));
        }
    }
    findings
}
