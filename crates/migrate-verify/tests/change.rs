//! The change that agents have to see, on the embedded cluster.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod canaries;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use canaries::{NAMESPACE, context, input, node};
use kube::Client;
use kube::client::Body;
use migrate_core::{
    CanaryChange as Table, CanaryPod, Finding, Policy, PrepareEnvironment, ReachFrom, SeeChange,
    StepContext, StepError, StepErrorKind, TryNode,
};
use migrate_sim::api::{AccessRule, Fault};
use migrate_sim::store::{ApiError, Resource};
use migrate_sim::{NodeFault, SimCluster};
use migrate_verify::{CanaryChange, CanaryTrial};
use serde_json::json;
use tokio::time::Instant;

const NODES: u32 = 20;

async fn cluster() -> SimCluster {
    cluster_of(NODES).await
}

async fn cluster_of(nodes: u32) -> SimCluster {
    let api = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "namespace": "default" },
        "addressType": "IPv4", "endpoints": [{ "addresses": ["192.0.2.1"] }],
        "ports": [{ "name": "https", "port": 6443 }],
    });
    canaries::cluster(nodes, [api]).await
}

fn change(cluster: &SimCluster) -> CanaryChange {
    CanaryChange::new(cluster.client(), &Table::default())
}

async fn see(cluster: &SimCluster) -> Result<Vec<Finding>, StepError> {
    change(cluster).see_change(&context(cluster)).await
}

/// Codes and objects.
fn told(findings: &[Finding]) -> Vec<(String, String)> {
    let told = |it: &Finding| (it.code.to_string(), it.object.name.clone());
    findings.iter().map(told).collect()
}

/// Everything that a change is made of and that is there.
fn left(cluster: &SimCluster) -> usize {
    let store = cluster.store();
    [
        Resource::PODS,
        Resource::SERVICES,
        Resource::ENDPOINT_SLICES,
    ]
    .into_iter()
    .map(|kind| store.list(kind, Some(NAMESPACE)).count())
    .sum()
}

/// Kube-proxies that have not seen a Service: they reach nothing.
#[derive(Default)]
struct Proxies {
    deaf: BTreeSet<String>,
    asked: Mutex<BTreeSet<(String, SocketAddr)>>,
}

#[async_trait]
impl ReachFrom for Proxies {
    async fn reach(&self, _: &StepContext, node: &str, to: SocketAddr) -> Result<bool, StepError> {
        self.asked.lock().unwrap().insert((node.to_owned(), to));
        Ok(!self.deaf.contains(node))
    }
}

#[tokio::test(start_paused = true)]
async fn every_kubelet_refuses_a_pod_and_nothing_stays() {
    let cluster = cluster().await;
    let began = Instant::now();
    assert_eq!(see(&cluster).await.unwrap(), []);
    // So long no call may have been refused.
    let took = began.elapsed();
    let (least, most) = (Duration::from_secs(5), Duration::from_secs(8));
    assert!(least <= took && took < most, "{took:?}");
    assert_eq!(left(&cluster), 0);
    let audit = cluster.audit();
    let made = |entry: &&migrate_sim::api::AuditEntry| {
        entry.request.resource == "pods" && entry.request.verb == "create"
    };
    assert_eq!(audit.iter().filter(made).count(), NODES as usize);
}

#[tokio::test(start_paused = true)]
async fn a_kubelet_without_its_watch_is_named_until_it_is_back() {
    let cluster = cluster().await;
    cluster.set_node_fault(&node(3), NodeFault::Deaf);
    let found = see(&cluster).await.unwrap();
    assert_eq!(told(&found), [("KM-VERIFY-021".to_owned(), node(3))]);
    assert_eq!(left(&cluster), 0, "also where nobody has seen it");
    cluster.set_node_fault(&node(3), NodeFault::None);
    assert_eq!(see(&cluster).await.unwrap(), []);
    // One that is not Ready is not asked.
    cluster.set_node_fault(&node(3), NodeFault::Dead);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(see(&cluster).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn every_node_is_asked_whether_it_reaches_a_new_service() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    let mut asked = BTreeSet::new();
    for deaf in [None, Some(node(1))] {
        let proxies = Arc::new(Proxies {
            deaf: deaf.iter().cloned().collect(),
            ..Proxies::default()
        });
        let change = change(&cluster).with_reach(proxies.clone());
        let found = change.see_change(&cx).await.unwrap();
        let expected = deaf.map(|node| ("KM-VERIFY-022".to_owned(), node));
        assert_eq!(told(&found), expected.into_iter().collect::<Vec<_>>());
        assert_eq!(left(&cluster), 0);
        let now = proxies.asked.lock().unwrap().clone();
        assert_eq!(now.len(), NODES as usize);
        let addresses: BTreeSet<SocketAddr> = now.iter().map(|(_, to)| *to).collect();
        assert_eq!(addresses.len(), 1);
        asked.extend(addresses);
    }
    assert!(asked.iter().all(|to| to.port() == 6443), "{asked:?}");
}

/// What a server says that has not read its roles.
fn not_yet() -> ApiError {
    ApiError::Other {
        code: 403,
        reason: "Forbidden".into(),
        message: "RBAC: clusterrole not found".into(),
        retry_after_seconds: None,
    }
}

/// A refusal that passes costs a look; one in the midst of it does too.
#[tokio::test(start_paused = true)]
async fn a_look_in_which_a_call_was_refused_does_not_count() {
    let cluster = cluster().await;
    for at in [0, 2, NODES as usize, NODES as usize + 4] {
        let calls = AtomicUsize::new(0);
        cluster.api().set_faults(move |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            match call == at {
                true => Fault::Answer(not_yet()),
                false => Fault::Pass,
            }
        });
        let error = see(&cluster).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Unavailable, "{at}: {error}");
        assert_eq!(see(&cluster).await.unwrap(), []);
        assert_eq!(left(&cluster), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_runner_that_died_has_left_is_removed_by_the_next() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    {
        let first = change(&cluster).with_reach(Arc::new(Proxies::default()));
        let dies = tokio::time::timeout(Duration::from_secs(3), first.see_change(&cx));
        dies.await.unwrap_err();
    }
    assert_eq!(left(&cluster), NODES as usize + 2);
    // A trial has nothing to do with it.
    let trial = CanaryTrial::new(cluster.client(), CanaryPod::new("busybox"));
    trial.try_node(&cx, &node(0)).await.unwrap();
    assert!(left(&cluster) >= NODES as usize + 2);
    let next = change(&cluster).with_reach(Arc::new(Proxies::default()));
    assert_eq!(next.see_change(&cx).await.unwrap(), []);
    assert_eq!(left(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn looks_that_are_asked_for_at_once_do_not_take_from_each_other() {
    let cluster = cluster().await;
    let (cx, change) = (context(&cluster), change(&cluster));
    let looks = tokio::join!(change.see_change(&cx), change.see_change(&cx));
    assert_eq!((looks.0.unwrap(), looks.1.unwrap()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_cancelled_leaves_nothing() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        cx.cancel.cancel();
    };
    let change = change(&cluster);
    let (seen, ()) = tokio::join!(change.see_change(&cx), stop);
    assert_eq!(seen.unwrap_err().kind, StepErrorKind::Cancelled);
    assert_eq!(left(&cluster), 0);
}

async fn prepare(cluster: &SimCluster, policy: Policy) -> Vec<Finding> {
    let input = input(cluster, policy).await;
    let change = change(cluster).with_reach(Arc::new(Proxies::default()));
    change
        .run(&context(cluster), &input)
        .await
        .unwrap()
        .findings
}

#[tokio::test(start_paused = true)]
async fn each_right_and_the_time_are_looked_at_before_the_start() {
    let cluster = cluster().await;
    assert_eq!(prepare(&cluster, Policy::default()).await, []);
    assert_eq!(left(&cluster), 0);
    // 20 nodes: 20 s and two times 5 s, 30 s for a removal before and after, and a list.
    for (verify, is_enough) in [(90, false), (91, true)] {
        let mut policy = Policy::default();
        policy.deadlines.verify = Duration::from_secs(verify);
        let found = prepare(&cluster, policy).await;
        let cut_off = ("KM-CANARY-002".to_owned(), "canary-change".to_owned());
        let expected = (!is_enough).then_some(cut_off);
        assert_eq!(told(&found), expected.into_iter().collect::<Vec<_>>());
    }

    let slices = ("discovery.k8s.io", "endpointslices");
    let kinds = [("", "pods"), ("", "services"), slices];
    let made = kinds
        .into_iter()
        .flat_map(|(group, kind)| ["create", "delete", "list"].map(|verb| (verb, group, kind)));
    let all: Vec<_> = made.chain([("get", slices.0, slices.1)]).collect();
    let reads = || AccessRule::new(["list", "get"], ["*"], ["nodes", "namespaces"]);
    // The model was read with every right.
    let input = input(&cluster, Policy::default()).await;
    for missing in &all {
        let others = all.iter().filter(|right| *right != missing);
        let rules = others.map(|(verb, group, kind)| AccessRule::new([*verb], [*group], [*kind]));
        cluster.api().set_access(rules.chain([reads()]));
        let change = change(&cluster).with_reach(Arc::new(Proxies::default()));
        let found = change.run(&context(&cluster), &input).await;
        let found = found.unwrap().findings;
        let codes = told(&found);
        let blocked = ("KM-CANARY-001".to_owned(), NAMESPACE.to_owned());
        assert_eq!(codes, [blocked], "{missing:?}");
        let rule = format!("resources: [\"{}\"], verbs: [\"{}\"]", missing.2, missing.0);
        assert!(
            found[0].evidence.contains(&rule),
            "{missing:?}: {}",
            found[0]
        );
    }
}

/// Three API servers behind a balancer that takes turns with connections, of which
/// the last refuses what it is asked for so long; and how often they were asked.
fn three_servers(cluster: &SimCluster, refuses_for: Duration) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (connections, api) = (Arc::clone(&asked), cluster.client());
    let until = Instant::now() + refuses_for;
    let send = tower::service_fn(move |request: http::Request<Body>| {
        let server = connections.fetch_add(1, Ordering::Relaxed) % 3;
        let (api, refuses) = (api.clone(), server == 2 && Instant::now() < until);
        async move {
            if !refuses {
                return api.send(request).await;
            }
            let status = json!({ "kind": "Status", "code": 403, "reason": "Forbidden" });
            let body = Body::from(status.to_string().into_bytes());
            Ok(http::Response::builder().status(403).body(body).unwrap())
        }
    });
    (Client::new(send, "default"), asked)
}

/// The connections that are kept lead to a server that refuses nothing.
#[tokio::test(start_paused = true)]
async fn every_api_server_is_asked_for_refusals() {
    let cluster = cluster().await;
    let cx = context(&cluster);
    for refuses_for in [2, 4].map(Duration::from_secs) {
        let (fresh, asked) = three_servers(&cluster, refuses_for);
        let change = change(&cluster).with_fresh(fresh);
        let error = change.see_change(&cx).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Unavailable, "{error}");
        assert_eq!(left(&cluster), 0);
        tokio::time::sleep(refuses_for).await;
        let before = asked.load(Ordering::Relaxed);
        assert_eq!(change.see_change(&cx).await.unwrap(), []);
        // A control plane without nodes counts as one server.
        let times = asked.load(Ordering::Relaxed) - before;
        assert!((10..=14).contains(&times), "{times}");
    }
}

/// Nodes that do not answer at all.
struct Hanging(BTreeSet<String>);

#[async_trait]
impl ReachFrom for Hanging {
    async fn reach(&self, _: &StepContext, node: &str, _: SocketAddr) -> Result<bool, StepError> {
        if self.0.contains(node) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(true)
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_ends_however_many_nodes_hang_and_names_what_was_not_seen() {
    let cluster = cluster_of(100).await;
    let cx = context(&cluster);
    for (hang, named_in_all) in [(8, 8), (60, 99)] {
        let hanging: BTreeSet<String> = (0..hang).map(node).collect();
        let change = change(&cluster).with_reach(Arc::new(Hanging(hanging.clone())));
        let began = Instant::now();
        let found = change.see_change(&cx).await.unwrap();
        let took = began.elapsed();
        assert_eq!(left(&cluster), 0);
        // 20 s, 5 s for each sixteen nodes, and what it takes to remove all.
        assert!(
            took < Duration::from_secs(20 + 7 * 5 + 3),
            "{hang}: {took:?}"
        );
        let named = told(&found).into_iter().map(|(_, name)| name);
        let mut named: BTreeSet<String> = named.collect();
        let not_asked = found
            .iter()
            .filter(|it| it.evidence.contains("was not asked"));
        let not_asked = not_asked.count();
        assert_eq!((named.len(), found.len()), (named_in_all, named_in_all));
        // A few leave the others their turn; three times sixteen have theirs, and one
        // that answers at once.
        assert_eq!(not_asked, if hang < 16 { 0 } else { 100 - 48 - 1 });
        named.retain(|name| hanging.contains(name));
        assert_eq!(named, hanging);
    }
}
