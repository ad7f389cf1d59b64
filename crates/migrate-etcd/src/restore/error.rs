//! The error of a restore.

use std::io;
use std::path::PathBuf;

use crate::ReadError;

/// Why a snapshot was not restored.
///
/// Each text names the file, folder or member, and what to do. After every one
/// the data folder is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Asked to stop.
    #[error("the trial was cancelled; nothing of it is left behind, run it again")]
    Cancelled,
    /// The file is no database of etcd, or a damaged one.
    #[error(
        "{}: page {page}: {what}; the snapshot is damaged, restore another one",
        path.display()
    )]
    Damaged {
        /// Snapshot.
        path: PathBuf,
        /// Page of the database, 0 if it is none in particular.
        page: u64,
        /// What is wrong there.
        what: String,
    },
    /// The data folder holds something already.
    #[error(
        "{}: is not empty, and nothing is overwritten; stop etcd, move the folder away, and name an \
         empty one",
        path.display()
    )]
    DataDirNotEmpty {
        /// Data folder, or what is in it.
        path: PathBuf,
    },
    /// Another restore is writing the data folder.
    #[error("{}: another restore is writing it; wait for its end", path.display())]
    DataDirBusy {
        /// Data folder.
        path: PathBuf,
    },
    /// What was restored is not what the snapshot holds.
    #[error(
        "{}: its {what} is {snapshot}, but {restored} after it was restored; do not rely on this \
         backup, take another one, and from another member",
        path.display()
    )]
    Differs {
        /// Snapshot.
        path: PathBuf,
        /// What was compared.
        what: String,
        /// Of the snapshot, or of the live members.
        snapshot: u64,
        /// Of the restored data.
        restored: u64,
    },
    /// Reading or writing a file failed.
    #[error("{}: {source}; see to its permissions and to free space, then restore again", path.display())]
    File {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The bytes do not hash to the trailer, or to what was expected.
    #[error(
        "{}: its SHA-256 is not {expected}; the file was damaged or changed after it was saved, \
         restore another one",
        path.display()
    )]
    HashMismatch {
        /// Snapshot.
        path: PathBuf,
        /// What it should be.
        expected: String,
    },
    /// The new membership is not one.
    #[error("{what}: {reason}; give NAME=http://HOST:PEERPORT for each voting member")]
    Membership {
        /// Member or address.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Members of one cluster were restored from different data.
    #[error(
        "{member}: was restored from another snapshot or to another revision than {other}; restore \
         every member from the same file with the same options"
    )]
    MixedMembers {
        /// Member.
        member: String,
        /// The first member.
        other: String,
    },
    /// The snapshot has no trailer to prove it by.
    #[error(
        "{}: has no SHA-256 at its end, so it is no snapshot, or cut off; restore a whole one, or \
         say that a copy of a data folder's db is meant",
        path.display()
    )]
    NoTrailer {
        /// Snapshot.
        path: PathBuf,
    },
    /// There is no room for the revisions that are skipped.
    #[error("{}: revision {revision} cannot be raised by so much; ask for less", path.display())]
    Revision {
        /// Snapshot.
        path: PathBuf,
        /// Its last revision.
        revision: i64,
    },
    /// The server of a trial does not do.
    #[error(
        "{}: {reason}; restore the snapshot into an empty folder and start this etcd on it by hand \
         to see what it logs",
        path.display()
    )]
    Server {
        /// Program.
        path: PathBuf,
        /// What it did.
        reason: String,
    },
    /// The server that shall run on the data is too old for it.
    #[error(
        "{}: was written by etcd {stored}, and etcd {target} refuses such data; run {stored} or \
         newer on it, or restore an older backup",
        path.display()
    )]
    TooNew {
        /// Snapshot.
        path: PathBuf,
        /// Version of the data.
        stored: String,
        /// Version of the server.
        target: String,
    },
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        let damaged = |path, page, what| Self::Damaged { path, page, what };
        match error {
            ReadError::File { path, source } => Self::File { path, source },
            ReadError::NoMeta { path } => {
                damaged(path, 0, "neither of its meta pages is valid".to_owned())
            }
            ReadError::Damaged {
                path, page, fault, ..
            } => damaged(path, page, fault.to_string()),
            ReadError::Checksum { path } => Self::HashMismatch {
                path,
                expected: "the one at its end".to_owned(),
            },
        }
    }
}

impl RestoreError {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        Self::File { path, source }
    }
}
