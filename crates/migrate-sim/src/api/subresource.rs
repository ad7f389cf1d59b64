//! Subresources other than status and eviction: binding, scale, finalize.

use std::sync::Arc;

use serde_json::{Value, json};

use super::patch::Patch;
use super::request;
use super::write::{Target, write};
use crate::object::{
    Condition, int_at, is_terminating, items_at, node_name, set_at, set_condition, str_at,
};
use crate::store::{ApiError, Object, Resource, Store};

/// Binds a pod to the node that the body names.
///
/// # Errors
/// 409 when the pod is bound or terminating; 422 without a target.
pub(super) fn bind(store: &mut Store, target: Target<'_>, body: &[u8]) -> Result<(), ApiError> {
    let Target {
        resource,
        namespace,
        name,
        dry_run,
        ..
    } = target;
    let binding = request::json(body)?;
    let node = str_at(&binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        return Err(ApiError::invalid(
            resource,
            name,
            "target.name",
            "FieldValueRequired",
            "Required value",
        ));
    }
    let now = store.now_ms();
    store.modify_with(resource, namespace, name, dry_run, |pod| {
        let bound = node_name(pod);
        if !bound.is_empty() {
            let message = format!("pod {name} is already assigned to node {bound:?}");
            return Err(ApiError::conflict(resource, name, message));
        }
        if is_terminating(pod) {
            return Err(ApiError::conflict(
                resource,
                name,
                format!("pod {name} is being deleted, cannot be assigned to a host"),
            ));
        }
        set_at(pod, &["spec", "nodeName"], node);
        set_condition(pod, Condition::new("PodScheduled", "True"), now);
        Ok(())
    })?;
    Ok(())
}

/// The `Scale` of a workload.
pub(super) fn scale_of(object: &Object) -> Value {
    let json = &object.json;
    let selector = json["spec"]["selector"]["matchLabels"]
        .as_object()
        .map(|labels| {
            let pairs: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            pairs.join(",")
        });
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object.name,
            "namespace": object.namespace,
            "uid": object.uid(),
            "resourceVersion": object.rv.to_string(),
            "creationTimestamp": json["metadata"]["creationTimestamp"],
        },
        "spec": { "replicas": int_at(json, &["spec", "replicas"]).unwrap_or_default() },
        "status": {
            "replicas": int_at(json, &["status", "replicas"]).unwrap_or_default(),
            "selector": selector.unwrap_or_default(),
        },
    })
}

/// Writes the replicas of a workload through its `Scale`; `content_type` is
/// that of a patch, none for an update.
///
/// # Errors
/// 409 for an old resourceVersion; 422 for negative replicas; as [`Patch::parse`].
pub(super) fn write_scale(
    store: &mut Store,
    target: Target<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Value, ApiError> {
    let Target {
        resource,
        namespace,
        name,
        ..
    } = target;
    let current = store
        .get(resource, namespace, name)
        .ok_or_else(|| ApiError::not_found(resource, name))?;
    let mut scale = scale_of(current);
    match content_type {
        Some(content_type) => {
            Patch::parse(resource, content_type, body)?.apply(resource, &mut scale)?
        }
        None => scale = request::json(body)?,
    }
    let replicas = int_at(&scale, &["spec", "replicas"]).unwrap_or_default();
    let version = str_at(&scale, &["metadata", "resourceVersion"]).to_owned();
    let object = write(store, target, |object| {
        set_at(object, &["spec", "replicas"], replicas);
        if !version.is_empty() {
            set_at(object, &["metadata", "resourceVersion"], version);
        }
        Ok(())
    })?;
    Ok(scale_of(&object))
}

/// Writes `spec.finalizers` of a namespace.
///
/// # Errors
/// As an update.
pub(super) fn finalize(
    store: &mut Store,
    target: Target<'_>,
    body: &[u8],
) -> Result<Arc<Object>, ApiError> {
    let json = request::object(Resource::NAMESPACES, "", target.name, body)?;
    let finalizers = items_at(&json, &["spec", "finalizers"]).to_vec();
    write(store, target, |namespace| {
        set_at(namespace, &["spec", "finalizers"], finalizers);
        Ok(())
    })
}
