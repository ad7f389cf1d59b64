//! Documents that are kept and read again, perhaps by another release.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is not the JSON form of such a document.
    #[error("this is not a {what}: {source}; give one as it was written, whole and unchanged")]
    Invalid {
        /// What it should have been.
        what: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A newer release wrote it. What this one does not know of, it would drop.
    #[error(
        "the {what} has schema {found} and this release knows up to {known}: use the release that \
         wrote it, or make it anew"
    )]
    Newer {
        /// What was read.
        what: &'static str,
        /// Its schema.
        found: u32,
        /// The newest schema that this release reads.
        known: u32,
    },
}

/// What every schema has.
#[derive(Deserialize)]
struct AnySchema {
    schema: u32,
}

impl DocumentError {
    /// Refuses a document that is newer than what is `known`.
    ///
    /// # Errors
    /// [`Newer`](Self::Newer).
    pub const fn unless_known(what: &'static str, found: u32, known: u32) -> Result<(), Self> {
        match found > known {
            true => Err(Self::Newer { what, found, known }),
            false => Ok(()),
        }
    }

    /// Reads a document with a field `schema` that is at most `known`. The schema
    /// is looked at first: what else a newer document holds may not be readable.
    ///
    /// # Errors
    /// [`Newer`](Self::Newer) or [`Invalid`](Self::Invalid).
    pub fn read<T: DeserializeOwned>(
        what: &'static str,
        known: u32,
        json: &str,
    ) -> Result<T, Self> {
        let invalid = |source| Self::Invalid { what, source };
        let AnySchema { schema } = serde_json::from_str(json).map_err(invalid)?;
        Self::unless_known(what, schema, known)?;
        serde_json::from_str(json).map_err(invalid)
    }
}
