//! The error of this crate.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{ObjectName, StepError, StepErrorKind};

use crate::ReadError;

/// Why a backup failed.
///
/// Each text names the file or the member, and what to do. After every one the
/// folder holds nothing of this backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Asked to stop.
    #[error("the etcd backup was cancelled; nothing of it is left behind, run it again")]
    Cancelled,
    /// The bytes received do not hash to the trailer the member sent.
    #[error(
        "{endpoint}: the snapshot's bytes do not match its checksum; take another one, and from \
         another member if that is so again"
    )]
    ChecksumMismatch {
        /// Member.
        endpoint: String,
    },
    /// The member was compacted beyond the revision of the file.
    #[error(
        "{endpoint}: is compacted beyond revision {revision}, so that it can no longer say what \
         it had there; take another snapshot and prove it at once"
    )]
    Compacted {
        /// Member.
        endpoint: String,
        /// Revision of the file.
        revision: i64,
    },
    /// The file is not sound.
    #[error(transparent)]
    Damaged(#[from] ReadError),
    /// The disk is full.
    #[error("{}: no space left; free some or choose another folder", path.display())]
    DiskFull {
        /// File.
        path: PathBuf,
    },
    /// A file of that name exists already, or is being written.
    #[error(
        "{}: exists already, and nothing is overwritten; choose another name, or remove it if it \
         is a `.part` that nobody writes any more",
        path.display()
    )]
    Exists {
        /// File.
        path: PathBuf,
    },
    /// Reading or writing a file failed.
    #[error("{}: {source}; see that the folder can be written, or choose another one", path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The member broke off in the middle.
    #[error(
        "{endpoint}: broke the snapshot off after {bytes} bytes: {source}; see whether the member \
         was restarted and what it logs, then take another one"
    )]
    Interrupted {
        /// Member.
        endpoint: String,
        /// Bytes received.
        bytes: u64,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The endpoint is none, or does not go with the TLS material.
    #[error("{endpoint}: {reason}; give one member as https://HOST:2379, or http:// without TLS")]
    InvalidEndpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The member cannot serve a backup worth having.
    #[error("{endpoint}: {reason}")]
    MemberUnfit {
        /// Member.
        endpoint: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A member has other keys than the file.
    #[error(
        "{}: its keys are not those that {endpoint} has at revision {revision}; compare the \
         members with `etcdctl endpoint hashkv`, and take a backup of one that another one \
         agrees with",
        path.display()
    )]
    NotEqual {
        /// File.
        path: PathBuf,
        /// Member.
        endpoint: String,
        /// Revision of the file.
        revision: i64,
    },
    /// The member does not let us.
    #[error(
        "{endpoint}: not allowed: {reason}; give a user that has the root role, or none where \
         authentication is off"
    )]
    PermissionDenied {
        /// Member.
        endpoint: String,
        /// Its words.
        reason: String,
    },
    /// The member stopped sending.
    #[error(
        "{endpoint}: nothing came for {stall:?} after {bytes} bytes; see to the member's disk and \
         the network to it, or ask another member"
    )]
    Stalled {
        /// Member.
        endpoint: String,
        /// Bytes received.
        bytes: u64,
        /// How long.
        stall: Duration,
    },
    /// The stream ended early, went on too long or had no trailer.
    #[error(
        "{endpoint}: the stream is not a whole snapshot: {reason}; see what the member logs, and \
         take another one"
    )]
    Truncated {
        /// Member.
        endpoint: String,
        /// What is missing.
        reason: String,
    },
    /// Not enough members said what they have.
    #[error(
        "{}: cannot be proven by {answered} members that answer; see that two of them are in \
         reach, or name the only one there is: {}",
        path.display(), silent.join("; ")
    )]
    TooFewMembers {
        /// File.
        path: PathBuf,
        /// Members that answered.
        answered: usize,
        /// What became of the others.
        silent: Vec<String>,
    },
    /// TLS is asked for but the feature `tls` is off.
    #[error("{endpoint}: TLS is asked for, but this build has it not: enable the feature `tls`")]
    TlsNotBuilt {
        /// Member.
        endpoint: String,
    },
    /// The member is out of reach.
    #[error(
        "{endpoint}: {source}; see that the member runs there, and that its CA and the client \
         certificate are the right ones"
    )]
    Unreachable {
        /// Member.
        endpoint: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Codes of gRPC by which a member refuses who asks. A user that is missing or
/// a wrong password is an INVALID_ARGUMENT to etcd, and a user where
/// authentication is off a FAILED_PRECONDITION (its `rpctypes`).
#[cfg(feature = "client")]
const REFUSALS: [i32; 4] = [3, 7, 9, 16];

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::File { path, source },
        }
    }

    /// What the client said after `bytes` had come.
    #[cfg(feature = "client")]
    pub(crate) fn etcd(endpoint: &str, bytes: u64, source: etcd_client::Error) -> Self {
        use etcd_client::Error as Cause;
        let endpoint = endpoint.to_owned();
        match source {
            Cause::GRpcStatus(status) if REFUSALS.contains(&(status.code() as i32)) => {
                Self::PermissionDenied {
                    endpoint,
                    reason: status.message().to_owned(),
                }
            }
            Cause::InvalidArgs(_) | Cause::InvalidUri(_) => Self::InvalidEndpoint {
                endpoint,
                reason: source.to_string(),
            },
            source if bytes > 0 => Self::Interrupted {
                endpoint,
                bytes,
                source: Box::new(source),
            },
            source => Self::Unreachable {
                endpoint,
                source: Box::new(source),
            },
        }
    }

    fn object(&self) -> ObjectName {
        match self {
            Self::DiskFull { path }
            | Self::Exists { path }
            | Self::File { path, .. }
            | Self::NotEqual { path, .. }
            | Self::TooFewMembers { path, .. } => {
                ObjectName::cluster("File", path.display().to_string())
            }
            Self::Damaged(error) => ObjectName::cluster("File", error.path().display().to_string()),
            Self::ChecksumMismatch { endpoint }
            | Self::Compacted { endpoint, .. }
            | Self::Interrupted { endpoint, .. }
            | Self::InvalidEndpoint { endpoint, .. }
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
            Error::Exists { .. } | Error::InvalidEndpoint { .. } | Error::TlsNotBuilt { .. } => {
                StepErrorKind::Invalid
            }
            Error::ChecksumMismatch { .. }
            | Error::Compacted { .. }
            | Error::Interrupted { .. }
            | Error::TooFewMembers { .. }
            | Error::Truncated { .. }
            | Error::Unreachable { .. } => StepErrorKind::Unavailable,
            Error::Damaged(_)
            | Error::DiskFull { .. }
            | Error::File { .. }
            | Error::MemberUnfit { .. }
            | Error::NotEqual { .. } => StepErrorKind::Permanent,
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

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    /// What the text of an error must tell to do; a new variant has to be
    /// thought of here.
    fn cure(error: &Error) -> &'static str {
        match error {
            Error::Cancelled => "run it again",
            Error::ChecksumMismatch { .. } => "take another one",
            Error::Compacted { .. } => "take another snapshot",
            Error::Damaged(_) => "take another backup",
            Error::DiskFull { .. } => "free some",
            Error::Exists { .. } => "choose another name",
            Error::File { .. } => "see that the folder can be written",
            Error::Interrupted { .. } => "see whether the member was restarted",
            Error::InvalidEndpoint { .. } => "give one member as https://HOST:2379",
            Error::MemberUnfit { .. } => "name a voting member",
            Error::NotEqual { .. } => "compare the members",
            Error::PermissionDenied { .. } => "give a user that has the root role",
            Error::Stalled { .. } => "see to the member's disk and the network",
            Error::Truncated { .. } => "take another one",
            Error::TooFewMembers { .. } => "see that two of them",
            Error::TlsNotBuilt { .. } => "enable the feature `tls`",
            Error::Unreachable { .. } => "see that the member runs there",
        }
    }

    fn one_of_each() -> Vec<Error> {
        let endpoint = "http://a:1".to_owned();
        let path = PathBuf::from("/backups/a.db");
        let reason = "name a voting member".to_owned();
        let source = || etcd_client::Error::Internal("lost".to_owned());
        vec![
            Error::Cancelled,
            Error::ChecksumMismatch {
                endpoint: endpoint.clone(),
            },
            Error::Compacted {
                endpoint: endpoint.clone(),
                revision: 7,
            },
            Error::Damaged(ReadError::NoMeta { path: path.clone() }),
            Error::NotEqual {
                path: path.clone(),
                endpoint: endpoint.clone(),
                revision: 7,
            },
            Error::TooFewMembers {
                path: path.clone(),
                answered: 1,
                silent: vec!["http://b:1: is away".to_owned()],
            },
            Error::file(&path, io::ErrorKind::StorageFull.into()),
            Error::file(&path, io::ErrorKind::AlreadyExists.into()),
            Error::file(&path, io::ErrorKind::PermissionDenied.into()),
            Error::etcd(&endpoint, 7, source()),
            Error::etcd(
                &endpoint,
                0,
                etcd_client::Error::InvalidArgs("no".to_owned()),
            ),
            Error::MemberUnfit {
                endpoint: endpoint.clone(),
                reason: reason.clone(),
            },
            Error::PermissionDenied {
                endpoint: endpoint.clone(),
                reason: reason.clone(),
            },
            Error::Stalled {
                endpoint: endpoint.clone(),
                bytes: 7,
                stall: Duration::from_millis(1500),
            },
            Error::Truncated {
                endpoint: endpoint.clone(),
                reason,
            },
            Error::TlsNotBuilt {
                endpoint: endpoint.clone(),
            },
            Error::etcd(&endpoint, 0, source()),
        ]
    }

    #[test]
    fn each_error_names_its_object_once_and_the_cure() {
        let errors = one_of_each();
        let kinds: std::collections::BTreeSet<_> =
            errors.iter().map(|error| format!("{error:?}")).collect();
        assert_eq!(kinds.len(), errors.len());
        for error in errors {
            let (text, cure) = (error.to_string(), cure(&error));
            assert!(text.contains(cure), "{text}");
            assert!(text.contains(&error.object().name), "{text}");
            let name = error.object().name;
            let step = StepError::from(error);
            assert!(step.message.contains(cure), "{step}");
            if step.kind != StepErrorKind::Cancelled {
                assert_eq!(step.to_string().matches(&name).count(), 1, "{step}");
            }
        }
    }
}
