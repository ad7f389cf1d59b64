//! The patch formats of the API server.

mod json_patch;
mod merge;
mod strategic;

use serde_json::Value;

use crate::store::{ApiError, Resource};

/// A parsed patch.
#[derive(Debug)]
pub(super) enum Patch {
    /// JSON merge patch (RFC 7386).
    Merge(Value),
    /// Kubernetes strategic merge patch.
    Strategic(Value),
    /// JSON patch (RFC 6902).
    Json(Vec<json_patch::Operation>),
}

impl Patch {
    /// Reads a body by its `Content-Type`.
    ///
    /// # Errors
    /// 415 for another type, among them server-side apply, and for a strategic
    /// patch of a custom resource; 400 for a malformed body.
    pub(super) fn parse(
        resource: &'static Resource,
        content_type: &str,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let malformed = |error: serde_json::Error| {
            ApiError::bad_request(format!("error decoding patch: {error}"))
        };
        match media_type {
            "application/merge-patch+json" => Ok(Self::Merge(
                serde_json::from_slice(body).map_err(malformed)?,
            )),
            "application/strategic-merge-patch+json" if !resource.is_custom() => Ok(
                Self::Strategic(serde_json::from_slice(body).map_err(malformed)?),
            ),
            "application/json-patch+json" => {
                Ok(Self::Json(serde_json::from_slice(body).map_err(malformed)?))
            }
            other => Err(ApiError::UnsupportedMediaType {
                message: format!(
                    "the body of the request was in an unknown format - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, \
                     application/strategic-merge-patch+json (got {other:?}; the embedded cluster has no \
                     server-side apply, and strategic merge for built-in kinds only)"
                ),
            }),
        }
    }

    /// Changes an object.
    ///
    /// # Errors
    /// 422 for a JSON patch whose test fails or whose path is not there.
    pub(super) fn apply(
        &self,
        resource: &'static Resource,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        match self {
            Self::Merge(patch) => merge::apply(object, patch),
            Self::Strategic(patch) => strategic::apply(object, patch),
            Self::Json(operations) => {
                return json_patch::apply(object, operations).map_err(|message| ApiError::Other {
                    code: 422,
                    reason: "Invalid".to_owned(),
                    message: format!(
                        "the server rejected our request due to an error in our request: {message}"
                    ),
                    retry_after_seconds: None,
                });
            }
        }
        if object.is_object() {
            return Ok(());
        }
        Err(ApiError::bad_request(format!(
            "the patch leaves no {}",
            resource.kind
        )))
    }
}
