//! Whether the target can be reached in one hop.

use migrate_core::skew::{PathError, upgrade_path};
use migrate_core::{ClusterModel, KubeVersion};

use crate::Error;

/// Refuses what is not one hop.
pub(super) fn check(model: &ClusterModel, target: &KubeVersion) -> Result<(), Error> {
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
    Ok(())
}
