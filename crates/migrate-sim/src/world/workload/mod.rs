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
use crate::store::Object;

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
