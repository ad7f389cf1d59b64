//! Which minors an upgrade goes through.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::workers::Workers;
use super::{PathError, VersionRange};
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
/// minor of the control plane; and at the end. These are the fewest stops. Workers
/// that are newer than the control plane, which the policy never allows, stop
/// nowhere for that: the control plane comes to them. Whether it comes far enough is
/// for [`check_skew`](crate::preconditions::check_skew) to say.
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
    let workers = workers_lowest.map(Workers::unheld);
    let newest = current_control_plane.minor_version();
    let workers = workers.into_iter().collect();
    path_of(current_control_plane, newest, workers, target)
}

/// The stops of a way that nothing forbids. All workers stop together, and go as far
/// as they may: so none has to stop once more sooner than it must.
///
/// `current` is the oldest API server, `newest` the minor of the newest. A hop to where
/// that one is already leaves nobody further behind than they are: who is behind it
/// comes along with this hop, and could not stop before it, as there is no way back.
pub(super) fn path_of(
    current: &KubeVersion,
    newest: MinorVersion,
    mut workers: Vec<Workers<'_>>,
    target: &KubeVersion,
) -> Result<UpgradePath, PathError> {
    let (from, last) = (current.minor_version(), target.minor_version());
    let mut stops: Vec<PathStop> = Vec::new();
    let mut control_plane = from;
    while control_plane < last {
        let next = control_plane.next();
        let hop = VersionRange {
            oldest: control_plane,
            newest: next,
        };
        let is_left = |workers: &Workers<'_>| workers.left_behind_by(hop).is_some();
        if next > newest && workers.iter().any(is_left) {
            let stop = match control_plane == from {
                true => current.clone(),
                // Which patch of it that was, nobody knows yet.
                false => control_plane.into(),
            };
            bring_workers(&mut stops, control_plane);
            workers
                .iter_mut()
                .for_each(|workers| workers.bring_to(&stop));
            refuse_left_behind(&workers, hop, Some(control_plane))?;
        }
        stops.push(PathStop {
            minor: next,
            control_plane: true,
            workers: false,
        });
        control_plane = next;
    }
    if from == last && !current.has_reached(target) {
        stops.push(PathStop {
            minor: last,
            control_plane: true,
            workers: false,
        });
    }
    if workers.iter().any(|workers| !workers.has_arrived(target)) {
        bring_workers(&mut stops, last);
        workers
            .iter_mut()
            .for_each(|workers| workers.bring_to(target));
    }
    let there = VersionRange {
        oldest: last,
        newest: last,
    };
    refuse_left_behind(&workers, there, None)?;
    Ok(UpgradePath {
        from,
        target: target.clone(),
        stops,
    })
}

/// Whoever goes no further, and is behind the policy next to `api_servers`; others are
/// brought along.
fn refuse_left_behind(
    workers: &[Workers<'_>],
    api_servers: VersionRange,
    stays: Option<MinorVersion>,
) -> Result<(), PathError> {
    let left = |workers: &Workers<'_>| {
        let (pool, own) = workers.held?;
        Some(PathError::PoolLeftBehind {
            pool: pool.to_owned(),
            own: Box::new(own.clone()),
            api_servers,
            allowed: workers.left_behind_by(api_servers)?,
            stays,
        })
    };
    workers.iter().find_map(left).map_or(Ok(()), Err)
}

pub(super) fn refuse_impossible(
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
    match current.minor_distance(target) {
        Some(minors) if minors > i64::from(MAX_PATH_MINORS) => Err(PathError::TooFar {
            target: target.clone(),
            minors,
        }),
        _ => Ok(()),
    }
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
            // The control plane comes to workers that are ahead of it.
            ("1.36.0", "1.37.0", "1.37.1", "1.36 -> 1.37", "1.37"),
            ("1.36.0", "1.37.1", "1.37.1", "1.36 -> 1.37", ""),
            ("1.36.0", "1.38.1", "1.37.1", "1.36 -> 1.37", ""),
            ("1.36.0", "1.38.0", "1.38.1", "1.36 -> 1.37 -> 1.38", "1.38"),
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
