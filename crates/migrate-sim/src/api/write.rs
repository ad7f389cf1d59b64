//! Create, update, patch and delete.

use std::sync::Arc;

use serde_json::{Value, json};

use super::filter::Filter;
use super::patch::Patch;
use super::query::Query;
use super::{request, validate};
use crate::object::{at, remove_at, set_at, str_at};
use crate::store::{ApiError, Deleted, Object, Resource, Store};

/// The object that a write is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) resource: &'static Resource,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Whether the `/status` subresource is written.
    pub(super) status: bool,
    pub(super) dry_run: bool,
}

/// Creates an object.
pub(super) fn create(
    store: &mut Store,
    target: Target<'_>,
    body: &[u8],
) -> Result<Arc<Object>, ApiError> {
    let resource = target.resource;
    let mut json = request::object(resource, target.namespace, target.name, body)?;
    if !str_at(&json, &["metadata", "resourceVersion"]).is_empty() {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if resource.has_status && !keeps_status_on_create(resource) {
        remove_at(&mut json, &["status"]);
    }
    validate::new(resource, &json)?;
    if resource == Resource::SERVICES && at(&json, &["spec", "clusterIP"]).is_none() {
        let taken = store.list(Resource::SERVICES, None).count();
        set_at(&mut json, &["spec", "clusterIP"], cluster_address(taken));
    }
    store.create_with(resource, json, target.dry_run)
}

/// An address of a Service's own, where `taken` have been given away.
fn cluster_address(taken: usize) -> String {
    let [.., c, d] = taken.saturating_add(2).to_be_bytes();
    format!("10.96.{c}.{d}")
}

/// Replaces an object; true if it was created instead.
pub(super) fn update(
    store: &mut Store,
    target: Target<'_>,
    body: &[u8],
) -> Result<(Arc<Object>, bool), ApiError> {
    let Target {
        resource,
        namespace,
        name,
        ..
    } = target;
    let json = request::object(resource, namespace, name, body)?;
    if store.get(resource, namespace, name).is_none()
        && creates_on_update(resource)
        && !target.status
    {
        let mut json = json;
        remove_at(&mut json, &["metadata", "resourceVersion"]);
        remove_at(&mut json, &["metadata", "uid"]);
        validate::new(resource, &json)?;
        return store
            .create_with(resource, json, target.dry_run)
            .map(|object| (object, true));
    }
    if str_at(&json, &["metadata", "resourceVersion"]).is_empty() && needs_version(resource) {
        let message = "Invalid value: 0: must be specified for an update";
        return Err(ApiError::invalid(
            resource,
            name,
            "metadata.resourceVersion",
            "FieldValueInvalid",
            message,
        ));
    }
    write(store, target, |object| {
        *object = json;
        Ok(())
    })
    .map(|object| (object, false))
}

/// Patches an object.
pub(super) fn patch(
    store: &mut Store,
    target: Target<'_>,
    content_type: &str,
    body: &[u8],
) -> Result<Arc<Object>, ApiError> {
    let patch = Patch::parse(target.resource, content_type, body)?;
    write(store, target, |object| patch.apply(target.resource, object))
}

/// Changes an object with the rules of a client's write: version and uid must
/// fit, status and the rest are written apart, deletion cannot be undone.
pub(super) fn write(
    store: &mut Store,
    target: Target<'_>,
    change: impl FnOnce(&mut Value) -> Result<(), ApiError>,
) -> Result<Arc<Object>, ApiError> {
    let Target {
        resource,
        namespace,
        name,
        status,
        dry_run,
    } = target;
    store.modify_with(resource, namespace, name, dry_run, |object| {
        let old = object.clone();
        change(object)?;
        check_version(resource, name, &old, object)?;
        if status {
            let written = object.get("status").cloned();
            let metadata = object["metadata"].clone();
            *object = old.clone();
            copy(object, "status", written.as_ref());
            if [Resource::PODS, Resource::NODES].contains(&resource) {
                set_at(object, &["metadata"], metadata);
            }
        } else if resource.has_status {
            copy(object, "status", old.get("status"));
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            match at(&old, &["metadata", field]) {
                Some(value) => set_at(object, &["metadata", field], value.clone()),
                None => remove_at(object, &["metadata", field]),
            }
        }
        if status {
            Ok(())
        } else {
            validate::update(resource, &old, object)
        }
    })
}

/// Deletes an object; what the server answers with.
pub(super) fn delete(
    store: &mut Store,
    target: Target<'_>,
    query: &Query,
    body: &[u8],
) -> Result<Value, ApiError> {
    let options = request::deletion(body, query)?;
    let Target {
        resource,
        namespace,
        name,
        ..
    } = target;
    Ok(match store.delete(resource, namespace, name, &options)? {
        Deleted::Gone(object) if resource != Resource::PODS => {
            let mut details =
                json!({ "name": object.name, "kind": resource.plural, "uid": object.uid() });
            if !resource.group.is_empty() {
                details["group"] = resource.group.into();
            }
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
        }
        deleted => deleted.object().json.clone(),
    })
}

/// Deletes every object of a collection that the selectors match; answers with them.
pub(super) fn delete_collection(
    store: &mut Store,
    resource: &'static Resource,
    namespace: Option<&str>,
    query: &Query,
    body: &[u8],
) -> Result<Value, ApiError> {
    let options = request::deletion(body, query)?;
    let filter = Filter::parse(resource, &query.label_selector, &query.field_selector)?;
    let found: Vec<Arc<Object>> = store
        .list(resource, namespace)
        .filter(|object| filter.matches(object))
        .cloned()
        .collect();
    let mut items = Vec::new();
    for object in found {
        let deleted = store.delete(resource, &object.namespace, &object.name, &options)?;
        items.push(deleted.object().json.clone());
    }
    Ok(json!({
        "kind": format!("{}List", resource.kind),
        "apiVersion": resource.api_version(),
        "metadata": { "resourceVersion": store.resource_version().to_string() },
        "items": items,
    }))
}

fn check_version(
    resource: &'static Resource,
    name: &str,
    old: &Value,
    new: &Value,
) -> Result<(), ApiError> {
    let differs = |field: &str| {
        let path = ["metadata", field];
        !str_at(new, &path).is_empty() && str_at(new, &path) != str_at(old, &path)
    };
    if differs("uid") {
        let (new, old) = (
            str_at(new, &["metadata", "uid"]),
            str_at(old, &["metadata", "uid"]),
        );
        let message =
            format!("Precondition failed: UID in precondition: {new}, UID in object meta: {old}");
        return Err(ApiError::conflict(resource, name, message));
    }
    if differs("resourceVersion") {
        let message = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(ApiError::conflict(resource, name, message));
    }
    Ok(())
}

fn copy(object: &mut Value, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => set_at(object, &[field], value.clone()),
        None => remove_at(object, &[field]),
    }
}

/// Kinds whose creator may report a status at once.
fn keeps_status_on_create(resource: &'static Resource) -> bool {
    [Resource::NODES, Resource::SERVICES].contains(&resource)
}

/// Kinds for which an update without a resourceVersion is refused.
fn needs_version(resource: &'static Resource) -> bool {
    [
        Resource::LEASES,
        Resource::POD_DISRUPTION_BUDGETS,
        Resource::CUSTOM_RESOURCE_DEFINITIONS,
        Resource::VALIDATING_WEBHOOKS,
        Resource::MUTATING_WEBHOOKS,
        Resource::API_SERVICES,
        Resource::VOLUME_ATTACHMENTS,
    ]
    .contains(&resource)
        || resource.is_custom()
}

/// Kinds for which an update of a missing object creates it.
fn creates_on_update(resource: &'static Resource) -> bool {
    [
        Resource::LEASES,
        Resource::EVENTS,
        Resource::EVENTS_V1,
        Resource::ENDPOINTS,
        Resource::SERVICES,
    ]
    .contains(&resource)
}
