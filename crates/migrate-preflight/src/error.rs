//! Why preflight could not be made.

use std::time::Duration;

use migrate_core::{ClusterId, ObjectName, StepError, StepErrorKind};

/// Why a check could not be made. What a check *finds* is never an error, and
/// neither is a missing permission: both are findings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API gave no usable answer.
    #[error("preflight check {check}: {source}")]
    Api {
        /// The check.
        check: &'static str,
        /// What the API said.
        source: migrate_kube::Error,
    },
    /// Someone asked to stop.
    #[error("preflight was cancelled; nothing was changed, begin again when you like")]
    Cancelled,
    /// A check took longer than `deadlines.request`: try again, or allow more.
    #[error("preflight check {check} had no answer within {} s; try again, or raise deadlines.request", .after.as_secs())]
    Deadline {
        /// The check.
        check: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The client leads to another cluster than the one that was observed:
    /// choose the right context, or observe again.
    #[error("this is cluster {found}, but the run is for cluster {expected}; choose its context")]
    OtherCluster {
        /// The cluster that was observed.
        expected: ClusterId,
        /// The cluster behind the client.
        found: ClusterId,
    },
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let preflight = |kind, check: &str| {
            Self::new(
                kind,
                ObjectName::cluster("Preflight", check),
                message.clone(),
            )
        };
        match error {
            Error::Api { check, source } => {
                let inner = Self::from(source);
                let mut step = Self::new(inner.kind, inner.object, inner.message);
                step.message = format!("preflight check {check}: {}", step.message);
                match inner.source {
                    Some(source) => step.with_source(source),
                    None => step,
                }
            }
            Error::Cancelled => preflight(StepErrorKind::Cancelled, "run"),
            Error::Deadline { check, .. } => preflight(StepErrorKind::Deadline, check),
            Error::OtherCluster { .. } => {
                let object = ObjectName::cluster("Namespace", "kube-system");
                Self::new(StepErrorKind::Conflict, object, message)
            }
        }
    }
}
