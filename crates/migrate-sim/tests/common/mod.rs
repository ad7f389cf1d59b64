//! A server without controllers, and short ways to fill it.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unreachable_pub, reason = "shared by test programs")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use migrate_sim::api::ApiServer;
use migrate_sim::store::{DEFAULT_START_MS, Resource, Shared, Store};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

/// A server at v1.36.3 that answers at once.
pub fn server() -> ApiServer {
    let server = ApiServer::new(
        Arc::new(Shared::new(Store::new(7, DEFAULT_START_MS))),
        "v1.36.3",
    );
    server.set_latency(std::time::Duration::ZERO);
    server
}

/// An answer, read to its end.
pub struct Answer {
    pub code: u16,
    pub retry_after: Option<String>,
    pub body: Value,
    pub text: String,
}

/// Sends one request; null is no body.
pub async fn send(server: &ApiServer, method: &str, path: &str, body: Value) -> Answer {
    let content_type = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    send_as(server, method, path, content_type, body).await
}

pub async fn send_as(
    server: &ApiServer,
    method: &str,
    path: &str,
    content_type: &str,
    body: Value,
) -> Answer {
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .header("user-agent", "test")
        .body(Full::new(bytes))
        .unwrap();
    let mut server = server.clone();
    let response = ServiceExt::<Request<Full<Bytes>>>::ready(&mut server)
        .await
        .unwrap()
        .call(request)
        .await
        .unwrap();
    let code = response.status().as_u16();
    let retry_after = response
        .headers()
        .get("retry-after")
        .map(|v| v.to_str().unwrap().to_owned());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answer {
        code,
        retry_after,
        body: serde_json::from_str(&text).unwrap_or_default(),
        text,
    }
}

pub fn pod(name: &str, labels: Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "default", "labels": labels },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "main", "image": "app:1" }] },
    })
}

/// Puts a pod into the store: running on node-1, Ready or not.
pub fn add_pod(server: &ApiServer, name: &str, ready: bool) {
    let mut pod = pod(name, json!({ "app": "web" }));
    pod["status"] = json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
    });
    server.shared().lock().create(Resource::PODS, pod).unwrap();
}

/// Puts a budget for `app: web` into the store, with this status on top of an observed one.
pub fn add_budget(server: &ApiServer, name: &str, spec: Value, status: Value) {
    let mut budget = json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } },
        "status": {
            "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
            "desiredHealthy": 1, "expectedPods": 2,
        },
    });
    for (part, changes) in [("spec", spec), ("status", status)] {
        for (key, value) in changes.as_object().into_iter().flatten() {
            budget[part][key] = value.clone();
        }
    }
    server
        .shared()
        .lock()
        .create(Resource::POD_DISRUPTION_BUDGETS, budget)
        .unwrap();
}

pub async fn evict(server: &ApiServer, name: &str, options: Value) -> Answer {
    let mut body = json!({ "metadata": { "name": name, "namespace": "default" } });
    if !options.is_null() {
        body["deleteOptions"] = options;
    }
    send(
        server,
        "POST",
        &format!("/api/v1/namespaces/default/pods/{name}/eviction"),
        body,
    )
    .await
}

/// The object as the store has it now; null if it is not there.
pub fn stored(server: &ApiServer, resource: &Resource, name: &str) -> Value {
    let namespace = if resource.namespaced { "default" } else { "" };
    server
        .shared()
        .lock()
        .get(resource, namespace, name)
        .map(|o| o.json.clone())
        .unwrap_or_default()
}

pub fn pod_json(server: &ApiServer, name: &str) -> Value {
    stored(server, Resource::PODS, name)
}

pub fn budget(server: &ApiServer, name: &str) -> Value {
    stored(server, Resource::POD_DISRUPTION_BUDGETS, name)
}

/// Whether the pod is being deleted.
pub fn is_leaving(server: &ApiServer, name: &str) -> bool {
    pod_json(server, name)["metadata"]["deletionTimestamp"].is_string()
}
