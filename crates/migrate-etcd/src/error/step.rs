//! What an error is to a run.

use migrate_core::{ObjectName, StepError, StepErrorKind};

use super::Error;

impl Error {
    pub(super) fn object(&self) -> ObjectName {
        match self {
            Self::Busy { path }
            | Self::Changed { path, .. }
            | Self::Differs { path, .. }
            | Self::DiskFull { path }
            | Self::DiskStalled { path, .. }
            | Self::Exists { path }
            | Self::File { path, .. }
            | Self::Locked { path, .. }
            | Self::Malformed { path, .. }
            | Self::NoTrailer { path }
            | Self::NotComparable { path, .. }
            | Self::NotEmpty { path }
            | Self::NotEqual { path, .. }
            | Self::OtherCluster { path, .. }
            | Self::RevisionTooHigh { path, .. }
            | Self::TooFewMembers { path, .. }
            | Self::TooLarge { path, .. }
            | Self::TooNew { path, .. }
            | Self::TrialServer { path, .. }
            | Self::Untrusted { path } => ObjectName::cluster("File", path.display().to_string()),
            #[cfg(feature = "client")]
            Self::NoRoom { folder, .. } => {
                ObjectName::cluster("File", folder.display().to_string())
            }
            Self::Damaged(error) => ObjectName::cluster("File", error.path().display().to_string()),
            #[cfg(feature = "client")]
            Self::AlreadySaving { endpoint, .. } => {
                ObjectName::cluster("EtcdMember", endpoint.clone())
            }
            Self::Behind { endpoint, .. }
            | Self::ChecksumMismatch { endpoint }
            | Self::Compacted { endpoint, .. }
            | Self::Defragmenting { endpoint }
            | Self::Interrupted { endpoint, .. }
            | Self::InvalidEndpoint { endpoint, .. }
            | Self::MemberUnfit { endpoint, .. }
            | Self::PermissionDenied { endpoint, .. }
            | Self::Stalled { endpoint, .. }
            | Self::Truncated { endpoint, .. }
            | Self::TooSlow { endpoint, .. }
            | Self::Unreachable { endpoint, .. } => {
                ObjectName::cluster("EtcdMember", endpoint.clone())
            }
            Self::Node { node, .. } | Self::OtherKeys { node, .. } => {
                ObjectName::cluster("Node", node.clone())
            }
            Self::NotBuilt { what, feature } => {
                let is_store = *feature == "s3";
                ObjectName::cluster(if is_store { "Store" } else { "EtcdMember" }, what.clone())
            }
            Self::InvalidKey { what, .. } => ObjectName::cluster("Key", what.clone()),
            Self::InvalidMembership { what: member, .. }
            | Self::Learner { member }
            | Self::MixedMembers { member, .. } => {
                ObjectName::cluster("EtcdMember", member.clone())
            }
            Self::NoMember { nodes, .. } => ObjectName::cluster("Node", nodes.clone()),
            Self::NoBackup { place: store, .. } => ObjectName::cluster("Store", store.clone()),
            #[cfg(feature = "store")]
            Self::NoStore { place: store, .. }
            | Self::PruneDenied {
                location: store, ..
            }
            | Self::Store {
                location: store, ..
            }
            | Self::TooLargeForStore {
                location: store, ..
            } => ObjectName::cluster("Store", store.clone()),
            Self::InvalidRecord { revision, .. } => {
                ObjectName::cluster("Revision", revision.to_string())
            }
            Self::InvalidVersion { .. } | Self::Cancelled => ObjectName::cluster("Backup", "etcd"),
        }
    }
}

impl From<Error> for StepError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Cancelled => StepErrorKind::Cancelled,
            Error::DiskStalled { .. } | Error::Stalled { .. } | Error::TooSlow { .. } => {
                StepErrorKind::Deadline
            }
            Error::PermissionDenied { .. } => StepErrorKind::Forbidden,
            #[cfg(feature = "store")]
            Error::PruneDenied { .. } => StepErrorKind::Forbidden,
            Error::Exists { .. }
            | Error::InvalidEndpoint { .. }
            | Error::InvalidKey { .. }
            | Error::InvalidMembership { .. }
            | Error::InvalidRecord { .. }
            | Error::InvalidVersion { .. }
            | Error::Learner { .. }
            | Error::NotComparable { .. }
            | Error::NotEmpty { .. }
            | Error::RevisionTooHigh { .. }
            | Error::NotBuilt { .. }
            | Error::TooLarge { .. }
            | Error::TooNew { .. } => StepErrorKind::Invalid,
            #[cfg(feature = "store")]
            Error::NoStore { .. } | Error::TooLargeForStore { .. } => StepErrorKind::Invalid,
            Error::Behind { .. }
            | Error::Busy { .. }
            | Error::ChecksumMismatch { .. }
            | Error::Compacted { .. }
            | Error::Defragmenting { .. }
            | Error::Interrupted { .. }
            | Error::NoMember { .. }
            | Error::TooFewMembers { .. }
            | Error::Truncated { .. }
            | Error::Unreachable { .. } => StepErrorKind::Unavailable,
            #[cfg(feature = "client")]
            Error::AlreadySaving { .. } => StepErrorKind::Unavailable,
            #[cfg(feature = "store")]
            Error::Store { .. } => StepErrorKind::Unavailable,
            #[cfg(feature = "client")]
            Error::NoRoom { .. } => StepErrorKind::Permanent,
            Error::Changed { .. }
            | Error::Damaged(_)
            | Error::Differs { .. }
            | Error::DiskFull { .. }
            | Error::File { .. }
            | Error::Locked { .. }
            | Error::Malformed { .. }
            | Error::MemberUnfit { .. }
            | Error::MixedMembers { .. }
            | Error::Node { .. }
            | Error::NoBackup { .. }
            | Error::NoTrailer { .. }
            | Error::NotEqual { .. }
            | Error::OtherCluster { .. }
            | Error::OtherKeys { .. }
            | Error::TrialServer { .. }
            | Error::Untrusted { .. } => StepErrorKind::Permanent,
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
