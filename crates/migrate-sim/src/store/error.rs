//! The answers of the API server that are not a success.

use serde_json::{Map, Value, json};

use super::Resource;

/// Why the API server refused or could not do something.
///
/// [`ApiError::status`] is the `Status` body that goes over the wire; code,
/// reason, message and details are those of the real API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// 404: no such object.
    #[error("{} not found", of(.resource, .name))]
    NotFound {
        /// Kind of the object.
        resource: &'static Resource,
        /// Name that was asked for.
        name: String,
    },
    /// 404: no such path.
    #[error("the server could not find the requested resource")]
    UnknownPath,
    /// 409: an object of this name exists.
    #[error("{} already exists", of(.resource, .name))]
    AlreadyExists {
        /// Kind of the object.
        resource: &'static Resource,
        /// Name that is taken.
        name: String,
    },
    /// 409: a precondition on uid or resourceVersion does not hold.
    #[error("Operation cannot be fulfilled on {}: {message}", of(.resource, .name))]
    Conflict {
        /// Kind of the object.
        resource: &'static Resource,
        /// Name of the object.
        name: String,
        /// Which precondition failed.
        message: String,
    },
    /// 422: the object does not pass validation.
    #[error("{} {name:?} is invalid: {}", .resource.kind, join(.causes))]
    Invalid {
        /// Kind of the object.
        resource: &'static Resource,
        /// Name of the object, may be empty.
        name: String,
        /// One entry per wrong field.
        causes: Vec<Cause>,
    },
    /// 400: the request makes no sense.
    #[error("{message}")]
    BadRequest {
        /// What is wrong with it.
        message: String,
    },
    /// 403: refused by an admission rule or the disruption budget.
    #[error("{} is forbidden: {message}", of(.resource, .name))]
    Forbidden {
        /// Kind of the object.
        resource: &'static Resource,
        /// Name of the object.
        name: String,
        /// Why.
        message: String,
        /// The cause in the details, if the server names one.
        cause: Option<Box<Cause>>,
    },
    /// 410: the resourceVersion is older than the kept history.
    #[error("{message}")]
    Expired {
        /// What was too old.
        message: String,
    },
    /// 429: a disruption budget does not allow the eviction.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    DisruptionBudget {
        /// Text of the `DisruptionBudget` cause; the only place with the budget's name.
        cause: String,
        /// Seconds in the `Retry-After` header; none when the budget is exhausted.
        retry_after_seconds: Option<u32>,
    },
    /// 405: the path does not know this method.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 415: the body's media type is not understood.
    #[error("{message}")]
    UnsupportedMediaType {
        /// Which type was sent and what would be understood.
        message: String,
    },
    /// Any other code, with the reason as given (may be empty).
    #[error("{message}")]
    Other {
        /// HTTP status code.
        code: u16,
        /// Machine-readable reason; an empty one is left out of the body.
        reason: String,
        /// Text for people.
        message: String,
        /// Seconds in the `Retry-After` header.
        retry_after_seconds: Option<u32>,
    },
}

/// One entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable kind of the cause, such as `FieldValueRequired`.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// Path of the field, may be empty.
    pub field: String,
}

impl ApiError {
    /// 404 for one object.
    pub fn not_found(resource: &'static Resource, name: &str) -> Self {
        Self::NotFound {
            resource,
            name: name.to_owned(),
        }
    }

    /// 409 for one object.
    pub fn conflict(resource: &'static Resource, name: &str, message: impl Into<String>) -> Self {
        Self::Conflict {
            resource,
            name: name.to_owned(),
            message: message.into(),
        }
    }

    /// 422 for one field; `reason` is a cause such as `FieldValueInvalid`.
    pub fn invalid(
        resource: &'static Resource,
        name: &str,
        field: &str,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            resource,
            name: name.to_owned(),
            causes: vec![Cause {
                reason: reason.to_owned(),
                message: message.into(),
                field: field.to_owned(),
            }],
        }
    }

    /// 400 with a text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest {
            message: message.into(),
        }
    }

    /// HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::BadRequest { .. } => 400,
            Self::Forbidden { .. } => 403,
            Self::NotFound { .. } | Self::UnknownPath => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Expired { .. } => 410,
            Self::UnsupportedMediaType { .. } => 415,
            Self::Invalid { .. } => 422,
            Self::DisruptionBudget { .. } => 429,
            Self::Other { code, .. } => *code,
        }
    }

    /// Machine-readable reason; empty where the real server gives none.
    pub fn reason(&self) -> &str {
        match self {
            Self::BadRequest { .. } => "BadRequest",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound { .. } | Self::UnknownPath => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Expired { .. } => "Expired",
            Self::UnsupportedMediaType { .. } => "UnsupportedMediaType",
            Self::Invalid { .. } => "Invalid",
            Self::DisruptionBudget { .. } => "TooManyRequests",
            Self::Other { reason, .. } => reason,
        }
    }

    /// Seconds in the `Retry-After` header, if there is one.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::DisruptionBudget {
                retry_after_seconds,
                ..
            }
            | Self::Other {
                retry_after_seconds,
                ..
            } => *retry_after_seconds,
            _ => None,
        }
    }

    /// The `Status` object that the server answers with.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "code": self.code(),
        });
        if !self.reason().is_empty() {
            status["reason"] = self.reason().into();
        }
        let details = self.details();
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. }
            | Self::Forbidden { resource, name, .. } => {
                name_object(&mut details, resource, resource.plural, name)
            }
            Self::Invalid { resource, name, .. } => {
                name_object(&mut details, resource, resource.kind, name)
            }
            _ => {}
        }
        let causes: Vec<Value> = match self {
            Self::Invalid { causes, .. } => causes.iter().map(Cause::json).collect(),
            Self::Forbidden { cause, .. } => cause.iter().map(|cause| cause.json()).collect(),
            Self::DisruptionBudget { cause, .. } => {
                vec![json!({ "reason": "DisruptionBudget", "message": cause })]
            }
            _ => Vec::new(),
        };
        if !causes.is_empty() {
            details.insert("causes".into(), causes.into());
        }
        if let Some(seconds) = self.retry_after_seconds() {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        details
    }
}

impl Cause {
    fn json(&self) -> Value {
        let mut cause = json!({ "reason": self.reason, "message": self.message });
        if !self.field.is_empty() {
            cause["field"] = self.field.as_str().into();
        }
        cause
    }
}

fn name_object(
    details: &mut Map<String, Value>,
    resource: &'static Resource,
    kind: &str,
    name: &str,
) {
    if !name.is_empty() {
        details.insert("name".into(), name.into());
    }
    if !resource.group.is_empty() {
        details.insert("group".into(), resource.group.into());
    }
    details.insert("kind".into(), kind.into());
}

/// `pods "web-0"`, or `pods` for a collection.
fn of(resource: &'static Resource, name: &str) -> String {
    if name.is_empty() {
        resource.qualified()
    } else {
        format!("{} {name:?}", resource.qualified())
    }
}

fn join(causes: &[Cause]) -> String {
    let texts: Vec<String> = causes
        .iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect();
    if texts.len() == 1 {
        texts.concat()
    } else {
        format!("[{}]", texts.join(", "))
    }
}
