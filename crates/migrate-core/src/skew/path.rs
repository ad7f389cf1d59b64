//! Which minors an upgrade goes through.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Component, Reachable, allowed_range};
use crate::ClusterModel;
use crate::version::{KubeVersion, MinorVersion};

/// The longest way [`upgrade_path`] gives; more minors than this are taken for
/// a mistyped target.
pub const MAX_PATH_MINORS: u32 = 100;

/// The way from one version to another: the control plane takes every minor in
/// turn, the workers stop as seldom as the version skew policy allows.
///
/// Its text is the way of the control plane, `1.36 -> 1.37 -> 1.38`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UpgradePath {
    /// The minor the control plane runs before.
    pub from: MinorVersion,
    /// The version to arrive at. Only the last stop knows its patch; for the
    /// others take the newest patch there is.
    pub target: KubeVersion,
    /// The stops in order, each completed before the next begins.
    pub stops: Vec<PathStop>,
}

/// One stop of an [`UpgradePath`]. The control plane goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PathStop {
    /// The minor of this stop.
    pub minor: MinorVersion,
    /// Whether the control plane is brought to it.
    pub control_plane: bool,
    /// Whether the workers are brought to it.
    pub workers: bool,
}

/// Why there is no way to the target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// The target is older than the control plane.
    #[error(
        "the control plane runs {current} and cannot go back to {target}: \
         choose a target that is not older, or restore a backup"
    )]
    Downgrade {
        /// What the control plane runs.
        current: KubeVersion,
        /// What was asked for.
        target: KubeVersion,
    },
    /// Nothing is known of the control plane.
    #[error("no API server is known: observe the cluster again")]
    NoControlPlane,
    /// The target, or a worker, is of another major version.
    #[error(
        "no upgrade from {from} to {to} is known, because the major version changes: \
         choose a target {}.x", .from.major()
    )]
    MajorChange {
        /// What the control plane runs.
        from: KubeVersion,
        /// The target or the worker's version.
        to: KubeVersion,
    },
    /// The target is a pre-release and the control plane runs a release.
    #[error(
        "{target} is a pre-release and {current} is not: \
         choose a release, pre-releases are for clusters that already run one"
    )]
    PreReleaseTarget {
        /// What the control plane runs.
        current: KubeVersion,
        /// What was asked for.
        target: KubeVersion,
    },
    /// A worker is of a newer minor than the control plane, which the version
    /// skew policy never allows: the cluster is not in a state to start from.
    #[error(
        "every worker runs {workers} or newer but the control plane {control_plane}: \
         bring the control plane to {} first", .workers.minor_version()
    )]
    WorkersAhead {
        /// The oldest worker.
        workers: KubeVersion,
        /// What the control plane runs.
        control_plane: KubeVersion,
    },
    /// The target is more than [`MAX_PATH_MINORS`] minors ahead.
    #[error("{target} is {minors} minors ahead of the control plane: check the target version")]
    TooFar {
        /// What was asked for.
        target: KubeVersion,
        /// How many minors ahead it is.
        minors: i64,
    },
}

/// The stops from the present state to `target`.
///
/// - `current_control_plane`: the oldest kube-apiserver.
/// - `workers_lowest`: the oldest kubelet that is not upgraded together with
///   the control plane; `None` without workers.
/// - `target`: a version, or only a minor. A minor is reached by any of its
///   releases, but not by one of its pre-releases.
///
/// **Control plane**: every minor in turn, none skipped. A newer patch or
/// another build of the same minor is one stop in that minor.
///
/// **Workers**: brought along only when the next minor of the control plane
/// would leave them behind the policy (n−3), and then all the way to the
/// minor of the control plane; and at the end. These are the fewest stops.
///
/// **Pre-releases**: as a target only for a control plane that runs a
/// pre-release already; leaving a pre-release for a release is always allowed.
///
/// An empty path means that nothing is to be done. That a *vendor build*
/// differs is a reason for a stop, even though nobody can tell which of the
/// two is newer.
///
/// # Errors
/// [`PathError`], each variant with its cure.
///
/// ```
/// use migrate_core::skew::upgrade_path;
///
/// let (cluster, target) = ("v1.36.2".parse()?, "1.38".parse()?);
/// let path = upgrade_path(&cluster, Some(&cluster), &target).unwrap();
/// assert_eq!(path.to_string(), "1.36 -> 1.37 -> 1.38");
/// assert_eq!(path.workers().count(), 1); // straight from 1.36 to 1.38
/// # Ok::<(), migrate_core::version::ParseVersionError>(())
/// ```
pub fn upgrade_path(
    current_control_plane: &KubeVersion,
    workers_lowest: Option<&KubeVersion>,
    target: &KubeVersion,
) -> Result<UpgradePath, PathError> {
    refuse_impossible(current_control_plane, workers_lowest, target)?;

    let from = current_control_plane.minor_version();
    let last = target.minor_version();
    let mut stops: Vec<PathStop> = Vec::new();
    let mut workers = workers_lowest.map(KubeVersion::minor_version);
    let mut control_plane = from;
    while control_plane < last {
        let next = control_plane.next();
        if workers.is_some_and(|workers| is_left_behind(workers, control_plane, next)) {
            bring_workers(&mut stops, control_plane);
            workers = Some(control_plane);
        }
        stops.push(PathStop {
            minor: next,
            control_plane: true,
            workers: false,
        });
        control_plane = next;
    }
    if from == last && has_to_change(current_control_plane, target) {
        stops.push(PathStop {
            minor: last,
            control_plane: true,
            workers: false,
        });
    }
    if workers_lowest.is_some_and(|workers| has_to_change(workers, target)) {
        bring_workers(&mut stops, last);
    }
    Ok(UpgradePath {
        from,
        target: target.clone(),
        stops,
    })
}

/// The stops from what `model` runs to `target`: those of [`upgrade_path`] from
/// its oldest API server and kubelet.
///
/// # Errors
/// Those of [`upgrade_path`], [`PathError::NoControlPlane`], and
/// [`PathError::Downgrade`] too if only a part of the control plane is ahead of
/// the target.
pub fn path_of_cluster(
    model: &ClusterModel,
    target: &KubeVersion,
) -> Result<UpgradePath, PathError> {
    let members = || model.control_plane.iter().map(|member| &member.version);
    let (Some(oldest), Some(newest)) = (members().min(), members().max()) else {
        return Err(PathError::NoControlPlane);
    };
    let kubelets = model.nodes.iter().map(|node| &node.kubelet_version);
    let path = upgrade_path(oldest, kubelets.min(), target)?;
    if target.is_older_than(newest) {
        return Err(PathError::Downgrade {
            current: newest.clone(),
            target: target.clone(),
        });
    }
    Ok(path)
}

fn refuse_impossible(
    current: &KubeVersion,
    workers: Option<&KubeVersion>,
    target: &KubeVersion,
) -> Result<(), PathError> {
    let majors = workers.into_iter().chain([target]);
    if let Some(other) = majors.into_iter().find(|v| v.major() != current.major()) {
        return Err(PathError::MajorChange {
            from: current.clone(),
            to: other.clone(),
        });
    }
    if target.is_older_than(current) {
        return Err(PathError::Downgrade {
            current: current.clone(),
            target: target.clone(),
        });
    }
    if target.is_prerelease() && !current.is_prerelease() {
        return Err(PathError::PreReleaseTarget {
            current: current.clone(),
            target: target.clone(),
        });
    }
    if let Some(workers) = workers.filter(|w| w.minor_version() > current.minor_version()) {
        return Err(PathError::WorkersAhead {
            workers: workers.clone(),
            control_plane: current.clone(),
        });
    }
    match current.minor_distance(target) {
        Some(minors) if minors > i64::from(MAX_PATH_MINORS) => Err(PathError::TooFar {
            target: target.clone(),
            minors,
        }),
        _ => Ok(()),
    }
}

/// Whether workers would be too old once the control plane has begun to go
/// from one minor to the next.
fn is_left_behind(workers: MinorVersion, from: MinorVersion, to: MinorVersion) -> bool {
    let during = [from, to].into_iter().collect::<Reachable>();
    !allowed_range(Component::Kubelet, &during).is_some_and(|range| range.contains(workers))
}

fn bring_workers(stops: &mut Vec<PathStop>, minor: MinorVersion) {
    match stops.last_mut() {
        Some(stop) if stop.minor == minor => stop.workers = true,
        // The control plane is there already.
        _ => stops.push(PathStop {
            minor,
            control_plane: false,
            workers: true,
        }),
    }
}

fn has_to_change(version: &KubeVersion, target: &KubeVersion) -> bool {
    // One that is newer is left alone: kube-migrate does not downgrade.
    !version.has_reached(target)
}

impl UpgradePath {
    /// Whether everything is at the target already.
    pub fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// The minors the control plane is brought to, in order.
    pub fn control_plane(&self) -> impl Iterator<Item = MinorVersion> + '_ {
        self.stops
            .iter()
            .filter(|stop| stop.control_plane)
            .map(|stop| stop.minor)
    }

    /// The minors the workers are brought to, in order.
    pub fn workers(&self) -> impl Iterator<Item = MinorVersion> + '_ {
        self.stops
            .iter()
            .filter(|stop| stop.workers)
            .map(|stop| stop.minor)
    }
}

impl fmt::Display for UpgradePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.from.fmt(f)?;
        self.control_plane()
            .try_for_each(|minor| write!(f, " -> {minor}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ClusterId, ControlPlaneMember, Moment};

    fn path(current: &str, workers: &str, target: &str) -> Result<UpgradePath, PathError> {
        let [current, workers, target] = [current, workers, target].map(|v| v.parse().unwrap());
        upgrade_path(&current, Some(&workers), &target)
    }

    #[test]
    fn stops_of_usual_upgrades() {
        for (current, workers, target, control_plane, worker_stops) in [
            ("1.36.2", "1.36.2", "1.37.1", "1.36 -> 1.37", "1.37"),
            ("1.36.2", "1.36.2", "1.38", "1.36 -> 1.37 -> 1.38", "1.38"),
            ("1.36.2", "1.34.0", "1.37.1", "1.36 -> 1.37", "1.37"),
            ("1.36.2", "1.33.0", "1.37.1", "1.36 -> 1.37", "1.36 1.37"),
            (
                "1.30.0",
                "1.28.0",
                "1.34",
                "1.30 -> 1.31 -> 1.32 -> 1.33 -> 1.34",
                "1.31 1.34",
            ),
            (
                "1.24.0",
                "1.23.0",
                "1.26",
                "1.24 -> 1.25 -> 1.26",
                "1.25 1.26",
            ),
            // Nothing to do, only workers, only a patch, only another build.
            ("1.37.1", "1.37.1", "1.37.1", "1.37", ""),
            ("1.37.1", "1.37.0", "1.37", "1.37", ""),
            ("1.37.1", "1.36.0", "1.37.1", "1.37", "1.37"),
            ("1.37.0", "1.37.0", "1.37.1", "1.37 -> 1.37", "1.37"),
            (
                "1.36.3+k3s1",
                "1.36.3+k3s1",
                "1.36.3+k3s2",
                "1.36 -> 1.36",
                "1.36",
            ),
            // A worker that is already behind the policy comes first.
            ("1.36.0", "1.29.0", "1.37", "1.36 -> 1.37", "1.36 1.37"),
            (
                "1.37.0-rc.0",
                "1.37.0-rc.0",
                "1.37.0-rc.1",
                "1.37 -> 1.37",
                "1.37",
            ),
            ("1.37.0-rc.1", "1.37.0-rc.1", "1.37", "1.37 -> 1.37", "1.37"),
        ] {
            let path = path(current, workers, target).unwrap();
            let stops: Vec<_> = path.workers().map(|minor| minor.to_string()).collect();
            assert_eq!(path.to_string(), control_plane, "{current} to {target}");
            assert_eq!(
                stops.join(" "),
                worker_stops,
                "{current}, {workers} to {target}"
            );
            assert_eq!(
                path.is_empty(),
                path.to_string() == "1.37" && stops.is_empty()
            );
        }
    }

    #[test]
    fn refusals_name_both_versions_and_a_cure() {
        for (current, workers, target, words) in [
            (
                "1.37.1",
                "1.37.1",
                "1.36.9",
                ["v1.37.1", "v1.36.9", "backup"],
            ),
            (
                "1.37.1",
                "1.37.1",
                "1.37.0",
                ["v1.37.1", "v1.37.0", "backup"],
            ),
            ("1.37.1", "1.37.1", "2.0.0", ["v1.37.1", "v2.0.0", "1.x"]),
            (
                "1.37.1",
                "1.37.1",
                "1.38.0-rc.1",
                ["v1.37.1", "v1.38.0-rc.1", "release"],
            ),
            (
                "1.36.1",
                "1.37.0",
                "1.38.0",
                ["v1.36.1", "v1.37.0", "to 1.37 first"],
            ),
            (
                "1.36.1",
                "1.36.0",
                "1.4000000000",
                ["v1.4000000000", "3999999964", "check"],
            ),
        ] {
            let message = path(current, workers, target).unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{word:?} not in {message:?}");
            }
        }
    }

    #[test]
    fn the_way_of_a_cluster_is_that_of_its_oldest_and_not_back_for_its_newest() {
        let way = |members: &[&str], target: &str| {
            let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
            for (name, version) in members.iter().enumerate() {
                let member = ControlPlaneMember::new(name.to_string(), version.parse().unwrap());
                model.control_plane.push(member);
            }
            path_of_cluster(&model, &target.parse().unwrap()).map(|path| path.to_string())
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

    /// The policy in plain numbers: workers while the control plane goes from
    /// `from` to the next minor.
    fn is_legal(workers: u32, from: u32) -> bool {
        workers <= from && workers + if workers < 25 { 2 } else { 3 } > from
    }

    /// Fewest worker stops by trying all of them: the smallest number of jumps
    /// so that every state on the way is legal.
    fn fewest_worker_stops(workers: u32, control_plane: u32, target: u32) -> usize {
        if control_plane == target {
            return usize::from(workers != target);
        }
        let go_on = |workers| fewest_worker_stops(workers, control_plane + 1, target);
        let stay = is_legal(workers, control_plane).then(|| go_on(workers));
        let stop_first = (workers + 1..=control_plane)
            .filter(|&workers| is_legal(workers, control_plane))
            .map(|workers| 1 + go_on(workers));
        stop_first.chain(stay).min().unwrap()
    }

    proptest! {
        #[test]
        fn every_state_on_the_way_is_legal_and_stops_are_fewest(
            control_plane in 20u32..40, behind in 0u32..4, hops in 0u32..9
        ) {
            let minor = |m| MinorVersion::new(1, m);
            let (lowest, target) = (minor(control_plane - behind), minor(control_plane + hops));
            let path =
                upgrade_path(&minor(control_plane).into(), Some(&lowest.into()), &target.into())
                    .unwrap();
            let (mut api_servers, mut workers) = (minor(control_plane), lowest);
            for stop in &path.stops {
                if stop.control_plane {
                    prop_assert_eq!(stop.minor, api_servers.next());
                    prop_assert!(is_legal(workers.minor(), api_servers.minor()));
                    api_servers = stop.minor;
                }
                if stop.workers {
                    prop_assert!(stop.minor <= api_servers && stop.minor > workers);
                    workers = stop.minor;
                }
            }
            prop_assert_eq!((api_servers, workers), (target, target));
            let fewest = fewest_worker_stops(lowest.minor(), control_plane, target.minor());
            prop_assert_eq!(path.workers().count(), fewest);
        }
    }
}
