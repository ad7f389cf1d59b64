//! What the tests of the testbed share.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use migrate_testbed::{ControlPlane, ControlPlaneBuilder, skip_or_fail};
use serde_json::{Value, json};

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The control plane, or `None` where a workstation has no programs for it.
pub(crate) async fn start(builder: ControlPlaneBuilder) -> Option<ControlPlane> {
    skip_or_fail(builder.start().await)
}

pub(crate) fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

pub(crate) fn pod_spec(grace_seconds: u32) -> Value {
    json!({
        "terminationGracePeriodSeconds": grace_seconds,
        "containers": [{"name": "main", "image": "main"}],
    })
}

pub(crate) fn pod(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": pod_spec(30),
    })
}

pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(1)},
        },
    })
}

pub(crate) async fn get(client: &kube::Client, path: &str) -> Result<Value, kube::Error> {
    client
        .request(Request::get(path).body(Vec::new()).unwrap())
        .await
}

pub(crate) async fn post(
    client: &kube::Client,
    path: &str,
    body: &Value,
) -> Result<Value, kube::Error> {
    let body = serde_json::to_vec(body).unwrap();
    let request = Request::post(path).header("Content-Type", "application/json");
    client.request(request.body(body).unwrap()).await
}

pub(crate) async fn delete(client: &kube::Client, path: &str) -> Result<Value, kube::Error> {
    client
        .request(Request::delete(path).body(Vec::new()).unwrap())
        .await
}

/// Pods of the default namespace by name.
pub(crate) async fn pods(client: &kube::Client) -> Result<BTreeMap<String, Value>, kube::Error> {
    let list = get(client, "/api/v1/namespaces/default/pods").await?;
    let items = list["items"].as_array().unwrap().clone();
    Ok(items
        .into_iter()
        .map(|pod| (text(&pod["metadata"]["name"]), pod))
        .collect())
}

/// The status of a condition: `True`, `False`, `Unknown`, or empty.
pub(crate) fn condition(object: &Value, wanted: &str) -> String {
    let conditions = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let mut found = conditions.filter(|condition| condition["type"] == wanted);
    found
        .next()
        .map(|condition| text(&condition["status"]))
        .unwrap_or_default()
}

/// Waits until a deployment has all its replicas available.
pub(crate) async fn available(plane: &ControlPlane, name: &str, replicas: u32) {
    let client = plane.client();
    let path = format!("/apis/apps/v1/namespaces/default/deployments/{name}");
    let what = format!("{replicas} available replicas of {name}");
    plane
        .wait_until(&what, SOON, || async {
            let deployment = get(&client, &path).await?;
            Ok::<_, kube::Error>(deployment["status"]["availableReplicas"] == replicas)
        })
        .await
        .unwrap();
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
