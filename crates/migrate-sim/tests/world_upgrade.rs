//! A whole upgrade by hand: drained by evictions, versions changed by annotations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world_support;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use migrate_sim::store::{Change, ChangeKind, Object, Resource, Store};
use migrate_sim::{NodeFault, Scenario, SimCluster};
use serde_json::{Value, json};
use tokio::time::sleep;
use world_support::{MINUTE, cordon, drain, object, patch, send, upgrade_kubelet, upgrade_member};

#[tokio::test(start_paused = true)]
async fn the_demo_can_be_upgraded_without_breaking_a_budget() {
    let broken = Arc::new(Mutex::new(Vec::new()));
    let cluster = settled_demo(1, {
        let broken = Arc::clone(&broken);
        move |store, change| broken.lock().unwrap().extend(broken_budget(store, change))
    })
    .await;
    broken.lock().unwrap().clear();
    let started = cluster.now_ms();
    upgrade(&cluster, "v1.37.2").await;
    cluster.wait_until_settled(10 * MINUTE).await.unwrap();
    assert_eq!(*broken.lock().unwrap(), Vec::<String>::new());
    let store = cluster.store();
    for node in store.list(Resource::NODES, None) {
        assert_eq!(
            node.json["status"]["nodeInfo"]["kubeletVersion"], "v1.37.2",
            "{}",
            node.name
        );
        assert!(
            node.is_ready() && node.json["spec"]["unschedulable"] != true,
            "{}",
            node.name
        );
    }
    println!(
        "upgraded in {} s of cluster time",
        (cluster.now_ms() - started) / 1000
    );
}

/// The check above is able to fail: deletions past the budget are seen.
#[tokio::test(start_paused = true)]
async fn deleting_pods_breaks_budgets() {
    let broken = Arc::new(Mutex::new(Vec::new()));
    let cluster = settled_demo(1, {
        let broken = Arc::clone(&broken);
        move |store, change| broken.lock().unwrap().extend(broken_budget(store, change))
    })
    .await;
    broken.lock().unwrap().clear();
    for pod in world_support::pods(&cluster, "shop", "cart") {
        send(
            &cluster,
            "DELETE",
            &format!("/api/v1/namespaces/shop/pods/{}", pod.name),
            Value::Null,
        )
        .await;
    }
    assert!(!broken.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_control_plane_serves_the_lowest_version_of_its_members() {
    let cluster = SimCluster::demo(2).await.unwrap();
    let version =
        async || send(&cluster, "GET", "/version", Value::Null).await.body["gitVersion"].clone();
    let before = object(
        &cluster,
        Resource::PODS,
        "kube-system",
        "kube-apiserver-control-plane-1",
    );
    for (member, served) in [(1, "v1.36.3"), (2, "v1.36.3"), (3, "v1.37.2")] {
        upgrade_member(&cluster, &format!("control-plane-{member}"), "v1.37.2").await;
        assert_eq!(version().await, served);
    }
    let after = object(
        &cluster,
        Resource::PODS,
        "kube-system",
        "kube-apiserver-control-plane-1",
    );
    assert_eq!(
        after["spec"]["containers"][0]["image"],
        "registry.k8s.io/kube-apiserver:v1.37.2"
    );
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let etcd = object(
        &cluster,
        Resource::PODS,
        "kube-system",
        "etcd-control-plane-1",
    );
    assert!(
        etcd["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .contains("/etcd:")
    );
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_the_same_bytes_and_another_one_others() {
    let first = busy_hour(3).await;
    assert!(first.changes > 3_000, "{first:?}");
    assert_eq!(busy_hour(3).await, first);
    assert_ne!(busy_hour(4).await.hash, first.hash);
}

#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    hash: u64,
    changes: u64,
    ended_ms: u64,
}

/// Drains, node failures, rollouts, lost pods: the hash covers every byte of every version.
async fn busy_hour(seed: u64) -> Transcript {
    let state = Arc::new(Mutex::new((DefaultHasher::new(), 0)));
    let cluster = settled_demo(seed, {
        let state = Arc::clone(&state);
        move |_, change: &Change| {
            let mut state = state.lock().unwrap();
            (change.rv, change.at_ms, change.kind as u8).hash(&mut state.0);
            change.object.bytes().hash(&mut state.0);
            state.1 += 1;
        }
    })
    .await;
    cluster.set_node_fault("general-3", NodeFault::Slow(3));
    cluster.set_node_fault("batch-2", NodeFault::Dead);
    let rollout = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "frontend:2"}]}}}});
    patch(
        &cluster,
        "/apis/apps/v1/namespaces/shop/deployments/frontend",
        rollout,
    )
    .await;
    for node in ["general-1", "general-5"] {
        drain(&cluster, node).await;
        upgrade_kubelet(&cluster, node, "v1.37.2").await;
        cordon(&cluster, node, false).await;
    }
    for round in 0..10 {
        let pods = world_support::pods(&cluster, "media", "thumbnails");
        let pod = &pods[round % pods.len()];
        send(
            &cluster,
            "DELETE",
            &format!("/api/v1/namespaces/media/pods/{}", pod.name),
            Value::Null,
        )
        .await;
        sleep(5 * MINUTE).await;
    }
    cluster.set_node_fault("batch-2", NodeFault::None);
    sleep(10 * MINUTE).await;
    let state = state.lock().unwrap();
    Transcript {
        hash: state.0.finish(),
        changes: state.1,
        ended_ms: cluster.now_ms(),
    }
}

async fn upgrade(cluster: &SimCluster, version: &str) {
    let nodes: Vec<String> = Scenario::demo().unwrap().node_names().collect();
    for node in nodes
        .iter()
        .filter(|node| node.starts_with("control-plane"))
    {
        upgrade_member(cluster, node, version).await;
    }
    for node in &nodes {
        drain(cluster, node).await;
        upgrade_kubelet(cluster, node, version).await;
        cordon(cluster, node, false).await;
    }
}

async fn settled_demo(
    seed: u64,
    observer: impl FnMut(&Store, &Change) + Send + 'static,
) -> SimCluster {
    let demo = SimCluster::builder()
        .seed(seed)
        .scenario(Scenario::demo().unwrap())
        .on_change(observer);
    let cluster = demo.start().await.unwrap();
    cluster
        .wait_until_settled(Duration::from_secs(600))
        .await
        .unwrap();
    cluster
}

/// A budget that a change has left with fewer healthy pods than it wants.
fn broken_budget(store: &Store, change: &Change) -> Vec<String> {
    let pod = &change.object;
    if pod.resource != Resource::PODS || change.kind == ChangeKind::Added {
        return Vec::new();
    }
    let healthy = |app: &str| {
        let pods = store.list(Resource::PODS, Some(&pod.namespace));
        pods.filter(|pod| pod.label("app") == Some(app) && pod.is_ready() && !pod.is_terminating())
            .count()
    };
    let mut wanted: BTreeMap<&str, &Arc<Object>> = BTreeMap::new();
    for budget in store.list(Resource::POD_DISRUPTION_BUDGETS, Some(&pod.namespace)) {
        wanted.insert(&budget.name, budget);
    }
    let app = pod.label("app").unwrap_or_default();
    let desired = wanted
        .get(app)
        .and_then(|budget| budget.json["status"]["desiredHealthy"].as_u64());
    match desired {
        Some(desired) if (healthy(app) as u64) < desired => {
            vec![format!(
                "{}/{app}: {} of {desired} after {:?} of {}",
                pod.namespace,
                healthy(app),
                change.kind,
                pod.name
            )]
        }
        _ => Vec::new(),
    }
}
