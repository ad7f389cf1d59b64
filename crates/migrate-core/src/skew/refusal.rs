//! Why there is no way to a target.

use thiserror::Error;

use super::VersionRange;
use crate::listed;
use crate::policy::CONTROL_PLANE_POOL;
use crate::version::{KubeVersion, MinorVersion};

/// How many names a list shows.
const NAMES_SHOWN: usize = 5;

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
    /// A pool that policy gives a target of its own is not there.
    #[error(
        "pools.target-of has pool {pool}, and the cluster has no nodes of it (it has {}): \
         correct the name, or take it out", names(.known)
    )]
    UnknownPool {
        /// The pool.
        pool: String,
        /// Pools of workers that there are.
        known: Vec<String>,
    },
    /// The pool of the control plane's own nodes cannot be held back.
    #[error(
        "pools.target-of has {}, whose nodes go with their API servers: take it out, only workers \
         are held back",
        CONTROL_PLANE_POOL
    )]
    ControlPlanePool,
    /// A pool's own target is newer than the control plane's.
    #[error(
        "pool {pool} is to go to {own}, and the control plane no further than {target}: give it a \
         version that is not newer (pools.target-of), or take it out until the control plane gets \
         there"
    )]
    PoolAhead {
        /// The pool.
        pool: String,
        /// Its own target.
        own: Box<KubeVersion>,
        /// The control plane's.
        target: Box<KubeVersion>,
    },
    /// A node of a pool is newer than the pool's own target.
    #[error(
        "pool {pool} is to go to {own}, and its node {node} runs {current}, which does not go back: \
         give the pool a version that is not older (pools.target-of), or take that node back first"
    )]
    PoolDowngrade {
        /// The pool.
        pool: String,
        /// Its own target.
        own: Box<KubeVersion>,
        /// A node that is newer.
        node: String,
        /// What that one runs.
        current: Box<KubeVersion>,
    },
    /// A pool's own target would leave its kubelets behind the version skew policy.
    #[error(
        "pool {pool} goes no further than {own}, and next to API servers of {api_servers} kubelets \
         have to be {allowed}: let it go to {} or newer (pools.target-of){}",
        .allowed.oldest, no_further(.stays)
    )]
    PoolLeftBehind {
        /// The pool.
        pool: String,
        /// Its own target.
        own: Box<KubeVersion>,
        /// The API servers that its kubelets would meet.
        api_servers: VersionRange,
        /// The kubelets that these allow.
        allowed: VersionRange,
        /// The newest minor that the control plane could go to, if it is to go any
        /// further.
        stays: Option<MinorVersion>,
    },
    /// The target is more than [`MAX_PATH_MINORS`](super::MAX_PATH_MINORS) minors ahead.
    #[error("{target} is {minors} minors ahead of the control plane: check the target version")]
    TooFar {
        /// What was asked for.
        target: KubeVersion,
        /// How many minors ahead it is.
        minors: i64,
    },
}

fn names(known: &[String]) -> String {
    match known {
        [] => "none but the control plane's".to_owned(),
        known => listed(known, NAMES_SHOWN),
    }
}

fn no_further(stays: &Option<MinorVersion>) -> String {
    stays.map_or_else(String::new, |stays| {
        format!(", or choose a target not newer than {stays}")
    })
}
