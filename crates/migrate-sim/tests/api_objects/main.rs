//! Reads and writes of objects, their subresources and their refusals.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;
mod deletion;
mod discovery;
mod dry_run;
mod patches;
mod refusals;
mod subresources;
mod writes;

use migrate_sim::api::ApiServer;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c", "image": "i:1" }] } },
        },
        "status": { "replicas": 9 },
    })
}

fn version(server: &ApiServer) -> u64 {
    server.shared().lock().resource_version()
}

fn reason(error: &kube::Error) -> (u16, String) {
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    (status.code, status.reason.clone())
}
