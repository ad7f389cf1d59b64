//! Nodes tried out by a pod: what a kubelet, a network plugin, kube-proxy and
//! CoreDNS make of it, and that it fails where one of them does not work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use migrate_core::{CanaryPod, Clock, Fence, StepContext, StepError, TryNode};
use migrate_kube::TokioClock;
use migrate_testbed::{KubeadmCluster, Node, eventually, skip_or_fail};
use migrate_verify::CanaryTrial;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::real::observer::Change;
use crate::shop::items;
use crate::{figure, job};

/// Where trials are, if the policy does not say.
pub(crate) const NAMESPACE: &str = "kube-migrate-canary";
/// What the rig has for them.
const IMAGE: &str = "testbed.local/shell:1";

const PATIENCE: Duration = Duration::from_secs(60);
/// Stands for a node whose pods reach no Service: what they send to API servers
/// is refused, once kube-proxy has put one in the place of the Service.
const CUT_OFF: &str = "FORWARD -p tcp --dport 6443 -j REJECT";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes; part of cargo xtask extended"]
async fn a_pod_tells_what_does_not_work_on_its_node() {
    let builder = KubeadmCluster::builder().workers(1).minor(36);
    let Some(cluster) = skip_or_fail(builder.shell_image().start().await) else {
        return;
    };
    let client = cluster.client();
    job::namespace(&client, NAMESPACE, "restricted").await;
    let [plane, worker] = cluster.nodes() else {
        unreachable!("two nodes")
    };
    // Ready nodes do not wait for it.
    dns(&client, 2).await;
    for node in [plane, worker] {
        let began = Instant::now();
        try_out(&client, node).await.unwrap();
        figure("canary.trial", began.elapsed().as_secs_f64(), "s");
    }

    worker
        .script(&format!("iptables -I {CUT_OFF}"))
        .await
        .unwrap();
    let cut_off = try_out(&client, worker).await.unwrap_err().to_string();
    println!("{cut_off}");
    assert!(cut_off.contains("by its cluster address"), "{cut_off}");
    try_out(&client, plane).await.unwrap();
    worker
        .script(&format!("iptables -D {CUT_OFF}"))
        .await
        .unwrap();
    try_out(&client, worker).await.unwrap();

    dns(&client, 0).await;
    let nameless = try_out(&client, worker).await.unwrap_err().to_string();
    println!("{nameless}");
    assert!(nameless.contains("by its name"), "{nameless}");
    dns(&client, 2).await;
    try_out(&client, worker).await.unwrap();

    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let left = items(&client, &path).await;
    let left = left
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(left.count(), 0, "they are removed");
}

async fn try_out(client: &Client, node: &Node) -> Result<(), StepError> {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    let context = StepContext::new(clock, Fence::without_lease("rig"));
    let trial = CanaryTrial::new(client.clone(), CanaryPod::new(IMAGE));
    trial.try_node(&context, node.name()).await
}

/// CoreDNS has so many servers, and answers accordingly.
async fn dns(client: &Client, replicas: u32) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
    let all: Api<DynamicObject> = Api::namespaced_with(client.clone(), "kube-system", &kind);
    let scale = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    all.patch("coredns", &PatchParams::default(), &scale)
        .await
        .unwrap();
    let is_dns = |pod: &Value| pod["metadata"]["labels"]["k8s-app"] == "kube-dns";
    eventually("CoreDNS to be scaled", PATIENCE, || async {
        let status = all.get("coredns").await?.data["status"].take();
        let ready = status["readyReplicas"].as_u64().unwrap_or(0);
        // Those that end go on answering as long as there are no others.
        let pods = items(client, "/api/v1/namespaces/kube-system/pods").await;
        let there = pods.iter().filter(|pod| is_dns(pod)).count();
        Ok::<_, kube::Error>(ready == u64::from(replicas) && there == replicas as usize)
    })
    .await
    .unwrap();
}

/// On each node a trial has ended well, and none has failed.
pub(crate) fn has_tried_every_node(cluster: &KubeadmCluster, changes: &[Change]) {
    let names: BTreeSet<&str> = cluster.nodes().iter().map(Node::name).collect();
    assert_eq!(nodes_with_trials(changes, "Succeeded"), names);
    assert_eq!(nodes_with_trials(changes, "Failed"), BTreeSet::new());
}

fn nodes_with_trials<'a>(changes: &'a [Change], phase: &str) -> BTreeSet<&'a str> {
    let pods = changes.iter().filter(|change| change.kind == "Pod");
    let is_meant =
        |pod: &&Value| pod["metadata"]["namespace"] == NAMESPACE && pod["status"]["phase"] == phase;
    let meant = pods.map(|change| &change.object).filter(is_meant);
    meant
        .filter_map(|pod| pod["spec"]["nodeName"].as_str())
        .collect()
}
