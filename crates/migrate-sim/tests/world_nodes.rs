//! Nodes: placement, cordons, silence, restarts, and what is collected with them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world_support;

use std::time::Duration;

use migrate_sim::store::{Resource, Store};
use migrate_sim::{NodeFault, Pool, Scenario, SimCluster, Spread, Workload, annotations};
use serde_json::{Value, json};
use tokio::time::sleep;
use world_support::{
    MINUTE, condition, cordon, counts, object, patch, pods, send, settled, upgrade_kubelet,
};

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

#[tokio::test(start_paused = true)]
async fn pods_are_spread_and_kept_apart() {
    let builder = SimCluster::builder()
        .nodes(Pool::control_plane(3).with_zones(ZONES))
        .nodes(Pool::new("general", 7).with_zones(ZONES))
        .workload(Workload::deployment("shop", "zones", 10).with_spread(Spread::Zone))
        .workload(Workload::deployment("shop", "nodes", 14).with_spread(Spread::Node))
        .workload(Workload::deployment("shop", "apart", 7).apart())
        .workload(Workload::deployment("shop", "plain", 7));
    let cluster = settled(builder).await;
    let read = |app: &str, label: &str| counts(&cluster, &pods(&cluster, "shop", app), label);
    assert_eq!(read("zones", "topology.kubernetes.io/zone"), [3, 3, 4]);
    assert_eq!(
        read("nodes", "kubernetes.io/hostname"),
        [2; 7],
        "the tainted control plane is no domain"
    );
    assert_eq!(read("apart", "kubernetes.io/hostname"), [1; 7]);
    // Not asked for, still preferred.
    assert_eq!(read("plain", "kubernetes.io/hostname"), [1; 7]);
    assert!(
        read("zones", "node.kubernetes.io/pool") == [10],
        "taints keep pods off the control plane"
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_waits_and_says_why() {
    let builder = SimCluster::builder()
        .nodes(Pool::new("general", 2).with_capacity("2", "8Gi", 20))
        .workload(Workload::deployment("shop", "big", 3).with_requests("1500m", "1Gi"))
        .workload(Workload::deployment("shop", "picky", 1).on_nodes("disk", "fast"));
    let cluster = builder.start().await.unwrap();
    sleep(MINUTE).await;
    let waiting: Vec<_> = pods(&cluster, "shop", "big")
        .into_iter()
        .filter(|pod| pod.node_name().is_empty())
        .collect();
    assert_eq!(waiting.len(), 1);
    let (status, reason, message) = condition(&waiting[0].json, "PodScheduled");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "Unschedulable")
    );
    assert_eq!(message, "0/2 nodes are available: 2 Insufficient cpu.");
    let picky = pods(&cluster, "shop", "picky")[0].clone();
    assert!(
        condition(&picky.json, "PodScheduled")
            .2
            .contains("node affinity/selector")
    );
    // Each waits for its own news: a label, and a free place.
    patch(
        &cluster,
        "/api/v1/nodes/general-1",
        json!({"metadata": {"labels": {"disk": "fast"}}}),
    )
    .await;
    cluster
        .wait_until(MINUTE, |store| ready(store, "picky") == 1)
        .await
        .unwrap();
    patch(
        &cluster,
        "/apis/apps/v1/namespaces/shop/deployments/big",
        json!({"spec": {"replicas": 2}}),
    )
    .await;
    cluster.wait_until_settled(MINUTE).await.unwrap();
}

/// What the pods require is not traded for a place.
#[tokio::test(start_paused = true)]
async fn a_pod_rather_waits_than_breaks_its_spread_or_its_distance() {
    let builder = SimCluster::builder()
        .nodes(Pool::new("roomy", 2).with_zones(["zone-a"]))
        .nodes(
            Pool::new("tight", 1)
                .with_zones(["zone-b"])
                .with_capacity("1", "8Gi", 20),
        )
        .workload(
            Workload::deployment("shop", "even", 6)
                .with_spread(Spread::Zone)
                .with_requests("400m", "1Gi"),
        )
        .workload(
            Workload::deployment("shop", "apart", 4)
                .apart()
                .with_requests("1m", "1Mi"),
        );
    let cluster = builder.start().await.unwrap();
    sleep(MINUTE).await;
    let waiting = |app: &str| -> Vec<String> {
        let pods = pods(&cluster, "shop", app).into_iter();
        pods.filter(|pod| pod.node_name().is_empty())
            .map(|pod| condition(&pod.json, "PodScheduled").2)
            .collect()
    };
    assert_eq!(
        waiting("even"),
        [
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match pod topology spread constraints."
        ]
    );
    assert_eq!(
        waiting("apart"),
        ["0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cordon_keeps_new_pods_away_and_leaves_the_others() {
    let builder = SimCluster::builder().nodes(Pool::new("general", 2));
    let cluster = settled(builder.workload(Workload::deployment("shop", "cart", 4))).await;
    cordon(&cluster, "general-1", true).await;
    sleep(Duration::from_secs(1)).await;
    let taints = object(&cluster, Resource::NODES, "", "general-1")["spec"]["taints"].clone();
    assert_eq!(
        taints,
        json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])
    );
    patch(
        &cluster,
        "/apis/apps/v1/namespaces/shop/deployments/cart",
        json!({"spec": {"replicas": 8}}),
    )
    .await;
    cluster.wait_until_settled(MINUTE).await.unwrap();
    assert_eq!(
        counts(
            &cluster,
            &pods(&cluster, "shop", "cart"),
            "kubernetes.io/hostname"
        ),
        [2, 6]
    );
    cordon(&cluster, "general-1", false).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        object(&cluster, Resource::NODES, "", "general-1")["spec"]["taints"],
        Value::Null
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_noticed_after_its_grace_and_loses_its_pods_after_theirs() {
    let builder = SimCluster::builder().nodes(Pool::new("general", 3));
    let cluster = settled(builder.workload(Workload::deployment("shop", "cart", 3))).await;
    let lost = pods(&cluster, "shop", "cart")
        .into_iter()
        .find(|pod| pod.node_name() == "general-2")
        .unwrap();
    cluster.set_node_fault("general-2", NodeFault::Dead);
    let node = || condition(&object(&cluster, Resource::NODES, "", "general-2"), "Ready").0;
    let pod = || object(&cluster, Resource::PODS, "shop", &lost.name);
    sleep(Duration::from_secs(39)).await;
    assert_eq!(
        (node(), condition(&pod(), "Ready").0),
        ("True".into(), "True".into())
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        (node(), condition(&pod(), "Ready").0),
        ("Unknown".into(), "False".into())
    );
    sleep(Duration::from_secs(295)).await;
    assert_eq!(pod()["metadata"]["deletionTimestamp"], Value::Null);
    sleep(Duration::from_secs(10)).await;
    assert_ne!(
        pod()["metadata"]["deletionTimestamp"],
        Value::Null,
        "told to go, and nobody there to end it"
    );
    cluster
        .wait_until(MINUTE, |store| ready(store, "cart") == 3)
        .await
        .unwrap();
    cluster.set_node_fault("general-2", NodeFault::None);
    cluster.wait_until_settled(MINUTE).await.unwrap();
    let taints = object(&cluster, Resource::NODES, "", "general-2")["spec"]["taints"].clone();
    assert_eq!((node(), taints), ("True".into(), Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_restart_changes_the_version_and_leaves_the_pods_alone() {
    let builder = SimCluster::builder().nodes(Pool::new("general", 2));
    let cluster = settled(builder.workload(Workload::deployment("shop", "cart", 4))).await;
    let before = pods(&cluster, "shop", "cart");
    let started = cluster.now_ms();
    upgrade_kubelet(&cluster, "general-1", "v1.37.2").await;
    let seconds = (cluster.now_ms() - started) / 1000;
    assert!((20..=31).contains(&seconds), "{seconds}");
    let after = pods(&cluster, "shop", "cart");
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.rv == after.rv),
        "no pod was touched"
    );
    let node = object(&cluster, Resource::NODES, "", "general-1");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.37.2");
    // The same action again is done already.
    let version = cluster.store().resource_version();
    upgrade_kubelet(&cluster, "general-1", "v1.37.2").await;
    assert_eq!(cluster.store().resource_version(), version);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_never_comes_back_leaves_its_action_open() {
    let scenario: Scenario = "version = 'v1.36.3'\n[[pools]]\nname = 'general'\ncount = 2\n\
        [[faults]]\nnode = 'general-1'\nkind = 'never-ready'\nafter_seconds = 5"
        .parse()
        .unwrap();
    let cluster = SimCluster::builder()
        .scenario(scenario)
        .start()
        .await
        .unwrap();
    sleep(MINUTE).await;
    let request = json!({"metadata": {"annotations": {
        (annotations::KUBELET_VERSION): "v1.37.2", (annotations::ACTION): "one",
    }}});
    patch(&cluster, "/api/v1/nodes/general-1", request).await;
    sleep(60 * MINUTE).await;
    let node = object(&cluster, Resource::NODES, "", "general-1");
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.36.3");
    assert_eq!(
        node["metadata"]["annotations"][annotations::ACTION_DONE],
        Value::Null
    );
    assert_ne!(condition(&node, "Ready").0, "True");
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_takes_longer() {
    let started = |fault: NodeFault| async move {
        let cluster = SimCluster::builder()
            .nodes(Pool::new("general", 1))
            .start()
            .await
            .unwrap();
        cluster.set_node_fault("general-1", fault);
        upgrade_kubelet(&cluster, "general-1", "v1.37.2").await;
        cluster.now_ms()
    };
    let (normal, slow) = (
        started(NodeFault::None).await,
        started(NodeFault::Slow(4)).await,
    );
    assert!(slow > normal + 60_000, "{normal} {slow}");
}

#[tokio::test(start_paused = true)]
async fn what_is_owned_goes_with_its_owner_unless_it_is_orphaned() {
    for (policy, left) in [("Background", 0), ("Foreground", 0), ("Orphan", 3)] {
        let builder = SimCluster::builder().nodes(Pool::new("general", 2));
        let cluster = settled(builder.workload(Workload::deployment("shop", "cart", 3))).await;
        let path = "/apis/apps/v1/namespaces/shop/deployments/cart";
        let answer = send(
            &cluster,
            "DELETE",
            path,
            json!({"propagationPolicy": policy}),
        )
        .await;
        assert_eq!(answer.code, 200, "{}", answer.text);
        sleep(MINUTE).await;
        let store = cluster.store();
        assert_eq!(store.count(Resource::DEPLOYMENTS), 0, "{policy}");
        assert_eq!(
            store.count(Resource::REPLICA_SETS),
            usize::from(left > 0),
            "{policy}"
        );
        assert_eq!(store.count(Resource::PODS), left, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_everything_in_it() {
    let builder = SimCluster::builder().nodes(Pool::new("general", 2));
    let cluster = settled(builder.workload(Workload::stateful_set("shop", "store", 3))).await;
    assert_eq!(
        send(&cluster, "DELETE", "/api/v1/namespaces/shop", Value::Null)
            .await
            .code,
        200
    );
    let is_gone = |store: &Store| store.get(Resource::NAMESPACES, "", "shop").is_none();
    cluster.wait_until(MINUTE, is_gone).await.unwrap();
    let store = cluster.store();
    let left: Vec<_> = store
        .resources()
        .flat_map(|kind| store.list(kind, Some("shop")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_can_be_replaced_by_another() {
    let builder = SimCluster::builder().nodes(Pool::new("general", 2));
    let cluster = settled(builder.workload(Workload::deployment("shop", "cart", 4))).await;
    assert_eq!(
        send(&cluster, "DELETE", "/api/v1/nodes/general-1", Value::Null)
            .await
            .code,
        200
    );
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "general-9"},
        "status": {"nodeInfo": {"kubeletVersion": "v1.37.2"}},
    });
    assert_eq!(
        send(&cluster, "POST", "/api/v1/nodes", node).await.code,
        201
    );
    sleep(MINUTE).await;
    cluster.wait_until_settled(MINUTE).await.unwrap();
    let names = counts(
        &cluster,
        &pods(&cluster, "shop", "cart"),
        "kubernetes.io/hostname",
    );
    assert_eq!(names.iter().sum::<usize>(), 4);
    assert!(
        cluster
            .store()
            .get(Resource::LEASES, "kube-node-lease", "general-1")
            .is_none()
    );
    assert_eq!(
        condition(&object(&cluster, Resource::NODES, "", "general-9"), "Ready").0,
        "True"
    );
}

fn ready(store: &Store, app: &str) -> usize {
    let pods = store.list(Resource::PODS, Some("shop"));
    pods.filter(|pod| pod.label("app") == Some(app) && pod.is_ready() && !pod.is_terminating())
        .count()
}
