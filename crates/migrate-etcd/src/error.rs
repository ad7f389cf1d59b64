//! The error of this crate.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{ObjectName, StepError, StepErrorKind};

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Asked to stop; nothing is left behind.
    #[error("cancelled")]
    Cancelled,
    /// The bytes received do not hash to the trailer the member sent.
    #[error("{endpoint}: the snapshot's bytes do not match its checksum; take another one")]
    ChecksumMismatch {
        /// Member.
        endpoint: String,
    },
    /// The disk is full.
    #[error("{}: no space left; free some or choose another folder", path.display())]
    DiskFull {
        /// File.
        path: PathBuf,
    },
    /// A file of that name exists already.
    #[error("{}: exists already; nothing is overwritten", path.display())]
    Exists {
        /// File.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error("{}: {source}", path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The member cannot serve a backup worth having.
    #[error("{endpoint}: {reason}")]
    MemberUnfit {
        /// Member.
        endpoint: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The member does not let us.
    #[error("{endpoint}: not allowed: {reason}; a snapshot needs the root role")]
    PermissionDenied {
        /// Member.
        endpoint: String,
        /// Its words.
        reason: String,
    },
    /// The member stopped sending.
    #[error("{endpoint}: nothing came for {}s after {bytes} bytes", stall.as_secs())]
    Stalled {
        /// Member.
        endpoint: String,
        /// Bytes received.
        bytes: u64,
        /// How long.
        stall: Duration,
    },
    /// The stream ended early or had no trailer.
    #[error("{endpoint}: the stream is not a whole snapshot: {reason}")]
    Truncated {
        /// Member.
        endpoint: String,
        /// What is missing.
        reason: String,
    },
    /// TLS material was given but the feature `tls` is off.
    #[error("{endpoint}: TLS is asked for, but this build has it not: enable the feature `tls`")]
    TlsNotBuilt {
        /// Member.
        endpoint: String,
    },
    /// The member is out of reach.
    #[error("{endpoint}: {source}")]
    Unreachable {
        /// Member.
        endpoint: String,
        /// Cause.
        #[source]
        source: Box<etcd_client::Error>,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::File { path, source },
        }
    }

    pub(crate) fn etcd(endpoint: &str, source: etcd_client::Error) -> Self {
        // 7 and 16: PERMISSION_DENIED and UNAUTHENTICATED of gRPC.
        match &source {
            etcd_client::Error::GRpcStatus(status) if matches!(status.code() as i32, 7 | 16) => {
                Self::PermissionDenied {
                    endpoint: endpoint.to_owned(),
                    reason: status.message().to_owned(),
                }
            }
            _ => Self::Unreachable {
                endpoint: endpoint.to_owned(),
                source: Box::new(source),
            },
        }
    }

    fn object(&self) -> ObjectName {
        match self {
            Self::DiskFull { path } | Self::Exists { path } | Self::File { path, .. } => {
                ObjectName::cluster("File", path.display().to_string())
            }
            Self::ChecksumMismatch { endpoint }
            | Self::MemberUnfit { endpoint, .. }
            | Self::PermissionDenied { endpoint, .. }
            | Self::Stalled { endpoint, .. }
            | Self::Truncated { endpoint, .. }
            | Self::TlsNotBuilt { endpoint }
            | Self::Unreachable { endpoint, .. } => {
                ObjectName::cluster("EtcdMember", endpoint.clone())
            }
            Self::Cancelled => ObjectName::cluster("Backup", "etcd"),
        }
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Cancelled => StepErrorKind::Cancelled,
            Error::Stalled { .. } => StepErrorKind::Deadline,
            Error::PermissionDenied { .. } => StepErrorKind::Forbidden,
            Error::TlsNotBuilt { .. } | Error::Exists { .. } => StepErrorKind::Invalid,
            Error::ChecksumMismatch { .. }
            | Error::Truncated { .. }
            | Error::Unreachable { .. } => StepErrorKind::Unavailable,
            _ => StepErrorKind::Permanent,
        };
        let object = error.object();
        let text = error.to_string();
        // A step error names its object itself.
        let message = text
            .strip_prefix(&object.name)
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(&text);
        Self::new(kind, object, message).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_error_names_its_object_once() {
        let full = || Error::file("/backups/a.db", io::ErrorKind::StorageFull.into());
        assert_eq!(
            StepError::from(full())
                .to_string()
                .replacen("/backups/a.db", "", 1),
            "File : no space left; free some or choose another folder"
        );
        let taken = Error::Truncated {
            endpoint: "http://a:1".to_owned(),
            reason: "no".to_owned(),
        };
        let text = StepError::from(taken).to_string();
        assert_eq!(text.matches("http://a:1").count(), 1, "{text}");
        assert_eq!(StepError::from(Error::Cancelled).message, "cancelled");
    }
}
