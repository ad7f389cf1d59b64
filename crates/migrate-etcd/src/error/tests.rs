//! Each error names what it is about and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use migrate_core::{StepError, StepErrorKind};

use super::*;
use crate::ReadError;

/// What the text of an error must tell to do; a new variant has to be
/// thought of here.
fn cure(error: &Error) -> &'static str {
    match error {
        Error::AlreadySaving { .. } => "wait for its end",
        Error::Behind { .. } => "take the snapshot of that one",
        Error::Busy { .. } => "wait for its end",
        Error::Cancelled => "run it again",
        Error::Changed { .. } => "use another one",
        Error::ChecksumMismatch { .. } => "take another one",
        Error::Compacted { .. } => "take another snapshot",
        Error::Damaged(_) => "take another backup",
        Error::Defragmenting { .. } => "wait for its end",
        Error::Differs { .. } => "from another member",
        Error::DiskFull { .. } => "free some",
        Error::DiskStalled { .. } => "choose a folder on another one",
        Error::Exists { .. } => "choose another name",
        Error::File { .. } => "that its folder can be written",
        Error::Interrupted { .. } => "see whether the member was restarted",
        Error::InvalidEndpoint { .. } => "give one member as https://HOST:2379",
        Error::InvalidKey { .. } => "give 32 bytes",
        Error::InvalidMembership { .. } => "give NAME=",
        Error::InvalidRecord { .. } => "give each key once",
        Error::InvalidVersion { .. } => "give one as 3.6.16",
        Error::Learner { .. } => "add it when the cluster runs",
        Error::Locked { .. } => "give a key",
        Error::Malformed { .. } => "name one that this version has written",
        Error::MemberUnfit { .. } => "name a voting member",
        Error::MixedMembers { .. } => "restore every member from the same file",
        Error::Node { .. } => "take the set again",
        Error::NoBackup { .. } => "take one",
        Error::NoMember { .. } => "see that the members run",
        Error::NoRoom { .. } => "free some",
        #[cfg(feature = "store")]
        Error::NoStore { .. } => "name the folder that backups were put into",
        Error::NoTrailer { .. } => "restore a whole one",
        Error::NotBuilt { .. } => "enable the feature",
        Error::NotComparable { .. } => "name a backup first",
        Error::NotEmpty { .. } => "name an empty one",
        Error::NotEqual { .. } => "compare the members",
        Error::OtherCluster { .. } => "name an etcd member of this cluster",
        Error::OtherKeys { .. } => "give the files of every",
        Error::PermissionDenied { .. } => "give a user that has the root role",
        Error::RevisionTooHigh { .. } => "ask for less",
        #[cfg(feature = "store")]
        Error::PruneDenied { .. } => "give credentials that may remove objects",
        #[cfg(feature = "store")]
        Error::Store { .. } => "see to the store",
        Error::Stalled { .. } => "see to the member's disk and the network",
        Error::Truncated { .. } => "take another one",
        Error::TooFewMembers { .. } => "see that two of them are in reach",
        Error::TooLarge { .. } => "use another copy",
        #[cfg(feature = "store")]
        Error::TooLargeForStore { .. } => "keep it in a folder",
        Error::TooNew { .. } => "restore an older backup",
        Error::TooSlow { .. } => "allow a lower rate",
        Error::TrialServer { .. } => "start this server on it by hand",
        Error::Unreachable { .. } => "see that the member runs there",
        Error::Untrusted { .. } => "unless you know why",
    }
}

fn one_of_each() -> Vec<Error> {
    let endpoint = "http://a:1".to_owned();
    let path = PathBuf::from("/backups/a.db");
    let reason = "name a voting member".to_owned();
    let source = || etcd_client::Error::Internal("lost".to_owned());
    vec![
        Error::Cancelled,
        Error::AlreadySaving {
            endpoint: endpoint.clone(),
            holder: "process 7 (etcd_backup)".to_owned(),
        },
        Error::Behind {
            endpoint: endpoint.clone(),
            revision: 7,
            newest: 8,
            ahead: "http://b:1".to_owned(),
        },
        Error::ChecksumMismatch {
            endpoint: endpoint.clone(),
        },
        Error::Compacted {
            endpoint: endpoint.clone(),
            revision: 7,
            took: None,
            received: None,
        },
        Error::Compacted {
            endpoint: endpoint.clone(),
            revision: 7,
            took: Some(Duration::from_secs(700)),
            received: Some(Duration::from_secs(690)),
        },
        Error::Damaged(ReadError::NoMeta { path: path.clone() }),
        Error::Defragmenting {
            endpoint: endpoint.clone(),
        },
        Error::NotComparable {
            path: path.clone(),
            reason: "is older".to_owned(),
        },
        Error::NotEqual {
            path: path.clone(),
            endpoint: endpoint.clone(),
            revision: 7,
        },
        Error::TooFewMembers {
            path: path.clone(),
            answered: 1,
            voters: 3,
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
        Error::DiskStalled {
            path: path.clone(),
            stall: Duration::from_secs(30),
        },
        Error::TooSlow {
            endpoint: endpoint.clone(),
            bytes: 7,
            took: Duration::from_secs(31),
            least_rate: 8,
        },
        Error::Truncated {
            endpoint: endpoint.clone(),
            reason,
        },
        Error::NotBuilt {
            what: endpoint.clone(),
            feature: "tls",
        },
        Error::etcd(&endpoint, 0, source()),
        Error::Busy { path: path.clone() },
        Error::Changed {
            path: path.clone(),
            expected: "the file of SHA-256 00".to_owned(),
        },
        Error::Differs {
            path: path.clone(),
            what: "revision".to_owned(),
            snapshot: 7,
            restored: 8,
        },
        Error::InvalidKey {
            what: "\"00\"".to_owned(),
            kind: "Ed25519",
            cure: "give 32 bytes",
        },
        Error::InvalidMembership {
            what: "cp-9".to_owned(),
            reason: "it has no address".to_owned(),
        },
        Error::Learner {
            member: "cp-9".to_owned(),
        },
        Error::InvalidRecord {
            revision: 7,
            reason: "is that of two keys",
        },
        Error::Locked {
            path: path.clone(),
            reason: "it was cut off".to_owned(),
        },
        Error::Malformed {
            path: path.clone(),
            reason: "it is too large".to_owned(),
        },
        Error::MixedMembers {
            member: "cp-2".to_owned(),
            other: "cp-1".to_owned(),
        },
        Error::NoBackup {
            place: "memory".to_owned(),
            reasons: vec!["a.db: is damaged".to_owned()],
        },
        Error::NoRoom {
            folder: path.clone(),
            needed: 8,
            available: 7,
        },
        #[cfg(feature = "store")]
        Error::NoStore {
            place: "/mnt/backups".to_owned(),
            reason: "there is no folder",
        },
        Error::NotBuilt {
            what: "s3://bucket/c".to_owned(),
            feature: "s3",
        },
        #[cfg(feature = "store")]
        Error::PruneDenied {
            location: "memory: clusters/c".to_owned(),
            tried: 5,
            source: "403".into(),
        },
        #[cfg(feature = "store")]
        Error::store("memory: a.db", "is away"),
        #[cfg(feature = "store")]
        Error::TooLargeForStore {
            location: "memory: a.db".to_owned(),
            bytes: 8,
            most: 7,
        },
        Error::Node {
            node: "cp-1".to_owned(),
            source: Box::new(StepError::new(
                StepErrorKind::Unavailable,
                migrate_core::ObjectName::cluster("Shell", "ssh"),
                "is away",
            )),
        },
        Error::NoMember {
            nodes: "cp-1, cp-2".to_owned(),
            reasons: vec!["http://b:1 is a learner".to_owned()],
        },
        Error::OtherCluster {
            path: path.clone(),
            found: "0b5c".to_owned(),
            cluster: "77aa".to_owned(),
        },
        Error::OtherKeys {
            node: "cp-1".to_owned(),
            reason: "it has no key".to_owned(),
        },
        Error::NoTrailer { path: path.clone() },
        Error::NotEmpty { path: path.clone() },
        Error::RevisionTooHigh {
            path: path.clone(),
            revision: 7,
        },
        Error::TooLarge {
            path: path.clone(),
            bytes: 8,
            most: 7,
        },
        Error::TooNew {
            path: path.clone(),
            stored: "3.7.0".to_owned(),
            target: "3.6".to_owned(),
        },
        Error::TrialServer {
            path: path.clone(),
            reason: "it ended".to_owned(),
        },
        Error::Untrusted { path },
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

#[test]
fn what_was_compacted_away_is_blamed_on_what_took_the_time() {
    let text = |took: u64, received: u64| {
        let error = Error::Compacted {
            endpoint: "http://a:1".to_owned(),
            revision: 7,
            took: Some(Duration::from_secs(took)),
            received: Some(Duration::from_secs(received)),
        };
        error.to_string()
    };
    let (quick, link, comparison) = (text(3, 2), text(700, 650), text(700, 50));
    for (text, words, not) in [
        (&quick, "see who compacts oftener", "link"),
        (&link, "quicker link", "oftener"),
        (&comparison, "members that do not answer", "link"),
    ] {
        assert!(text.contains(words) && !text.contains(not), "{text}");
        assert!(text.contains("--etcd-compaction-interval"), "{text}");
    }
    assert!(quick.contains("after 2s and compared 1s later"), "{quick}");
}
