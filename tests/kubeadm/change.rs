//! A change that every node's agents see: kubelets and kube-proxies that watch, and
//! such as are frozen.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kube::Client;
use migrate_core::{
    CanaryChange as Policy, Clock, Fence, Finding, ReachFrom, SeeChange, StepContext, StepError,
};
use migrate_kube::TokioClock;
use migrate_testbed::{KubeadmCluster, Node, skip_or_fail};
use migrate_upgrade::{Kubeadm, Ssh};
use migrate_verify::CanaryChange;
use serde_json::Value;
use tokio::time::Instant;

use crate::canary::NAMESPACE;
use crate::real::observer::Change;
use crate::run::fresh;
use crate::shop::items;
use crate::{figure, job};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes; part of cargo xtask extended"]
async fn agents_see_it_unless_they_are_frozen() {
    let builder = KubeadmCluster::builder().workers(1).minor(36);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let client = cluster.client();
    job::namespace(&client, NAMESPACE, "restricted").await;
    let [_, worker] = cluster.nodes() else {
        unreachable!("two nodes")
    };
    let shell = Arc::new(Ssh::new().with_config(cluster.ssh_config()));
    let driver = Arc::new(Kubeadm::new(shell));
    let change = CanaryChange::new(client.clone(), &Policy::default())
        .with_fresh(fresh(&cluster).await)
        .with_reach(driver as Arc<dyn ReachFrom>);

    let began = Instant::now();
    assert_eq!(look(&change).await, []);
    figure("change.look", began.elapsed().as_secs_f64(), "s");

    for (program, code) in [
        ("kubelet", "KM-VERIFY-021"),
        ("kube-proxy", "KM-VERIFY-022"),
    ] {
        signal(worker, "STOP", program).await;
        let found = look(&change).await;
        signal(worker, "CONT", program).await;
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.code.as_str(), &*it.object.name))
            .collect();
        assert_eq!(found, [(code, worker.name())]);
        assert_eq!(look(&change).await, [], "{program} goes on");
    }
    assert_eq!(left(&client).await, 0);
}

async fn look(change: &CanaryChange) -> Vec<Finding> {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    let context = StepContext::new(clock, Fence::without_lease("rig"));
    let found = change.see_change(&context).await.unwrap();
    found.iter().for_each(|finding| println!("{finding}"));
    found
}

async fn signal(node: &Node, signal: &str, program: &str) {
    let script = format!(
        "for process in /proc/[0-9]*; do
           if [[ $(cat $process/comm) == {program} ]]; then kill -{signal} ${{process#/proc/}}; fi
         done"
    );
    node.script(&script).await.unwrap();
}

/// What is still there of changes.
async fn left(client: &Client) -> usize {
    let mut left = 0;
    for path in [
        "/api/v1/namespaces/kube-migrate-canary/pods",
        "/api/v1/namespaces/kube-migrate-canary/services",
        "/apis/discovery.k8s.io/v1/namespaces/kube-migrate-canary/endpointslices",
    ] {
        left += items(client, path).await.len();
    }
    left
}

/// Whether changes are made of it.
pub(crate) fn is_of_a_change(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    !labels["kube-migrate.dev/change"].is_null()
}

/// Asks nodes through another, and writes down which have reached what.
pub(crate) struct Recorded {
    pub(crate) asks: Arc<dyn ReachFrom>,
    pub(crate) reached: Reached,
}

/// Nodes, and addresses of Services that they have reached.
pub(crate) type Reached = Arc<Mutex<Vec<(String, SocketAddr)>>>;

#[async_trait]
impl ReachFrom for Recorded {
    async fn reach(
        &self,
        cx: &StepContext,
        node: &str,
        address: SocketAddr,
    ) -> Result<bool, StepError> {
        let is_reached = self.asks.reach(cx, node, address).await?;
        if is_reached {
            let mut reached = self.reached.lock().unwrap();
            reached.push((node.to_owned(), address));
        }
        Ok(is_reached)
    }
}

/// Every node's kubelet has refused a pod, and the node has reached a Service, after
/// each of the times that a part of the control plane was away: two for each member.
pub(crate) fn was_seen_by_every_node(
    cluster: &KubeadmCluster,
    changes: &[Change],
    reached: &Reached,
    members: usize,
) {
    let pods = changes.iter().filter(|change| change.kind == "Pod");
    let refused = pods
        .map(|change| &change.object)
        .filter(|pod| is_of_a_change(pod) && pod["status"]["reason"] == "NodeAffinity");
    let refused: BTreeSet<(&str, &str)> = refused
        .filter_map(|pod| {
            Some((
                pod["spec"]["nodeName"].as_str()?,
                pod["metadata"]["uid"].as_str()?,
            ))
        })
        .collect();
    let reached = reached.lock().unwrap();
    for node in cluster.nodes() {
        let of_node = refused.iter().filter(|(name, _)| *name == node.name());
        let times = of_node.count();
        assert!(times >= members * 2, "{} refused: {times}", node.name());
        let of_node = reached.iter().filter(|(name, _)| name == node.name());
        let times = of_node.count();
        assert!(times >= members * 2, "{} reached: {times}", node.name());
    }
}
