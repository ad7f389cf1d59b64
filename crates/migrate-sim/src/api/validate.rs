//! Rules that an object must pass before it is written.
//!
//! Not the whole validation of the real server: what clients of an upgrade
//! can get wrong, and what controllers rely on.

use serde_json::Value;

use crate::object::{at, int_at, items_at, labels, name, remove_at, set_at, str_at};
use crate::selector::Selector;
use crate::store::{ApiError, Resource};

/// Checks a new object.
///
/// # Errors
/// 422 that names the field.
pub(super) fn new(resource: &'static Resource, object: &Value) -> Result<(), ApiError> {
    name_is_valid(resource, object)?;
    spec(resource, object)
}

/// Checks a new version of an object.
///
/// # Errors
/// 422 that names the field.
pub(super) fn update(
    resource: &'static Resource,
    old: &Value,
    new: &Value,
) -> Result<(), ApiError> {
    if resource == Resource::PODS && updatable_pod(old) != updatable_pod(new) {
        let message = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                       `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
                       (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                       (allow it to be set to 1 if it was previously negative)";
        return Err(ApiError::invalid(
            resource,
            name(new),
            "spec",
            "FieldValueForbidden",
            message,
        ));
    }
    let selector = ["spec", "selector"];
    if is_workload(resource) && at(old, &selector) != at(new, &selector) {
        let message = "Invalid value: field is immutable";
        return Err(ApiError::invalid(
            resource,
            name(new),
            "spec.selector",
            "FieldValueInvalid",
            message,
        ));
    }
    spec(resource, new)
}

fn spec(resource: &'static Resource, object: &Value) -> Result<(), ApiError> {
    let fail = |field: &str, reason: &str, message: String| {
        Err(ApiError::invalid(
            resource,
            name(object),
            field,
            reason,
            message,
        ))
    };
    if resource == Resource::PODS && items_at(object, &["spec", "containers"]).is_empty() {
        return fail(
            "spec.containers",
            "FieldValueRequired",
            "Required value".to_owned(),
        );
    }
    if is_workload(resource) {
        let selector = Selector::parse(at(object, &["spec", "selector"]));
        if !selector.matches(labels(&object["spec"]["template"])) {
            let message = "Invalid value: `selector` does not match template `labels`".to_owned();
            return fail(
                "spec.template.metadata.labels",
                "FieldValueInvalid",
                message,
            );
        }
    }
    for field in [
        "replicas",
        "parallelism",
        "completions",
        "leaseDurationSeconds",
        "leaseTransitions",
    ] {
        if let Some(count) = int_at(object, &["spec", field]).filter(|count| *count < 0) {
            let message = format!("Invalid value: {count}: must be greater than or equal to 0");
            return fail(&format!("spec.{field}"), "FieldValueInvalid", message);
        }
    }
    if resource == Resource::POD_DISRUPTION_BUDGETS {
        let (least, most) = (
            at(object, &["spec", "minAvailable"]),
            at(object, &["spec", "maxUnavailable"]),
        );
        if least.is_some() && most.is_some() {
            let message =
                "Invalid value: minAvailable and maxUnavailable cannot be both set".to_owned();
            return fail("spec", "FieldValueInvalid", message);
        }
        for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
            if let Some(value) = value.filter(|value| !is_count_or_percentage(value)) {
                let message = format!(
                    "Invalid value: {value}: a valid percent string must be a numeric string \
                                       followed by an ending '%', a number must not be negative"
                );
                return fail(&format!("spec.{field}"), "FieldValueInvalid", message);
            }
        }
    }
    Ok(())
}

fn is_count_or_percentage(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_some(),
        Value::String(text) => text
            .strip_suffix('%')
            .is_some_and(|n| n.parse::<u8>().is_ok_and(|percent| percent <= 100)),
        _ => false,
    }
}

fn is_workload(resource: &'static Resource) -> bool {
    [
        Resource::DEPLOYMENTS,
        Resource::REPLICA_SETS,
        Resource::STATEFUL_SETS,
        Resource::DAEMON_SETS,
    ]
    .contains(&resource)
}

/// The spec of a pod without the fields that an update may change.
fn updatable_pod(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in [
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
        "schedulingGates",
    ] {
        remove_at(&mut spec, &[field]);
    }
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            set_at(container, &["image"], "");
        }
    }
    spec
}

fn name_is_valid(resource: &'static Resource, object: &Value) -> Result<(), ApiError> {
    let name = name(object);
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let subdomain = name.len() <= 253
        && name.split('.').all(|label| {
            edge(label.chars().next())
                && edge(label.chars().last())
                && label
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        });
    // Role names may be any path segment.
    let anything = resource.group == "rbac.authorization.k8s.io" && !name.contains(['/', '%']);
    if subdomain || anything || str_at(object, &["metadata", "generateName"]).len() > name.len() {
        return Ok(());
    }
    let message = format!(
        "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
         characters, '-' or '.', and must start and end with an alphanumeric character"
    );
    Err(ApiError::invalid(
        resource,
        name,
        "metadata.name",
        "FieldValueInvalid",
        message,
    ))
}
