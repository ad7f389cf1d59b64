//! The one error of the program: what it was about, and what to do.

use std::error::Error;
use std::fmt;

/// Shown to the person as `error: OBJECT: MESSAGE`.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure about `object` with its cause.
    pub(crate) fn new(object: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{object}: {cause}"))
    }

    /// A failure that says everything itself.
    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
