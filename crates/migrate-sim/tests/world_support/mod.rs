//! Short ways to drive a cluster over its API and to read what became of it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

#[path = "../common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use migrate_sim::store::{Object, Resource, Store};
use migrate_sim::{SimCluster, SimClusterBuilder};
use serde_json::{Value, json};
use tokio::time::sleep;

pub use common::Answer;

pub const MINUTE: Duration = Duration::from_secs(60);

/// Starts a cluster and waits until nothing in it is under way any more.
pub async fn settled(builder: SimClusterBuilder) -> SimCluster {
    let cluster = builder.start().await.unwrap();
    cluster.wait_until_settled(2 * MINUTE).await.unwrap();
    cluster
}

/// Sends one request over the API.
pub async fn send(cluster: &SimCluster, method: &str, path: &str, body: Value) -> Answer {
    common::send(cluster.api(), method, path, body).await
}

/// Merge-patches an object; the path starts behind the server.
pub async fn patch(cluster: &SimCluster, path: &str, body: Value) {
    let answer = send(cluster, "PATCH", path, body).await;
    assert_eq!(answer.code, 200, "{path}: {}", answer.text);
}

/// Asks for the eviction of a pod; the answer is its code.
pub async fn evict(cluster: &SimCluster, namespace: &str, name: &str) -> u16 {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
    send(cluster, "POST", &path, body).await.code
}

pub async fn cordon(cluster: &SimCluster, node: &str, wanted: bool) {
    patch(
        cluster,
        &format!("/api/v1/nodes/{node}"),
        json!({"spec": {"unschedulable": wanted}}),
    )
    .await;
}

/// Evicts everything that a drain evicts, as often as budgets demand, and waits until it is gone.
pub async fn drain(cluster: &SimCluster, node: &str) {
    cordon(cluster, node, true).await;
    for _attempt in 0..2_000 {
        let pods = evictable(cluster, node);
        if pods.is_empty() {
            return;
        }
        for (namespace, name) in pods {
            let code = evict(cluster, &namespace, &name).await;
            assert!(
                matches!(code, 201 | 404 | 429),
                "{namespace}/{name}: {code}"
            );
        }
        sleep(Duration::from_secs(1)).await;
    }
    panic!(
        "{node} cannot be drained: {:?} are left",
        evictable(cluster, node)
    );
}

fn evictable(cluster: &SimCluster, node: &str) -> Vec<(String, String)> {
    let store = cluster.store();
    let is_own = |pod: &&Arc<Object>| {
        pod.annotation("kubernetes.io/config.mirror").is_none()
            && pod
                .controller()
                .is_none_or(|owner| owner["kind"] != "DaemonSet")
    };
    store
        .pods_on(node)
        .filter(is_own)
        .map(|pod| (pod.namespace.clone(), pod.name.clone()))
        .collect()
}

/// Changes the version of a kubelet and waits for it.
pub async fn upgrade_kubelet(cluster: &SimCluster, node: &str, version: &str) {
    act(cluster, node, "", version, "kubelet-version").await;
}

/// Changes the version of a control-plane member and waits for it.
pub async fn upgrade_member(cluster: &SimCluster, node: &str, version: &str) {
    act(
        cluster,
        node,
        "control-plane-",
        version,
        "control-plane-version",
    )
    .await;
}

async fn act(cluster: &SimCluster, node: &str, prefix: &str, version: &str, field: &str) {
    let key = |name: &str| format!("sim.kube-migrate.dev/{name}");
    let (action, done) = (
        key(&format!("{prefix}action")),
        key(&format!("{prefix}action-done")),
    );
    let id = format!("{prefix}{node}-{version}");
    let annotations = json!({(key(field)): version, (action): id});
    patch(
        cluster,
        &format!("/api/v1/nodes/{node}"),
        json!({"metadata": {"annotations": annotations}}),
    )
    .await;
    let is_done = |store: &Store| {
        store
            .get(Resource::NODES, "", node)
            .is_some_and(|node| node.annotation(&done) == Some(&id))
    };
    cluster.wait_until(10 * MINUTE, is_done).await.unwrap();
}

/// The current version of an object.
pub fn object(cluster: &SimCluster, resource: &Resource, namespace: &str, name: &str) -> Value {
    let store = cluster.store();
    let found = store.get(resource, namespace, name);
    found
        .unwrap_or_else(|| panic!("no {resource:?} {namespace}/{name}"))
        .json
        .clone()
}

/// Pods of one `app`.
pub fn pods(cluster: &SimCluster, namespace: &str, app: &str) -> Vec<Arc<Object>> {
    let store = cluster.store();
    let pods = store.list(Resource::PODS, Some(namespace));
    pods.filter(|pod| pod.label("app") == Some(app))
        .cloned()
        .collect()
}

/// How many pods each domain has, sorted.
pub fn counts(cluster: &SimCluster, pods: &[Arc<Object>], label: &str) -> Vec<usize> {
    let store = cluster.store();
    let mut counts = std::collections::BTreeMap::new();
    for pod in pods {
        let node = store.get(Resource::NODES, "", pod.node_name()).unwrap();
        *counts
            .entry(node.label(label).unwrap().to_owned())
            .or_insert(0) += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

/// Status, reason and message of a condition.
pub fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .cloned()
        .unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}
