//! The error of this crate.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{ObjectName, StepError, StepErrorKind};

/// Why a driver could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The hook is not a program that can be run.
    #[error("hook {}: {reason}", path.display())]
    BadHook {
        /// Its path.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The hook could not be started.
    #[error("hook {}: cannot be started: {source}", path.display())]
    HookStart {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The hook's probe did not end in time; it and its children were ended.
    #[error("hook {}: its probe did not end within {}s", path.display(), limit.as_secs())]
    ProbeHangs {
        /// Its path.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The API refused or did not answer.
    #[error("node {node}: {source}")]
    Api {
        /// The node.
        node: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        let (kind, object) = match &error {
            Error::BadHook { path, .. } => (StepErrorKind::Invalid, hook(path)),
            Error::HookStart { path, .. } => (StepErrorKind::Permanent, hook(path)),
            Error::ProbeHangs { path, .. } => (StepErrorKind::Deadline, hook(path)),
            Error::Api { node, source } => {
                let kind = match source.as_ref() {
                    kube::Error::Api(status) if status.is_forbidden() => StepErrorKind::Forbidden,
                    kube::Error::Api(status) if status.is_not_found() => StepErrorKind::Permanent,
                    _ => StepErrorKind::Unavailable,
                };
                (kind, ObjectName::cluster("Node", node.clone()))
            }
        };
        Self::new(kind, object, error.to_string()).with_source(error)
    }
}

fn hook(path: &std::path::Path) -> ObjectName {
    ObjectName::cluster("Hook", path.display().to_string())
}
