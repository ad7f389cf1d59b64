//! What one look costs the API at the size of a large cluster, 150,000 pods on
//! 5,000 nodes in 500 namespaces: requests, bytes and time of each scope.
//!
//! Prints lines `figure NAME VALUE UNIT`. `VERIFY_BENCH_PODS` sets another
//! size. The time is that of the embedded API and of reading its answers, on
//! one core; bytes are of slim objects, so a real cluster's are several times
//! as many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use migrate_core::steps::VerifyScope;
use migrate_core::{Fence, Moment, Policy, StepContext, StepInput, VerifyMigration};
use migrate_sim::api::ApiServer;
use migrate_sim::store::{DEFAULT_START_MS, Resource, Shared, Store};
use migrate_verify::ClusterHealth;
use serde_json::{Value, json};
use tokio::time::Instant;

type Error = Box<dyn std::error::Error + Send + Sync>;

const NAMESPACES: usize = 500;
const PODS_PER_NODE: usize = 30;
const PODS_PER_APP: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let pods = std::env::var("VERIFY_BENCH_PODS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(150_000);
    let server = ApiServer::new(Arc::new(Shared::new(load(pods)?)), "v1.36.3");
    server.set_latency(Duration::ZERO);
    let meter = Meter::default();
    let client = meter.client(&server);
    let cx = StepContext::new(Arc::new(|| Moment::EPOCH), Fence::without_lease("look"));

    let start = Instant::now();
    let model = migrate_kube::observe(&client, Moment::EPOCH).await?;
    meter.print("model", start);

    let health = ClusterHealth::new(client.clone());
    let start = Instant::now();
    let before = health.observe(&cx).await?;
    meter.print("whole", start);

    let target = model.control_plane[0].version.clone();
    let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), target);
    let node = "node-00042".to_owned();
    let member = "control-plane".to_owned();
    for (name, scope) in [
        ("node", VerifyScope::Node { node: node.clone() }),
        ("workloads_of", VerifyScope::workloads_of(node)),
        ("control_plane", VerifyScope::ControlPlane { member }),
    ] {
        let start = Instant::now();
        let _ = health.run(&cx, &input, &scope, &before).await?;
        meter.print(name, start);
    }
    Ok(())
}

/// Counts requests and the bytes of their answers.
#[derive(Clone, Default)]
struct Meter {
    requests: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Meter {
    fn client(&self, server: &ApiServer) -> Client {
        let (meter, client) = (self.clone(), server.client());
        let send = tower::service_fn(move |request: Request<Body>| {
            let (meter, client) = (meter.clone(), client.clone());
            let answer: BoxFuture<'static, Result<Response<Body>, kube::Error>> =
                Box::pin(async move {
                    meter.requests.fetch_add(1, Ordering::Relaxed);
                    let (head, body) = client.send(request).await?.into_parts();
                    let body = body.collect().await?.to_bytes();
                    meter.bytes.fetch_add(body.len(), Ordering::Relaxed);
                    Ok(Response::from_parts(head, Body::from(body.to_vec())))
                });
            answer
        });
        Client::new(send, "default")
    }

    fn print(&self, name: &str, start: Instant) {
        let took = start.elapsed().as_secs_f64();
        let requests = self.requests.swap(0, Ordering::Relaxed);
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        println!("figure look_{name}_requests {requests} requests");
        println!("figure look_{name}_bytes {} kB", bytes / 1000);
        println!("figure look_{name}_time {:.0} ms", took * 1e3);
    }
}

fn load(pods: usize) -> Result<Store, Error> {
    let mut store = Store::new(1, DEFAULT_START_MS);
    for name in (0..NAMESPACES).map(namespace) {
        store.create(
            Resource::NAMESPACES,
            json!({ "metadata": { "name": name } }),
        )?;
    }
    for index in 0..pods.div_ceil(PODS_PER_NODE) {
        let name = format!("node-{index:05}");
        store.create(Resource::NODES, node(&name))?;
        store.create(Resource::PODS, agent(&name))?;
        store.create(
            Resource::LEASES,
            json!({ "metadata": { "name": name, "namespace": "kube-node-lease" },
                    "spec": { "holderIdentity": name, "leaseDurationSeconds": 40,
                              "renewTime": "2026-11-22T22:26:14.000000Z" } }),
        )?;
        store.create(
            Resource::CSI_NODES,
            json!({ "metadata": { "name": name },
                    "spec": { "drivers": [{ "name": "disk.example.com", "nodeID": name }] } }),
        )?;
    }
    let apps = pods.div_ceil(PODS_PER_APP);
    for app in 0..apps {
        let spec = json!({
            "replicas": PODS_PER_APP, "selector": { "matchLabels": { "app": app.to_string() } },
            "template": { "metadata": { "labels": { "app": app.to_string() } },
                          "spec": { "containers": [{ "name": "main", "image": "app:1" }] } } });
        let metadata = json!({ "name": format!("app-{app}"), "namespace": namespace(app) });
        let deployment = json!({ "metadata": metadata, "spec": spec });
        store.create(Resource::DEPLOYMENTS, deployment)?;
        let owner = json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "controller": true,
                             "name": format!("app-{app}"), "uid": format!("deployment-{app}") }]);
        let metadata = json!({ "name": format!("app-{app}-7d9c6b5f4"), "uid": format!("set-{app}"),
                               "namespace": namespace(app), "ownerReferences": owner });
        let set = json!({ "metadata": metadata, "spec": spec });
        store.create(Resource::REPLICA_SETS, set)?;
    }
    for index in 0..pods {
        store.create(Resource::PODS, pod(index, apps))?;
    }
    Ok(store)
}

fn namespace(app: usize) -> String {
    format!("ns-{:03}", app % NAMESPACES)
}

fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": {
            "allocatable": { "cpu": "16", "memory": "64Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": "v1.36.3" },
        },
    })
}

fn agent(node: &str) -> Value {
    let mut agent = bare(&format!("agent-{node}"), "kube-system", node);
    agent["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "DaemonSet",
        "name": "agent", "uid": "agent", "controller": true }]);
    agent
}

/// The pods of an app are on nodes far apart.
fn pod(index: usize, apps: usize) -> Value {
    let app = index % apps;
    let node = format!("node-{:05}", index / PODS_PER_NODE);
    let name = format!("app-{app}-7d9c6b5f4-{index:06}");
    let mut pod = bare(&name, &namespace(app), &node);
    pod["metadata"]["ownerReferences"] = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": format!("app-{app}-7d9c6b5f4"), "uid": format!("set-{app}"), "controller": true }]);
    pod
}

fn bare(name: &str, namespace: &str, node: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "nodeName": node,
            "containers": [{
                "name": "main", "image": "registry.example/app:1.2.3",
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
            }],
        },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "main", "ready": true, "restartCount": 0 }],
        },
    })
}
