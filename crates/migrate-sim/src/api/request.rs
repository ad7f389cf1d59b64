//! Bodies of write requests.

use serde_json::Value;

use super::query::{Query, is_dry_run};
use crate::object::{int_at, items_at, name, namespace, set_at, str_at};
use crate::store::{ApiError, DeleteOptions, Propagation, Resource};

/// Reads an object of a kind that is sent to a collection or to a name.
///
/// # Errors
/// 400 for a body that is no JSON object of this kind, or that names another
/// namespace or name than the path.
pub(super) fn object(
    resource: &'static Resource,
    path_namespace: &str,
    path_name: &str,
    body: &[u8],
) -> Result<Value, ApiError> {
    let mut json = json(body)?;
    let (version, kind) = (str_at(&json, &["apiVersion"]), str_at(&json, &["kind"]));
    if !(kind.is_empty() || kind == resource.kind)
        || !(version.is_empty() || version == resource.api_version())
    {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized: {kind} in version {version} cannot be handled as a {} in version {}",
            resource.kind,
            resource.api_version(),
        )));
    }
    if resource.namespaced {
        if !["", path_namespace].contains(&namespace(&json)) {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(message));
        }
        set_at(&mut json, &["metadata", "namespace"], path_namespace);
    }
    if !path_name.is_empty() && name(&json) != path_name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({path_name})",
            name(&json),
        )));
    }
    Ok(json)
}

/// Reads any JSON object.
///
/// # Errors
/// 400 for anything else.
pub(super) fn json(body: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::bad_request("the body is no JSON object"))
}

/// Reads a `DeleteOptions` object; null is the empty one.
///
/// # Errors
/// 422 for an unknown `dryRun` value or propagation policy.
pub(super) fn delete_options(options: &Value) -> Result<DeleteOptions, ApiError> {
    let text =
        |path: &[&str]| Some(str_at(options, path).to_owned()).filter(|text| !text.is_empty());
    let dry_run: Vec<String> = items_at(options, &["dryRun"])
        .iter()
        .map(|v| v.as_str().unwrap_or_default().to_owned())
        .collect();
    let orphan = (options["orphanDependents"] == true).then_some(Propagation::Orphan);
    let policy = text(&["propagationPolicy"])
        .map(|policy| propagation(&policy))
        .transpose()?;
    Ok(DeleteOptions {
        grace_period_seconds: int_at(options, &["gracePeriodSeconds"]),
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
        propagation: policy.or(orphan),
        dry_run: is_dry_run(&dry_run)?,
    })
}

/// The options of a deletion from its body, or from the query where there is none.
///
/// # Errors
/// As [`delete_options`]; 400 for a body that is no JSON.
pub(super) fn deletion(body: &[u8], query: &Query) -> Result<DeleteOptions, ApiError> {
    let mut read = if body.is_empty() {
        DeleteOptions::default()
    } else {
        delete_options(&json(body)?)?
    };
    read.dry_run |= query.is_dry_run()?;
    read.grace_period_seconds = read.grace_period_seconds.or(query.grace_period_seconds);
    if let (None, Some(policy)) = (read.propagation, &query.propagation_policy) {
        read.propagation = Some(propagation(policy)?);
    }
    Ok(read)
}

fn propagation(text: &str) -> Result<Propagation, ApiError> {
    match text {
        "Orphan" => Ok(Propagation::Orphan),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        other => Err(ApiError::Other {
            code: 422,
            reason: "Invalid".to_owned(),
            message: format!(
                "DeleteOptions is invalid: propagationPolicy: Unsupported value: {other:?}: \
                 supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            ),
            retry_after_seconds: None,
        }),
    }
}
