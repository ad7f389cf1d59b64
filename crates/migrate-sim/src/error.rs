//! What can go wrong with an embedded cluster itself.

use std::time::Duration;

use crate::scenario::ScenarioError;
use crate::store::ApiError;

/// Why an embedded cluster could not be built or did not get where it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The API could not be served on a port of this machine.
    #[cfg(feature = "loopback")]
    #[error("no port of 127.0.0.1 can be had for the API: {0}; see what this system allows")]
    Listen(#[source] std::io::Error),
    /// The scenario cannot be read or makes no sense.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// An object that the cluster was to be built with was refused.
    #[error("{kind} {name:?} cannot be created")]
    Refused {
        /// Kind of the object.
        kind: String,
        /// Namespace and name, or the name.
        name: String,
        /// What the store says.
        #[source]
        source: ApiError,
    },
    /// An object of a kind that the cluster does not serve.
    #[error("the cluster does not serve {api_version} {kind}")]
    UnknownKind {
        /// `apiVersion` of the object.
        api_version: String,
        /// `kind` of the object.
        kind: String,
    },
    /// A snapshot could not be made.
    #[cfg(feature = "snapshot")]
    #[error(transparent)]
    Snapshot(#[from] migrate_etcd::Error),
    /// A snapshot is damaged or cannot be read.
    #[cfg(feature = "snapshot")]
    #[error(transparent)]
    Unreadable(#[from] migrate_etcd::ReadError),
    /// A condition was not reached in time.
    #[error("the condition was not reached within {0:?}")]
    Timeout(Duration),
}
