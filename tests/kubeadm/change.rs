//! A change that every node's agents see: kubelets and kube-proxies that watch, and
//! such as are frozen.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Client;
use migrate_core::{
    CanaryChange as Policy, Clock, Fence, Finding, ReachFrom, SeeChange, StepContext,
};
use migrate_kube::TokioClock;
use migrate_testbed::{KubeadmCluster, Node, skip_or_fail};
use migrate_upgrade::{Kubeadm, Ssh};
use migrate_verify::CanaryChange;
use serde_json::Value;
use tokio::time::Instant;

use crate::canary::NAMESPACE;
use crate::real::observer::Change;
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

/// Every node's kubelet has refused a pod, after each of the two times that the
/// control plane was away.
pub(crate) fn was_seen_by_every_node(cluster: &KubeadmCluster, changes: &[Change]) {
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
    for node in cluster.nodes() {
        let of_node = refused.iter().filter(|(name, _)| *name == node.name());
        let times = of_node.count();
        assert!(times >= 2, "{}: {times}", node.name());
    }
}
