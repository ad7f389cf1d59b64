//! What a kubelet writes into the status of a pod.

use serde_json::{Value, json};

use crate::object::{Condition, items_at, set_at, set_condition, str_at, timestamp, uid};

/// Addresses of a pod and of its node.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) pod: String,
}

/// The containers run, nothing is ready yet.
pub(super) fn running(pod: &mut Value, address: &Address, now: u64) {
    set_at(pod, &["status", "phase"], "Running");
    set_at(pod, &["status", "startTime"], timestamp(now));
    if !address.host.is_empty() {
        set_at(pod, &["status", "hostIP"], address.host.as_str());
        set_at(pod, &["status", "hostIPs"], json!([{"ip": address.host}]));
    }
    set_at(pod, &["status", "podIP"], address.pod.as_str());
    set_at(pod, &["status", "podIPs"], json!([{"ip": address.pod}]));
    let state = json!({"running": {"startedAt": timestamp(now)}});
    set_at(
        pod,
        &["status", "containerStatuses"],
        containers(pod, false, &state),
    );
    set_condition(pod, Condition::new("Initialized", "True"), now);
    unready(pod, "containers with unready status", now);
}

/// The readiness probes answer.
pub(super) fn ready(pod: &mut Value, now: u64) {
    if let Some(Value::Array(statuses)) = pod.pointer_mut("/status/containerStatuses") {
        for status in statuses {
            set_at(status, &["ready"], true);
        }
    }
    set_condition(pod, Condition::new("ContainersReady", "True"), now);
    set_condition(pod, Condition::new("Ready", "True"), now);
}

/// The containers have exited with code 0.
pub(super) fn succeeded(pod: &mut Value, now: u64) {
    let end = json!({"exitCode": 0, "reason": "Completed", "finishedAt": timestamp(now)});
    ended(pod, "Succeeded", "PodCompleted", end, now);
}

/// The containers have exited with code 2.
pub(super) fn failed(pod: &mut Value, now: u64) {
    let end = json!({"exitCode": 2, "reason": "Error", "finishedAt": timestamp(now)});
    ended(pod, "Failed", "PodFailed", end, now);
}

/// The kubelet does not take the pod, as the node has not what its selector asks for;
/// no container was begun.
pub(super) fn refused(pod: &mut Value, now: u64) {
    set_at(pod, &["status", "phase"], "Failed");
    set_at(pod, &["status", "startTime"], timestamp(now));
    set_at(pod, &["status", "reason"], "NodeAffinity");
    let message = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's \
                   node affinity/selector";
    set_at(pod, &["status", "message"], message);
}

fn ended(pod: &mut Value, phase: &str, because: &str, end: Value, now: u64) {
    set_at(pod, &["status", "phase"], phase);
    let state = json!({ "terminated": end });
    set_at(
        pod,
        &["status", "containerStatuses"],
        containers(pod, false, &state),
    );
    for kind in ["ContainersReady", "Ready"] {
        set_condition(pod, Condition::new(kind, "False").because(because, ""), now);
    }
}

/// The internal address of a node.
pub(super) fn internal_ip(node: &Value) -> Option<String> {
    items_at(node, &["status", "addresses"])
        .iter()
        .find(|address| str_at(address, &["type"]) == "InternalIP")
        .map(|address| str_at(address, &["address"]).to_owned())
}

fn unready(pod: &mut Value, message: &str, now: u64) {
    for kind in ["ContainersReady", "Ready"] {
        set_condition(
            pod,
            Condition::new(kind, "False").because("ContainersNotReady", message),
            now,
        );
    }
}

fn containers(pod: &Value, ready: bool, state: &Value) -> Value {
    let statuses: Vec<Value> = items_at(pod, &["spec", "containers"])
        .iter()
        .map(|container| {
            let (name, image) = (str_at(container, &["name"]), str_at(container, &["image"]));
            json!({
                "name": name, "image": image, "imageID": image, "ready": ready, "started": true,
                "restartCount": 0, "state": state, "containerID": format!("containerd://{}/{name}", uid(pod)),
            })
        })
        .collect();
    Value::from(statuses)
}
