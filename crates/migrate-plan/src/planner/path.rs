//! Whether the target can be reached in one hop.

use migrate_core::preconditions::check_kubelet;
use migrate_core::skew::{PathError, path_of_cluster};
use migrate_core::{ClusterModel, KubeVersion, Policy};

use crate::Error;

/// Refuses what is not one hop.
pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    target: &KubeVersion,
) -> Result<(), Error> {
    let path = path_of_cluster(model, &policy.pools, target)?;
    let last = target.minor_version();
    if let Some(first) = path.stops.first().filter(|stop| stop.minor != last) {
        return Err(Error::SeveralHops {
            first: *first,
            path,
        });
    }
    Ok(())
}

/// Refuses what is no way back of a node.
pub(super) fn check_way_back(
    model: &ClusterModel,
    node: &str,
    target: &KubeVersion,
) -> Result<(), Error> {
    let refused = |reason: String| Error::NoWayBack {
        node: node.to_owned(),
        target: target.clone(),
        reason,
    };
    if !model.nodes.iter().any(|known| known.name == node) {
        return Err(refused("the cluster has no such node".to_owned()));
    }
    let members = model.control_plane.iter().map(|member| &member.version);
    let oldest = members.min().ok_or(PathError::NoControlPlane)?;
    if !target.is_older_than(oldest) {
        return Err(refused(format!(
            "it is not older than the control plane, {oldest}: plan an upgrade"
        )));
    }
    match check_kubelet(model, node, target).first() {
        Some(broken) => Err(refused(broken.evidence.clone())),
        None => Ok(()),
    }
}
