//! The error of a manifest.

use std::io;
use std::path::PathBuf;

/// Why a backup or its manifest is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The backup is not the one that the manifest is about.
    #[error(
        "{}: is not the file that its manifest was signed for; it was changed or exchanged, do \
         not restore it",
        path.display()
    )]
    Changed {
        /// Backup.
        path: PathBuf,
    },
    /// Reading a file failed.
    #[error("{}: {source}; see that backup and manifest lie beside each other and can be read", path.display())]
    File {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A key is none.
    #[error("{what} is no Ed25519 key; give 32 bytes, in hex if it is the public one")]
    Key {
        /// What was given.
        what: String,
    },
    /// The file is no manifest, or of a newer program.
    #[error("{}: {reason}; name a manifest that this version has written", path.display())]
    Malformed {
        /// Manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// None of the trusted keys has signed it as it is.
    #[error(
        "{}: its signature is by none of the trusted keys, or it was changed since; do not restore \
         this backup unless you know why",
        path.display()
    )]
    Untrusted {
        /// Manifest.
        path: PathBuf,
    },
    /// Writing it failed.
    #[error(transparent)]
    Write(#[from] crate::Error),
}
