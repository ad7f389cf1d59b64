//! Whether the target can be reached in one hop.

use std::borrow::Cow;
use std::collections::BTreeSet;

use migrate_core::preconditions::check_kubelet;
use migrate_core::skew::{PathError, path_of_cluster};
use migrate_core::{ClusterModel, KubeVersion, Plan, Policy, PoolPolicy};

use crate::Error;

/// Refuses what is not one hop, without asking of pools that are `gone`.
pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    gone: &[&str],
    target: &KubeVersion,
) -> Result<(), Error> {
    let mut pools = Cow::Borrowed(&policy.pools);
    for pool in gone {
        pools.to_mut().target_of.remove(*pool);
    }
    let path = path_of_cluster(model, &pools, target)?;
    let last = target.minor_version();
    if let Some(first) = path.stops.first().filter(|stop| stop.minor != last) {
        return Err(Error::SeveralHops {
            first: *first,
            path,
        });
    }
    Ok(())
}

/// Pools with a target of their own whose last node went after `parent` was planned, as
/// where a pool is scaled to none in mid-run. That policy was accepted for `parent` tells
/// them from names that are wrong; one whose nodes are there under another pool is not
/// gone, and these are not to go further than they were held to.
pub(super) fn gone_pools<'p>(
    model: &ClusterModel,
    policy: &'p Policy,
    parent: Option<&Plan>,
) -> Vec<&'p str> {
    let PoolPolicy { target_of, .. } = &policy.pools;
    let Some(parent) = parent.filter(|_| !target_of.is_empty()) else {
        return Vec::new();
    };
    let there: BTreeSet<&str> = model
        .nodes
        .iter()
        .map(|it| policy.pools.pool_of(it))
        .collect();
    let names = target_of.keys().map(String::as_str);
    let mut gone: Vec<&str> = names.filter(|pool| !there.contains(pool)).collect();
    if gone.is_empty() || !policy.has_identity(&parent.policy_hash) {
        return Vec::new();
    }
    for slot in &parent.slots {
        if model.node(&slot.node).is_some() {
            gone.retain(|pool| *pool != slot.pool);
        }
    }
    gone
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
