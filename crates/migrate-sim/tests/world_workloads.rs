//! Workload controllers: what is gone is replaced, what changes is rolled out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world_support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use migrate_sim::store::{Change, ChangeKind, Resource, Store};
use migrate_sim::{Budget, Pool, SimCluster, Spread, VolumeReach, Workload};
use serde_json::{Value, json};
use tokio::time::sleep;
use world_support::{MINUTE, condition, cordon, drain, evict, object, patch, pods, send, settled};

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_of_a_deployment_is_replaced_before_it_is_gone() {
    let cluster = three_nodes(
        Workload::deployment("shop", "cart", 3).with_budget(Budget::max_unavailable(1)),
    )
    .await;
    let victim = Arc::clone(&pods(&cluster, "shop", "cart")[0]);
    assert_eq!(evict(&cluster, "shop", &victim.name).await, 201);
    assert_eq!(
        evict(&cluster, "shop", &pods(&cluster, "shop", "cart")[1].name).await,
        429
    );
    sleep(Duration::from_millis(20)).await;
    let now = pods(&cluster, "shop", "cart");
    assert_eq!(now.len(), 4, "the evicted one stops, its successor starts");
    assert!(
        now.iter()
            .any(|pod| pod.name == victim.name && pod.is_terminating())
    );
    cluster.wait_until_settled(MINUTE).await.unwrap();
    let now = pods(&cluster, "shop", "cart");
    assert!(now.len() == 3 && now.iter().all(|pod| pod.uid() != victim.uid()));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_keeps_to_its_limits() {
    let lowest = Arc::new(Mutex::new((usize::MAX, 0_u64)));
    let seen = Arc::clone(&lowest);
    let watch = move |store: &Store, change: &Change| {
        let mut seen = seen.lock().unwrap();
        if change.object.resource == Resource::PODS {
            let pods = store.list(Resource::PODS, Some("shop"));
            seen.0 = seen.0.min(
                pods.filter(|pod| pod.is_ready() && !pod.is_terminating())
                    .count(),
            );
        } else if change.object.resource == Resource::REPLICA_SETS {
            let sets = store.list(Resource::REPLICA_SETS, Some("shop"));
            seen.1 = seen.1.max(
                sets.filter_map(|set| set.json["spec"]["replicas"].as_u64())
                    .sum(),
            );
        }
    };
    let workload = Workload::deployment("shop", "cart", 8);
    let builder = SimCluster::builder()
        .nodes(Pool::new("general", 3))
        .workload(workload)
        .on_change(watch);
    let cluster = settled(builder).await;
    *lowest.lock().unwrap() = (usize::MAX, 0);
    set_image(&cluster, "deployments", "cart", "cart:2").await;
    cluster.wait_until_settled(10 * MINUTE).await.unwrap();
    let images = || -> Vec<Value> {
        pods(&cluster, "shop", "cart")
            .iter()
            .map(|pod| pod.json["spec"]["containers"][0]["image"].clone())
            .collect()
    };
    assert_eq!(images(), vec![json!("cart:2"); 8]);
    // 25 % of 8 up and 25 % down, both 2.
    assert_eq!(*lowest.lock().unwrap(), (6, 10));
    assert_eq!(
        replica_sets(&cluster),
        [(0, "1".to_owned()), (8, "2".to_owned())]
    );
    // Back to the first template: no third ReplicaSet, the first one becomes the newest.
    set_image(
        &cluster,
        "deployments",
        "cart",
        "registry.example/shop/cart:1.0",
    )
    .await;
    cluster.wait_until_settled(10 * MINUTE).await.unwrap();
    assert_eq!(
        replica_sets(&cluster),
        [(0, "2".to_owned()), (8, "3".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_completed_deployment_stays_progressing_when_it_loses_pods() {
    let cluster = three_nodes(Workload::deployment("shop", "cart", 2)).await;
    for node in ["general-1", "general-2", "general-3"] {
        cordon(&cluster, node, true).await;
    }
    for pod in pods(&cluster, "shop", "cart") {
        evict(&cluster, "shop", &pod.name).await;
    }
    sleep(MINUTE).await;
    let deployment = object(&cluster, Resource::DEPLOYMENTS, "shop", "cart");
    let status = |kind| {
        (
            condition(&deployment, kind).0,
            condition(&deployment, kind).1,
        )
    };
    assert_eq!(
        status("Available"),
        ("False".into(), "MinimumReplicasUnavailable".into())
    );
    assert_eq!(
        status("Progressing"),
        ("True".into(), "NewReplicaSetAvailable".into())
    );
    assert_eq!(deployment["status"]["unavailableReplicas"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_stateful_pod_comes_back_under_its_name_with_its_volume_once_the_old_one_is_gone() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    let watch = move |_: &Store, change: &Change| {
        let attached = change.object.json["status"]["attached"] == true;
        let what = match (change.object.resource.kind, change.kind) {
            ("Pod", ChangeKind::Added) => "pod added",
            ("Pod", ChangeKind::Deleted) => "pod gone",
            ("Pod", ChangeKind::Modified) if is_new(change, |pod| pod.is_ready()) => "pod ready",
            ("VolumeAttachment", ChangeKind::Modified) if attached => "attached",
            ("VolumeAttachment", ChangeKind::Deleted) => "detached",
            _ => return,
        };
        seen.lock().unwrap().push(what);
    };
    let workload = Workload::stateful_set("data", "store", 1).with_volume(VolumeReach::Zone);
    let builder = SimCluster::builder()
        .nodes(Pool::new("general", 2))
        .workload(workload)
        .on_change(watch);
    let cluster = settled(builder).await;
    let before = object(&cluster, Resource::PODS, "data", "store-0");
    let claim = object(
        &cluster,
        Resource::PERSISTENT_VOLUME_CLAIMS,
        "data",
        "data-store-0",
    );
    let node = before["spec"]["nodeName"].as_str().unwrap().to_owned();
    let attached = &object(&cluster, Resource::NODES, "", &node)["status"]["volumesAttached"];
    assert_eq!(attached.as_array().unwrap().len(), 1);
    log.lock().unwrap().clear();
    drain(&cluster, &node).await;
    cluster.wait_until_settled(MINUTE).await.unwrap();
    sleep(MINUTE).await;
    let after = object(&cluster, Resource::PODS, "data", "store-0");
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_ne!(before["spec"]["nodeName"], after["spec"]["nodeName"]);
    assert_eq!(
        object(
            &cluster,
            Resource::PERSISTENT_VOLUME_CLAIMS,
            "data",
            "data-store-0"
        ),
        claim
    );
    assert_eq!(
        *log.lock().unwrap(),
        ["pod gone", "pod added", "detached", "attached", "pod ready"]
    );
    assert_eq!(
        object(&cluster, Resource::NODES, "", &node)["status"]["volumesAttached"],
        json!([])
    );
}

#[tokio::test(start_paused = true)]
async fn ordered_stateful_sets_go_one_by_one_and_parallel_ones_do_not() {
    for (parallel, together) in [(false, 1), (true, 4)] {
        let most = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&most);
        let watch = move |store: &Store, _: &Change| {
            let starting = store
                .list(Resource::PODS, Some("data"))
                .filter(|pod| !pod.is_ready())
                .count();
            let mut seen = seen.lock().unwrap();
            *seen = starting.max(*seen);
        };
        let mut workload = Workload::stateful_set("data", "store", 4);
        workload.parallel = parallel;
        let builder = SimCluster::builder()
            .nodes(Pool::new("general", 2))
            .workload(workload)
            .on_change(watch);
        let cluster = builder.start().await.unwrap();
        cluster.wait_until_settled(5 * MINUTE).await.unwrap();
        assert_eq!(*most.lock().unwrap(), together, "parallel: {parallel}");
        // A new template goes from the last to the first, one at a time.
        *most.lock().unwrap() = 0;
        set_image_in(&cluster, "data", "statefulsets", "store", "store:2").await;
        let is_new = |store: &Store| {
            let pods = store.list(Resource::PODS, Some("data"));
            pods.filter(|pod| {
                pod.json["spec"]["containers"][0]["image"] == "store:2" && pod.is_ready()
            })
            .count()
                == 4
        };
        cluster.wait_until(10 * MINUTE, is_new).await.unwrap();
        assert_eq!(*most.lock().unwrap(), 1);
        patch(
            &cluster,
            "/apis/apps/v1/namespaces/data/statefulsets/store",
            json!({"spec": {"replicas": 1}}),
        )
        .await;
        cluster
            .wait_until(MINUTE, |store| {
                store.list(Resource::PODS, Some("data")).count() == 1
            })
            .await
            .unwrap();
        assert_eq!(pods(&cluster, "data", "store")[0].name, "store-0");
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_disk_keeps_its_pod_waiting_for_its_node() {
    let cluster =
        three_nodes(Workload::stateful_set("data", "disk", 2).with_volume(VolumeReach::Node)).await;
    let node = object(&cluster, Resource::PODS, "data", "disk-0")["spec"]["nodeName"]
        .as_str()
        .unwrap()
        .to_owned();
    drain(&cluster, &node).await;
    sleep(5 * MINUTE).await;
    let pod = object(&cluster, Resource::PODS, "data", "disk-0");
    assert_eq!(condition(&pod, "PodScheduled").1, "Unschedulable");
    cordon(&cluster, &node, false).await;
    cluster.wait_until_settled(MINUTE).await.unwrap();
    assert_eq!(
        object(&cluster, Resource::PODS, "data", "disk-0")["spec"]["nodeName"],
        node.as_str()
    );
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_has_one_pod_per_node_and_replaces_them_one_by_one() {
    let builder = SimCluster::builder()
        .nodes(Pool::control_plane(1))
        .nodes(Pool::new("general", 4));
    let cluster = settled(builder.workload(Workload::daemon_set("infra", "agent"))).await;
    let set = || object(&cluster, Resource::DAEMON_SETS, "infra", "agent")["status"].clone();
    assert_eq!(
        (
            set()["desiredNumberScheduled"].clone(),
            set()["numberReady"].clone()
        ),
        (json!(5), json!(5))
    );
    // Deleted on a cordoned node, it comes back there.
    cordon(&cluster, "general-2", true).await;
    let pod = pods(&cluster, "infra", "agent")
        .into_iter()
        .find(|pod| pod.node_name() == "general-2")
        .unwrap();
    send(
        &cluster,
        "DELETE",
        &format!("/api/v1/namespaces/infra/pods/{}", pod.name),
        Value::Null,
    )
    .await;
    cluster.wait_until_settled(MINUTE).await.unwrap();
    assert!(
        pods(&cluster, "infra", "agent")
            .iter()
            .any(|pod| pod.node_name() == "general-2")
    );
    set_image_in(&cluster, "infra", "daemonsets", "agent", "agent:2").await;
    for _second in 0..120 {
        assert!(set()["numberUnavailable"].as_i64() <= Some(1), "{}", set());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(
        (
            set()["updatedNumberScheduled"].clone(),
            set()["numberReady"].clone()
        ),
        (json!(5), json!(5))
    );
    // A new machine gets its pod.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late-1"}});
    assert_eq!(
        send(&cluster, "POST", "/api/v1/nodes", node).await.code,
        201
    );
    cluster.wait_until(2 * MINUTE, |_| true).await.unwrap();
    sleep(2 * MINUTE).await;
    assert!(
        pods(&cluster, "infra", "agent")
            .iter()
            .any(|pod| pod.node_name() == "late-1" && pod.is_ready())
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_to_its_end_even_if_a_pod_is_evicted() {
    let mut job = Workload::job("batch", "nightly", 3);
    job.run_seconds = Some(120);
    let cluster = three_nodes(job).await;
    let victim = pods(&cluster, "batch", "nightly")[0].name.clone();
    assert_eq!(evict(&cluster, "batch", &victim).await, 201);
    let is_complete = |store: &Store| {
        let job = store.get(Resource::JOBS, "batch", "nightly").unwrap();
        condition(&job.json, "Complete").0 == "True"
    };
    cluster.wait_until(10 * MINUTE, is_complete).await.unwrap();
    let status = &object(&cluster, Resource::JOBS, "batch", "nightly")["status"];
    assert_eq!(
        (&status["succeeded"], &status["failed"]),
        (&json!(3), &json!(0))
    );
    // The end is final, also when its pods are cleaned up.
    for pod in pods(&cluster, "batch", "nightly") {
        assert_eq!(pod.phase(), "Succeeded");
        assert_eq!(evict(&cluster, "batch", &pod.name).await, 201);
    }
    sleep(MINUTE).await;
    assert_eq!(pods(&cluster, "batch", "nightly").len(), 0);
    assert_eq!(
        object(&cluster, Resource::JOBS, "batch", "nightly")["status"]["succeeded"],
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_knows_which_pods_serve() {
    let workload = Workload::deployment("shop", "cart", 3)
        .with_spread(Spread::Zone)
        .with_service();
    let cluster = three_nodes(workload).await;
    let endpoints = || {
        let store = cluster.store();
        let slice = store
            .list(Resource::ENDPOINT_SLICES, Some("shop"))
            .next()
            .unwrap();
        slice.json["endpoints"].as_array().unwrap().clone()
    };
    let ready = |endpoints: &[Value]| {
        endpoints
            .iter()
            .filter(|end| end["conditions"]["ready"] == true)
            .count()
    };
    assert_eq!((endpoints().len(), ready(&endpoints())), (3, 3));
    evict(&cluster, "shop", &pods(&cluster, "shop", "cart")[0].name).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ready(&endpoints()), 2);
    cluster.wait_until_settled(MINUTE).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((endpoints().len(), ready(&endpoints())), (3, 3));
}

async fn three_nodes(workload: Workload) -> SimCluster {
    let builder = SimCluster::builder()
        .nodes(Pool::new("general", 3).with_zones(ZONES))
        .workload(workload);
    settled(builder).await
}

async fn set_image(cluster: &SimCluster, kind: &str, name: &str, image: &str) {
    set_image_in(cluster, "shop", kind, name, image).await;
}

async fn set_image_in(cluster: &SimCluster, namespace: &str, kind: &str, name: &str, image: &str) {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/{kind}/{name}");
    let mut container = send(cluster, "GET", &path, Value::Null).await.body["spec"]["template"]["spec"]["containers"][0].clone();
    container["image"] = json!(image);
    patch(
        cluster,
        &path,
        json!({"spec": {"template": {"spec": {"containers": [container]}}}}),
    )
    .await;
}

/// Replicas and revision of all ReplicaSets, by revision.
fn replica_sets(cluster: &SimCluster) -> Vec<(i64, String)> {
    let store = cluster.store();
    let sets = store.list(Resource::REPLICA_SETS, Some("shop"));
    let mut sets: Vec<(i64, String)> = sets
        .map(|set| {
            let revision = set
                .annotation("deployment.kubernetes.io/revision")
                .unwrap_or_default();
            (
                set.json["spec"]["replicas"].as_i64().unwrap(),
                revision.to_owned(),
            )
        })
        .collect();
    sets.sort_by(|a, b| a.1.cmp(&b.1));
    sets
}

/// Whether something became true with this change.
fn is_new(change: &Change, test: impl Fn(&migrate_sim::store::Object) -> bool) -> bool {
    test(&change.object) && !change.previous.as_ref().is_some_and(|before| test(before))
}
