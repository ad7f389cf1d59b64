//! Workload controllers: the pods that objects ask for.

pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod job;
pub(crate) mod replicaset;
pub(crate) mod statefulset;

use std::sync::Arc;

use serde_json::{Value, json};

use super::context::Context;
use super::settings::short_hash;
use crate::object::{
    at, condition, int_at, is_finished, is_ready, is_terminating, owner_reference, parse_timestamp,
    set_at, str_at,
};
use crate::store::{Object, Resource};

/// Pods of one owner that are neither finished nor on their way out.
fn active_pods(cx: &Context<'_>, owner_uid: &str) -> Vec<Arc<Object>> {
    let mut pods = cx.pods_of(owner_uid);
    pods.retain(|pod| !is_terminating(&pod.json) && !is_finished(&pod.json));
    pods
}

/// A pod from the template of `owner`; the caller names it.
fn pod_from_template(owner: &Object) -> Value {
    let template = &owner.json["spec"]["template"];
    let metadata = |field: &str| {
        at(template, &["metadata", field])
            .cloned()
            .unwrap_or_else(|| json!({}))
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": owner.namespace,
            "labels": metadata("labels"),
            "annotations": metadata("annotations"),
            "ownerReferences": [owner_reference(&owner.resource.api_version(), owner.resource.kind, &owner.json)],
        },
        "spec": template["spec"],
    })
}

/// The name of one version of a pod template.
fn template_hash(owner: &Object) -> String {
    short_hash(&owner.json["spec"]["template"].to_string())
}

/// The ControllerRevision of the template that `owner` has, where the cluster was built
/// with one: no controller here writes any.
fn recorded(cx: &Context<'_>, owner: &Object) -> Option<Arc<Object>> {
    let template = &owner.json["spec"]["template"];
    let revisions = cx
        .store
        .dependents(owner.uid())
        .filter(|object| object.resource == Resource::CONTROLLER_REVISIONS)
        .filter(|object| is_same_template(&object.json["data"]["spec"]["template"], template));
    let newest = revisions.max_by_key(|object| int_at(&object.json, &["revision"]));
    newest.cloned()
}

/// Whether two templates are one, whoever named their versions.
fn is_same_template(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) => fields
            .keys()
            .chain(others.keys())
            .filter(|key| !matches!(key.as_str(), "$patch" | "pod-template-hash"))
            // A field that is absent is null.
            .all(|key| is_same_template(&one[key.as_str()], &other[key.as_str()])),
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len() && pairs.all(|(one, other)| is_same_template(one, other))
        }
        _ => one == other || (is_nothing(one) && is_nothing(other)),
    }
}

/// Absent, or empty, which API servers do not tell apart.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// `spec.replicas`, 1 when absent.
pub(crate) fn replicas_of(object: &Value) -> i64 {
    int_at(object, &["spec", "replicas"]).unwrap_or(1)
}

/// When a ready pod counts as available; `None` while it is not ready.
fn available_at(pod: &Value, min_ready_seconds: i64) -> Option<u64> {
    if !is_ready(pod) {
        return None;
    }
    let since = parse_timestamp(str_at(condition(pod, "Ready")?, &["lastTransitionTime"]))
        .unwrap_or_default();
    Some(since + u64::try_from(min_ready_seconds).unwrap_or_default() * 1000)
}

/// How many pods are ready, how many of them available, and when the next one will be.
struct Readiness {
    ready: i64,
    available: i64,
    next_at: Option<u64>,
}

impl Readiness {
    fn of<'a>(pods: impl IntoIterator<Item = &'a Value>, owner: &Value, now: u64) -> Self {
        let min_ready_seconds = int_at(owner, &["spec", "minReadySeconds"]).unwrap_or_default();
        let mut readiness = Self {
            ready: 0,
            available: 0,
            next_at: None,
        };
        for at in pods
            .into_iter()
            .filter_map(|pod| available_at(pod, min_ready_seconds))
        {
            readiness.ready += 1;
            if at <= now {
                readiness.available += 1;
            } else {
                readiness.next_at = Some(readiness.next_at.unwrap_or(at).min(at));
            }
        }
        readiness
    }
}

/// Writes counts into a status.
fn set_counts(object: &mut Value, counts: &[(&str, i64)]) {
    for (field, count) in counts {
        set_at(object, &["status", field], *count);
    }
}
