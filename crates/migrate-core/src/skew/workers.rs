//! The way of a cluster, and of its pools that do not go all of it.

use std::collections::BTreeMap;

use super::path::{path_of, refuse_impossible};
use super::{Component, PathError, Reachable, UpgradePath, VersionRange, allowed_range};
use crate::policy::{CONTROL_PLANE_POOL, PoolPolicy};
use crate::version::KubeVersion;
use crate::{ClusterModel, Node};

/// The stops from what `model` runs to `target`: those of
/// [`upgrade_path`](super::upgrade_path) from its oldest API server and kubelet. What is
/// too old for the newest API server of a half upgraded control plane comes along with
/// the hop that brings the others there. Pools
/// with a [target of their own](PoolPolicy::target_of) go no further than that at any
/// stop.
///
/// # Errors
/// Those of [`upgrade_path`](super::upgrade_path), [`PathError::NoControlPlane`],
/// [`PathError::Downgrade`] too if only a part of the control plane is ahead of
/// the target, and for a pool whose own target cannot be kept to
/// [`PathError::UnknownPool`], [`PathError::ControlPlanePool`],
/// [`PathError::PoolAhead`], [`PathError::PoolDowngrade`],
/// [`PathError::PoolLeftBehind`].
pub fn path_of_cluster(
    model: &ClusterModel,
    pools: &PoolPolicy,
    target: &KubeVersion,
) -> Result<UpgradePath, PathError> {
    let members = || model.control_plane.iter().map(|member| &member.version);
    let (Some(oldest), Some(newest)) = (members().min(), members().max()) else {
        return Err(PathError::NoControlPlane);
    };
    let kubelets = model.nodes.iter().map(|node| &node.kubelet_version);
    let lowest = kubelets.min();
    refuse_impossible(oldest, lowest, target)?;
    if target.is_older_than(newest) {
        return Err(PathError::Downgrade {
            current: newest.clone(),
            target: target.clone(),
        });
    }
    let workers = match pools.target_of.is_empty() {
        true => lowest.map(Workers::unheld).into_iter().collect(),
        false => by_pool(model, pools, target)?,
    };
    path_of(oldest, newest.minor_version(), workers, target)
}

/// Kubelets that go the way together.
#[derive(Clone, Debug)]
pub(super) struct Workers<'a> {
    /// The oldest of them.
    at: KubeVersion,
    /// Their pool and its own target, if it has one.
    pub(super) held: Option<(&'a str, &'a KubeVersion)>,
}

impl<'a> Workers<'a> {
    /// Those that go wherever the control plane goes.
    pub(super) fn unheld(lowest: &KubeVersion) -> Self {
        Self {
            at: lowest.clone(),
            held: None,
        }
    }

    fn goal<'g>(&self, cluster: &'g KubeVersion) -> &'g KubeVersion
    where
        'a: 'g,
    {
        self.held.map_or(cluster, |(_, own)| own.or_older(cluster))
    }

    /// They stop where the control plane is at `cluster`.
    pub(super) fn bring_to(&mut self, cluster: &KubeVersion) {
        let goal = self.goal(cluster);
        if !self.at.has_reached(goal) {
            self.at = goal.clone();
        }
    }

    /// Whether nothing is to be done to them once the control plane is at `target`.
    pub(super) fn has_arrived(&self, target: &KubeVersion) -> bool {
        // One that is newer is left alone: kube-migrate does not downgrade.
        self.at.has_reached(self.goal(target))
    }

    /// What API servers of these minors allow, if they are older.
    pub(super) fn left_behind_by(&self, api_servers: VersionRange) -> Option<VersionRange> {
        let ends = [api_servers.oldest, api_servers.newest];
        let allowed = allowed_range(Component::Kubelet, &ends.into_iter().collect::<Reachable>());
        allowed.filter(|allowed| self.at.minor_version() < allowed.oldest)
    }
}

/// Each pool with a target of its own by itself, then all others.
fn by_pool<'a>(
    model: &'a ClusterModel,
    pools: &'a PoolPolicy,
    target: &KubeVersion,
) -> Result<Vec<Workers<'a>>, PathError> {
    let mut nodes: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in &model.nodes {
        nodes.entry(pools.pool_of(node)).or_default().push(node);
    }
    let mut workers = Vec::new();
    for (pool, own) in &pools.target_of {
        if pool == CONTROL_PLANE_POOL {
            return Err(PathError::ControlPlanePool);
        }
        let Some(of_pool) = nodes.get(pool.as_str()) else {
            let known = nodes.into_keys().filter(|pool| *pool != CONTROL_PLANE_POOL);
            return Err(PathError::UnknownPool {
                pool: pool.clone(),
                known: known.map(str::to_owned).collect(),
            });
        };
        refuse_target(pool, own, of_pool, target)?;
        let lowest = of_pool.iter().map(|node| &node.kubelet_version).min();
        workers.extend(lowest.map(|lowest| Workers {
            at: lowest.clone(),
            held: Some((pool.as_str(), own)),
        }));
    }
    nodes.retain(|pool, _| !pools.target_of.contains_key(*pool));
    let others = nodes.into_values().flatten();
    let others = others.map(|node| &node.kubelet_version).min();
    workers.extend(others.map(Workers::unheld));
    Ok(workers)
}

/// Refuses an own target that `nodes`, those of its pool, cannot go to.
fn refuse_target(
    pool: &str,
    own: &KubeVersion,
    nodes: &[&Node],
    target: &KubeVersion,
) -> Result<(), PathError> {
    if target.is_older_than(own) {
        return Err(PathError::PoolAhead {
            pool: pool.to_owned(),
            own: Box::new(own.clone()),
            target: Box::new(target.clone()),
        });
    }
    if let Some(newer) = nodes
        .iter()
        .find(|node| own.is_older_than(&node.kubelet_version))
    {
        return Err(PathError::PoolDowngrade {
            pool: pool.to_owned(),
            own: Box::new(own.clone()),
            node: newer.name.clone(),
            current: Box::new(newer.kubelet_version.clone()),
        });
    }
    let is_release = |node: &&&Node| !node.kubelet_version.is_prerelease();
    match nodes.iter().find(is_release) {
        Some(release) if own.is_prerelease() => Err(PathError::PreReleaseTarget {
            current: release.kubelet_version.clone(),
            target: own.clone(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skew::PathStop;
    use crate::{ClusterId, ControlPlaneMember, Moment};

    #[test]
    fn the_way_of_a_cluster_is_that_of_its_oldest_and_not_back_for_its_newest() {
        let way = |members: &[&str], target: &str| {
            way(&cluster(members, &[]), &[], target).map(|path| path.to_string())
        };
        assert_eq!(
            way(&["1.37.2", "1.36.3"], "1.37.2").unwrap(),
            "1.36 -> 1.37"
        );
        let back = way(&["1.37.3", "1.36.3"], "1.37.2").unwrap_err();
        assert!(
            back.to_string().contains("v1.37.3 and cannot go back"),
            "{back}"
        );
        assert_eq!(way(&[], "1.37.2"), Err(PathError::NoControlPlane));
    }

    /// Members, and nodes of pools.
    fn cluster(members: &[&str], nodes: &[(&str, &str)]) -> ClusterModel {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        for (name, version) in members.iter().enumerate() {
            let member = ControlPlaneMember::new(name.to_string(), version.parse().unwrap());
            model.control_plane.push(member);
        }
        for (name, (pool, version)) in nodes.iter().enumerate() {
            let mut node = Node::new(format!("n{name}"), version.parse().unwrap());
            let label = PoolPolicy::default().label;
            node.labels.insert(label, (*pool).to_owned());
            model.nodes.push(node);
        }
        model
    }

    fn way(
        model: &ClusterModel,
        own: &[(&str, &str)],
        target: &str,
    ) -> Result<UpgradePath, PathError> {
        let mut pools = PoolPolicy::default();
        for (pool, version) in own {
            let version = version.parse().unwrap();
            pools.target_of.insert((*pool).to_owned(), version);
        }
        path_of_cluster(model, &pools, &target.parse().unwrap())
    }

    /// The minors of the stops, `+` where workers are brought along.
    fn stops(path: &UpgradePath) -> String {
        let stop = |stop: &PathStop| match (stop.control_plane, stop.workers) {
            (true, true) => format!("{}+", stop.minor),
            (true, false) => stop.minor.to_string(),
            (false, _) => format!("+{}", stop.minor),
        };
        path.stops.iter().map(stop).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pools_stop_where_their_own_target_is() {
        for (members, nodes, own, target, expected) in [
            // Held back where it is: nobody stops for it.
            ("1.36.2", "1.36.2", "1.36.2", "1.37.1", "1.37"),
            ("1.36.2", "1.36.2", "1.36.5", "1.37.1", "1.37+"),
            // A patch of the target's own minor.
            ("1.36.2", "1.36.2", "1.37.0", "1.37.1", "1.37+"),
            ("1.37.1", "1.36.2", "1.36.2", "1.37.1", ""),
            // Behind it has to go first, no further than it may, and is there.
            ("1.36.2", "1.33.1", "1.35.2", "1.37.1", "+1.36 1.37"),
            ("1.36.2", "1.33.1", "1.36.2", "1.37.1", "+1.36 1.37"),
            // Not yet: its patch is newer than the control plane was.
            ("1.36.2", "1.33.1", "1.36.5", "1.37.1", "+1.36 1.37+"),
            (
                "1.36.2",
                "1.33.1",
                "1.36.5",
                "1.39.1",
                "+1.36 1.37 1.38 1.39+",
            ),
            (
                "1.33.1",
                "1.33.1",
                "1.36.5",
                "1.39.1",
                "1.34 1.35 1.36+ 1.37 1.38 1.39",
            ),
        ] {
            let model = cluster(&[members], &[("gpu", nodes)]);
            let path = way(&model, &[("gpu", own)], target).unwrap();
            assert_eq!(stops(&path), expected, "{members}, {nodes} to {own}");
        }
        let model = cluster(&["1.33.1"], &[("gpu", "1.33.1"), ("web", "1.33.1")]);
        let path = way(&model, &[("gpu", "1.35.2")], "1.38.1").unwrap();
        assert_eq!(stops(&path), "1.34 1.35 1.36+ 1.37 1.38+");
    }

    #[test]
    fn refusals_name_the_pool_and_a_cure() {
        let nodes = [("gpu", "1.34.3"), ("gpu", "1.35.3"), ("web", "1.36.3")];
        let model = cluster(&["1.36.3", "1.37.1"], &nodes);
        for (own, target, words) in [
            (
                ("gpo", "1.36.3"),
                "1.37.1",
                ["pool gpo", "gpu, web", "correct"],
            ),
            (
                ("control-plane", "1.36.3"),
                "1.37.1",
                ["control-plane", "take it", "workers"],
            ),
            (
                ("gpu", "1.37.2"),
                "1.37.1",
                ["pool gpu", "v1.37.2", "not newer"],
            ),
            (
                ("gpu", "1.35.1"),
                "1.37.1",
                ["node n1", "v1.35.3", "not older"],
            ),
            (
                ("gpu", "1.36.0-rc.1"),
                "1.37.1",
                ["v1.36.0-rc.1", "v1.34.3", "release"],
            ),
            (
                ("gpu", "1.35.3"),
                "1.39.1",
                ["no further than v1.35.3", "1.36 or newer", "than 1.38"],
            ),
        ] {
            let message = way(&model, &[own], target).unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{word:?} not in {message:?}");
            }
        }
        // Where the cluster itself has no way, that is what is said.
        let back = way(&model, &[("gpo", "1.36.3")], "1.36.3").unwrap_err();
        assert!(matches!(back, PathError::Downgrade { .. }), "{back}");
        let alone = way(&cluster(&["1.36.3"], &[]), &[("gpu", "1.36.3")], "1.37.1");
        let alone = alone.unwrap_err().to_string();
        assert!(
            alone.contains("has none but the control plane's"),
            "{alone}"
        );
    }

    /// Its workers cannot stop at the minor that a part of the control plane has left.
    #[test]
    fn what_a_half_upgraded_control_plane_has_left_behind_comes_with_the_rest_of_it() {
        for (members, worker, target, expected) in [
            (&["1.36.3", "1.37.1"][..], "1.33.3", "1.37.1", "1.37+"),
            (&["1.36.3", "1.37.1"], "1.34.3", "1.37.1", "1.37+"),
            (
                &["1.36.3", "1.37.1"],
                "1.33.3",
                "1.39.1",
                "1.37+ 1.38 1.39+",
            ),
            // Nobody has gone there yet.
            (&["1.36.3", "1.36.3"], "1.33.3", "1.37.1", "+1.36 1.37+"),
        ] {
            let model = cluster(members, &[("web", worker), ("web", "1.36.3")]);
            let path = way(&model, &[], target).unwrap();
            assert_eq!(stops(&path), expected, "{members:?}, {worker} to {target}");
        }
    }

    /// While members are of two minors, the newest of them counts.
    #[test]
    fn a_half_upgraded_control_plane_leaves_a_pool_behind_sooner() {
        let left = |members: &[&str], target: &str| {
            let model = cluster(members, &[("gpu", "1.33.3")]);
            let way = way(&model, &[("gpu", "1.33.9")], target);
            matches!(way, Err(PathError::PoolLeftBehind { .. }))
        };
        assert!(!left(&["1.36.3"], "1.36.3"));
        assert!(left(&["1.36.3"], "1.37.1"));
        assert!(left(&["1.36.3", "1.37.1"], "1.37.1"));
        assert!(left(&["1.36.3", "1.37.1"], "1.38.1"));
        // No hop is left, and it is behind for good.
        assert!(left(&["1.37.1"], "1.37.1"));
    }
}
