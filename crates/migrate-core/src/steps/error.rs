//! The error of a step.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::ObjectName;

/// Why a step failed, in terms of what a caller can do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum StepErrorKind {
    /// Asked to stop.
    Cancelled,
    /// A newer holder exists, or the cluster is another one: start over.
    Conflict,
    /// A deadline passed.
    Deadline,
    /// Not allowed: the message names verb, resource and the rule to add.
    Forbidden,
    /// The input is wrong: correct it.
    Invalid,
    /// Something failed that trying again will not cure.
    Permanent,
    /// Out of reach or busy: trying again may help.
    Unavailable,
}

/// A step's error: kind, the object it is about, what happened and the cure.
#[derive(Debug, thiserror::Error)]
#[error("{object}: {message}")]
#[non_exhaustive]
pub struct StepError {
    /// What a caller can do.
    pub kind: StepErrorKind,
    /// What it is about.
    pub object: ObjectName,
    /// What happened and what to do about it.
    pub message: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// An error without a further cause.
    pub fn new(kind: StepErrorKind, object: ObjectName, message: impl Into<String>) -> Self {
        Self {
            kind,
            object,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StepErrorKind::Unavailable | StepErrorKind::Deadline
        )
    }
}
