//! Errors of what others said: disks, members and stores.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;

/// Codes of gRPC by which a member refuses who asks. A user that is missing or
/// a wrong password is an INVALID_ARGUMENT to etcd, and a user where
/// authentication is off a FAILED_PRECONDITION (its `rpctypes`).
#[cfg(feature = "client")]
const REFUSALS: [i32; 4] = [3, 7, 9, 16];

/// Up to 3.5 a snapshot is refused without a code: what is behind this is of its
/// `auth` package.
#[cfg(feature = "client")]
fn is_refusal(status: &tonic::Status) -> bool {
    let is_bare = status.code() == tonic::Code::Unknown && status.message().starts_with("auth: ");
    is_bare || REFUSALS.contains(&(status.code() as i32))
}

/// Further words on what was found, if anything was.
pub(super) fn listed(reasons: &[String]) -> String {
    match reasons.is_empty() {
        true => String::new(),
        false => format!("; found: {}", reasons.join("; ")),
    }
}

/// What lies between two compactions of API servers, unless they are told otherwise.
const BETWEEN: Duration = Duration::from_secs(300);

/// How a snapshot is compared before it is too late, by what it was too slow for: the time that
/// it took in all, and of that until it was there.
pub(super) fn sooner(took: Option<Duration>, received: Option<Duration>) -> String {
    let Some(took) = took else {
        return "take another snapshot and prove it at once".to_owned();
    };
    let received = received.unwrap_or(took).min(took);
    let compared = took.saturating_sub(received);
    let cure = if took < BETWEEN {
        "is sooner than API servers compact by themselves, every five minutes: see who compacts \
         oftener (their --etcd-compaction-interval, --auto-compaction-retention of etcd, a job that \
         calls etcdctl), stop that for as long, and take another snapshot"
    } else if received >= compared {
        "is later than API servers compact, every five minutes: take another snapshot over a \
         quicker link onto a quicker disk, or raise their --etcd-compaction-interval for as long"
    } else {
        "is later than API servers compact, every five minutes: take another snapshot onto a \
         quicker disk, of fewer members that do not answer, or raise their \
         --etcd-compaction-interval for as long"
    };
    format!(
        "the last snapshot was there after {received:.0?} and compared {compared:.0?} later, which {cure}"
    )
}

impl Error {
    #[cfg(feature = "store")]
    pub(crate) fn store(
        location: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Store {
            location: location.to_owned(),
            source: source.into(),
        }
    }

    /// That the file at `path` is not `expected`.
    pub(crate) fn changed(path: impl Into<PathBuf>, expected: impl Into<String>) -> Self {
        let (path, expected) = (path.into(), expected.into());
        Self::Changed { path, expected }
    }

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
            Cause::GRpcStatus(status) if is_refusal(&status) => Self::PermissionDenied {
                endpoint,
                reason: status.message().to_owned(),
            },
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
}
