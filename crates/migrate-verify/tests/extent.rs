//! What an observation reads: no more than it is for, and enough.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use migrate_core::steps::{Baseline, Verdict, VerifyScope};
use migrate_core::{Fence, Moment, Policy, StepContext, StepInput, VerifyMigration, WorkloadId};
use migrate_sim::{Pool, SimCluster, Workload};
use migrate_verify::ClusterHealth;

/// Three nodes, kube-proxy, an agent, and three workloads in two namespaces.
async fn cluster() -> SimCluster {
    let cluster = SimCluster::builder()
        .nodes(Pool::new("general", 3))
        .workload(Workload::daemon_set("kube-system", "kube-proxy"))
        .workload(Workload::daemon_set("agents", "log"))
        .workload(Workload::deployment("shop", "web", 3))
        .workload(Workload::stateful_set("shop", "db", 3))
        .workload(Workload::deployment("other", "api", 1))
        .start()
        .await
        .unwrap();
    cluster
        .wait_until_settled(Duration::from_secs(600))
        .await
        .unwrap();
    cluster
}

/// Paths and queries of requests.
type Asked = Arc<Mutex<BTreeSet<String>>>;

/// A client that takes note of what it asks.
fn noting(cluster: &SimCluster, asked: &Asked) -> Client {
    let (client, asked) = (cluster.client(), Arc::clone(asked));
    let send = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().to_string().replace("%3D", "=");
        asked.lock().unwrap().insert(path.replace("?&", "?"));
        let client = client.clone();
        let answer: BoxFuture<'static, Result<Response<Body>, kube::Error>> =
            Box::pin(async move { client.send(request).await });
        answer
    });
    Client::new(send, "default")
}

struct Case {
    cluster: SimCluster,
    asked: Asked,
    health: ClusterHealth,
    input: StepInput,
    before: Baseline,
    /// A node without pods of the namespace `other`.
    node: String,
}

fn context() -> StepContext {
    StepContext::new(Arc::new(|| Moment::EPOCH), Fence::without_lease("look"))
}

impl Case {
    async fn new() -> Self {
        let cluster = cluster().await;
        let asked = Asked::default();
        let health = ClusterHealth::new(noting(&cluster, &asked));
        let before = health.observe(&context()).await.unwrap();
        let model = migrate_kube::observe(&cluster.client(), Moment::EPOCH)
            .await
            .unwrap();
        let version = model.control_plane[0].version.clone();
        let mut names = model.nodes.iter().map(|node| node.name.clone());
        let is_apart = |node: &String| {
            let mut pods = model.pods.iter();
            !pods.any(|pod| pod.node.as_ref() == Some(node) && pod.id.namespace == "other")
        };
        let node = names.find(is_apart).unwrap();
        let input = StepInput::new(Arc::new(model), Arc::new(Policy::default()), version);
        Self {
            cluster,
            asked,
            health,
            input,
            before,
            node,
        }
    }

    fn scopes(&self) -> [VerifyScope; 4] {
        let node = self.node.clone();
        let member = self.before.control_plane.keys().next().unwrap().clone();
        [
            VerifyScope::Node { node: node.clone() },
            VerifyScope::workloads_of(node),
            VerifyScope::ControlPlane { member },
            VerifyScope::cluster(),
        ]
    }

    /// What is read for `scope`, as paths.
    async fn read_for(&self, scope: &VerifyScope) -> BTreeSet<String> {
        self.asked.lock().unwrap().clear();
        let scopes = std::slice::from_ref(scope);
        let (cx, before) = (context(), &self.before);
        let look = self.health.observe_for(&cx, &self.input, before, scopes);
        let _ = look.await.unwrap();
        self.asked.lock().unwrap().clone()
    }

    /// The verdicts from a look at the part and from one at the whole.
    async fn verdicts(&self, scope: &VerifyScope) -> [Verdict; 2] {
        let (cx, input, before) = (context(), &self.input, &self.before);
        let whole = self.health.observe(&cx).await.unwrap();
        let part = self.health.run(&cx, input, scope, before).await.unwrap();
        [part, self.health.compare(input, scope, before, &whole)]
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_reads_what_it_is_for() {
    let case = Case::new().await;
    let [node, workloads, member, whole] = case.scopes();
    let pods = |read: BTreeSet<String>| {
        let pods = read.into_iter().filter(|path| path.contains("/pods"));
        pods.collect::<Vec<_>>()
    };
    let named = &case.node;
    let read = case.read_for(&node).await;
    assert!(!read.iter().any(|path| path.contains("deployments")));
    assert_eq!(
        pods(read),
        [format!("/api/v1/pods?fieldSelector=spec.nodeName={named}")]
    );
    assert_eq!(
        pods(case.read_for(&workloads).await),
        ["/api/v1/namespaces/shop/pods?limit=500"]
    );
    let elsewhere = VerifyScope::WorkloadsOf {
        node: case.node.clone(),
        displaced: [WorkloadId::new("Deployment", "other", "moved")].into(),
    };
    assert_eq!(
        pods(case.read_for(&elsewhere).await),
        [
            "/api/v1/namespaces/other/pods?limit=500",
            "/api/v1/namespaces/shop/pods?limit=500",
        ]
    );
    let read = case.read_for(&member).await;
    assert!(read.contains("/api/v1/nodes?limit=500"), "{read:?}");
    assert_eq!(
        pods(read),
        [
            "/api/v1/namespaces/kube-system/pods?labelSelector=component=kube-apiserver",
            "/api/v1/namespaces/kube-system/pods?limit=500",
        ]
    );
    let read = case.read_for(&whole).await;
    assert!(read.contains("/api/v1/pods?limit=500"), "{read:?}");
    assert!(!read.iter().any(|path| path.contains("persistentvolume")));
}

#[tokio::test(start_paused = true)]
async fn a_look_at_a_part_says_what_one_at_the_whole_says() {
    let mut case = Case::new().await;
    for scope in case.scopes() {
        let [part, whole] = case.verdicts(&scope).await;
        assert_eq!(part, whole, "{scope:?}");
        assert_eq!(part, Verdict::passed(), "{scope:?}");
    }
    let before = case.before.nodes.get_mut(&case.node).unwrap();
    assert_eq!(before.daemons, ["agents/log", "kube-system/kube-proxy"]);
    before.csi_drivers.insert("disk.example.com".to_owned());
    case.cluster
        .set_node_fault(&case.node, migrate_sim::NodeFault::Dead);
    tokio::time::sleep(Duration::from_secs(120)).await;
    for scope in case.scopes() {
        let [part, whole] = case.verdicts(&scope).await;
        assert_eq!(part, whole, "{scope:?}");
        assert_ne!(part, Verdict::passed(), "{scope:?}");
    }
}
