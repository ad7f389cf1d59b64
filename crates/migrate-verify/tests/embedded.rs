//! Health of the embedded cluster: real requests, virtual time.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use kube::Client;
use kube::client::Body;
use migrate_core::steps::{Baseline, Verdict, VerifyScope};
use migrate_core::{
    Clock, Fence, Moment, Policy, StepContext, StepErrorKind, StepInput, VerifyMigration,
};
use migrate_sim::api::{AccessRule, Fault};
use migrate_sim::{NodeFault, Pool, SimCluster, Workload};
use migrate_verify::ClusterHealth;
use serde_json::json;
use tokio::time::{Instant, sleep};

const START_MS: u64 = 1_795_000_000_000;
const RENEWAL: Duration = Duration::from_secs(10);

/// Three nodes whose kubelets renew, kube-proxy, and a storage driver.
async fn cluster() -> SimCluster {
    let csi_node = |name: &str| {
        json!({ "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
                "metadata": { "name": name },
                "spec": { "drivers": [{ "name": "disk.example.com", "nodeID": name }] } })
    };
    let pool = Pool::new("general", 3);
    let mut builder = SimCluster::builder()
        .start_time_ms(START_MS)
        .lease_renewal(RENEWAL)
        .workload(Workload::daemon_set("kube-system", "kube-proxy"));
    for name in pool.node_names() {
        builder = builder.object(csi_node(&name));
    }
    let cluster = builder.nodes(pool).start().await.unwrap();
    cluster
        .wait_until_settled(Duration::from_secs(600))
        .await
        .unwrap();
    cluster
}

/// A client whose answers carry the cluster's time, as a real server's do.
fn dated(cluster: &SimCluster) -> Client {
    let (client, began, first) = (cluster.client(), Instant::now(), cluster.now_ms());
    let send = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        let answer: BoxFuture<'static, Result<Response<Body>, kube::Error>> =
            Box::pin(async move {
                let mut answer = client.send(request).await?;
                let now = Moment::from_millis(first) + began.elapsed();
                let date = jiff::Timestamp::from(now).strftime("%a, %d %b %Y %H:%M:%S GMT");
                let date = HeaderValue::from_str(&date.to_string()).unwrap();
                answer.headers_mut().insert(header::DATE, date);
                Ok(answer)
            });
        answer
    });
    Client::new(send, "default")
}

fn context() -> StepContext {
    let clock: Arc<dyn Clock> = Arc::new(|| Moment::EPOCH);
    StepContext::new(clock, Fence::new("look", 1))
}

async fn look(client: &Client) -> Baseline {
    let health = ClusterHealth::new(client.clone());
    health.observe(&context()).await.unwrap()
}

async fn codes(client: &Client, before: &Baseline, now: &Baseline) -> Vec<String> {
    let model = migrate_kube::observe(client, Moment::EPOCH).await.unwrap();
    let input = StepInput::new(
        Arc::new(model),
        Arc::new(Policy::default()),
        "v1.36.3".parse().unwrap(),
    );
    let scope = VerifyScope::ControlPlane {
        member: "control-plane".into(),
    };
    match ClusterHealth::new(client.clone()).compare(&input, &scope, before, now) {
        Verdict::Pass { .. } => Vec::new(),
        Verdict::Pending { missing, .. } => missing.into_iter().map(|found| found.code).collect(),
        verdict => panic!("{verdict:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn kubelets_that_renew_settle_and_one_that_is_cut_off_does_not() {
    let cluster = cluster().await;
    let client = dated(&cluster);
    let before = look(&client).await;
    assert!(before.server_time.unwrap() >= Moment::from_millis(START_MS));
    assert_eq!(before.rollouts.len(), 1);
    assert_eq!(before.rollouts[0].available, 3);
    for node in before.nodes.values() {
        assert!(node.lease.is_some() && node.taints.is_some(), "{node:?}");
        assert!(node.csi_drivers.contains("disk.example.com"), "{node:?}");
    }

    let at_once = codes(&client, &before, &before).await;
    assert_eq!(at_once, ["KM-VERIFY-011"; 3], "nobody has renewed since");
    sleep(RENEWAL * 2).await;
    let now = look(&client).await;
    assert!(codes(&client, &before, &now).await.is_empty());

    let before = now;
    let lost = before.nodes.keys().next().unwrap();
    sleep(RENEWAL).await;
    cluster.set_node_fault(lost, NodeFault::Dead);
    sleep(Duration::from_secs(5)).await;
    let mut late = look(&client).await;
    late.server_time = late.server_time.map(|time| time + Duration::from_secs(41));
    late.nodes.retain(|name, _| name == lost);
    assert_eq!(codes(&client, &before, &late).await, ["KM-VERIFY-011"]);
}

/// The controllers count, and the pods are Ready long before.
#[tokio::test(start_paused = true)]
async fn a_pod_is_available_once_it_was_ready_for_as_long_as_its_workload_asks() {
    let cluster = cluster().await;
    let slow = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": "default", "name": "slow" },
        "spec": { "replicas": 2, "minReadySeconds": 300,
                  "selector": { "matchLabels": { "app": "slow" } },
                  "template": { "metadata": { "labels": { "app": "slow" } },
                                "spec": { "containers": [{ "name": "c", "image": "i" }] } } } });
    let deployments = kube::Api::<kube::core::DynamicObject>::namespaced_with(
        cluster.client(),
        "default",
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "apps",
            "v1",
            "Deployment",
        )),
    );
    let object = serde_json::from_value(slow).unwrap();
    deployments
        .create(&kube::api::PostParams::default(), &object)
        .await
        .unwrap();
    let settled = cluster.wait_until_settled(Duration::from_secs(200)).await;
    settled.unwrap();
    let available = || async {
        let seen = look(&cluster.client()).await.workloads.into_iter();
        let slow = seen.filter(|workload| workload.id.name == "slow");
        slow.map(|it| (it.available, it.observed))
            .collect::<Vec<_>>()
    };
    assert_eq!(available().await, [(0, true)], "Ready, and not for long");
    sleep(Duration::from_secs(301)).await;
    assert_eq!(available().await, [(2, true)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_lacks_or_forbids_is_not_asked_for() {
    let cluster = cluster().await;
    let before = look(&cluster.client()).await;
    assert_eq!(before.server_time, None, "its answers carry no date");
    assert!(codes(&cluster.client(), &before, &before).await.is_empty());

    cluster.api().set_access(vec![AccessRule::new(
        ["*"],
        ["", "apps", "batch", "policy"],
        ["*"],
    )]);
    let client = dated(&cluster);
    let before = look(&client).await;
    assert!(before.nodes.values().all(|node| node.lease.is_none()));
    assert!(before.nodes.values().all(|n| n.csi_drivers.is_empty()));
    assert!(codes(&client, &before, &before).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_or_fails_is_looked_at_again() {
    let cluster = cluster().await;
    let health = ClusterHealth::new(cluster.client());
    cluster.api().set_access(Vec::new());
    let error = health.observe(&context()).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Unavailable);
    assert!(error.is_retryable());
    assert!(error.message.contains("add the rule"), "{error}");

    cluster.api().set_access(vec![AccessRule::all()]);
    cluster.api().set_faults(|_| Fault::Refuse);
    let error = health.observe(&context()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

/// What is missing after a control-plane member, and how far rollouts are.
async fn after_member(client: &Client, before: &Baseline) -> (Vec<String>, u64) {
    let model = migrate_kube::observe(client, Moment::EPOCH).await.unwrap();
    let target = model.control_plane[0].version.clone();
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let member = VerifyScope::ControlPlane {
        member: "control-plane".into(),
    };
    let health = ClusterHealth::new(client.clone());
    match health
        .run(&context(), &input, &member, before)
        .await
        .unwrap()
    {
        Verdict::Pending {
            missing, progress, ..
        } => (missing.into_iter().map(|it| it.code).collect(), progress),
        Verdict::Pass { .. } => (Vec::new(), 0),
        verdict => panic!("{verdict:?}"),
    }
}

/// kube-proxy on 120 nodes, given a new template as `kubeadm upgrade apply` does.
/// Gives how far its rollout is at each look until the verification passes.
async fn rolled_on_120_nodes(down: Option<&str>) -> Vec<u64> {
    let cluster = SimCluster::builder()
        .nodes(Pool::new("general", 120))
        .workload(Workload::daemon_set("kube-system", "kube-proxy"))
        .start()
        .await
        .unwrap();
    let settled = cluster.wait_until_settled(Duration::from_secs(600)).await;
    settled.unwrap();
    if let Some(node) = down {
        cluster.set_node_fault(node, NodeFault::Dead);
        sleep(Duration::from_secs(120)).await;
    }
    let client = cluster.client();
    let before = look(&client).await;
    let template =
        json!({ "spec": { "template": { "metadata": { "annotations": { "v": "2" } } } } });
    let proxies = kube::Api::<kube::core::DynamicObject>::namespaced_with(
        client.clone(),
        "kube-system",
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "apps",
            "v1",
            "DaemonSet",
        )),
    );
    let patch = kube::api::Patch::Merge(template);
    let params = kube::api::PatchParams::default();
    proxies.patch("kube-proxy", &params, &patch).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let (missing, progress) = after_member(&client, &before).await;
        if missing.is_empty() {
            return seen;
        }
        assert!(seen.len() < 400, "{missing:?} after {seen:?}");
        // A pod that came between two lists is missed, and no rollout.
        if missing.iter().any(|code| code == "KM-VERIFY-010") {
            seen.push(progress);
        }
        sleep(Duration::from_secs(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_on_many_nodes_shows_how_it_gets_on() {
    let seen = rolled_on_120_nodes(None).await;
    assert!(seen.len() > 10, "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.last() > Some(&100), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_down_since_before_does_not_hold_up_the_run() {
    let seen = rolled_on_120_nodes(Some("general-7")).await;
    assert!(seen.len() < 3, "{seen:?}");
}
