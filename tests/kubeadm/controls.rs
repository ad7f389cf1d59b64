//! Negative controls: with a protection taken away, requests fail or the
//! observers object.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use migrate_drain::Drainer;
use migrate_executor::{Report, RunOutcome};
use migrate_testbed::{KubeadmCluster, Node};
use migrate_verify::SETTLE;

use crate::figure;
use crate::lane::broken_rules;
use crate::load::Load;
use crate::real::run::policy;
use crate::run::{POLICY, Way, upgrade};
use crate::shop::{Kind, Shop, WORKLOADS, Workload};
use crate::watched::{self, Seen};

const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// What its users would see without a preStop hook: a Service that sends
/// requests to a pod for as long as it takes the proxies to hear of its end.
const ABRUPT: Workload = Workload {
    name: "abrupt",
    kind: Kind::Deployment { replicas: 2 },
    min_available: Some(1),
    pre_stop: 0,
    node_port: Some(30_084),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn moved_without_a_hook_or_a_budget_requests_fail() {
    let workloads = [WORKLOADS[0], WORKLOADS[1], ABRUPT];
    let Some((cluster, shop)) = watched::open(&workloads).await else {
        return;
    };
    let mut policy = policy(POLICY);
    let drainer = || Drainer::new(cluster.client());

    let work = move_workers(&cluster, drainer().with_policy(policy.clone()));
    let seen = watched::watch("protected", &cluster, &shop, PATIENCE, work).await;
    let failed = |tallies: &crate::load::Tallies, name| tallies.of(name).2;
    assert_eq!(failed(&seen.tallies, "guarded"), 0);
    assert_eq!(failed(&seen.tallies, "unguarded"), 0);
    assert!(
        failed(&seen.tallies, "abrupt") > 0,
        "it has no preStop hook"
    );

    shop.spread(&cluster.client()).await;
    policy.assumed_budgets.enabled = false;
    let work = move_workers(&cluster, drainer().with_policy(policy));
    let seen = watched::watch("no-assumed-budgets", &cluster, &shop, PATIENCE, work).await;
    assert_eq!(failed(&seen.tallies, "guarded"), 0);
    assert!(failed(&seen.tallies, "unguarded") > 100, "it has no budget");
}

/// What updates of a node's system do on many clusters, and what drains are for:
/// each change of packages on a worker restarts its container runtime and ends its
/// shims; containers are then ended by the runtime, on one worker more than on another.
async fn packages_end_containers(cluster: &KubeadmCluster) {
    let script = r#"
        echo $'[Service]\nKillMode=mixed' > /etc/systemd/system/containerd.service.d/ends-all.conf
        systemctl daemon-reload
        echo 'DPkg::Post-Invoke { "systemctl restart containerd && echo once >> /root/restarts"; };' \
            > /etc/apt/apt.conf.d/90runtime
    "#;
    for worker in workers(cluster) {
        worker.script(script).await.unwrap();
    }
}

/// An upgrade in which the runtime of each worker is restarted with its shims.
async fn upgrade_with_the_runtime(name: &str, drained: bool) -> Option<(Seen<Report>, Shop)> {
    let (cluster, shop) = watched::open(&WORKLOADS).await?;
    packages_end_containers(&cluster).await;
    let way = match drained {
        true => Way::protected(&cluster).await,
        false => Way::protected(&cluster).await.without_drain(),
    };
    let load = Load::without_pods(&cluster, &shop).await;
    let work = upgrade(&cluster, way);
    let seen = watched::watch_under(load, name, &cluster, &shop, PATIENCE, work).await;
    println!("{}", seen.result);
    assert_eq!(seen.result.outcome, RunOutcome::Done);
    // As often in one run as in the other: kubeadm, then kubelet and kubectl.
    for worker in workers(&cluster) {
        let said = worker.run(&["cat", "/root/restarts"]).await.unwrap();
        assert_eq!(said.stdout, b"once\nonce\n", "{}", worker.name());
    }
    Some((seen, shop))
}

/// With drains nobody notices that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn a_runtime_that_ends_everything_is_not_noticed_on_drained_nodes() {
    if let Some((seen, shop)) = upgrade_with_the_runtime("runtime", true).await {
        assert_eq!(broken_rules(&seen.changes), Vec::<String>::new());
        seen.tallies.assert_unfailing(&shop, seen.took);
    }
}

/// Without drains requests to both Services fail, and the observers object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn without_a_drain_nodes_change_under_their_pods() {
    let Some((seen, shop)) = upgrade_with_the_runtime("no-drain", false).await else {
        return;
    };
    let broken = broken_rules(&seen.changes);
    println!("{broken:#?}");
    assert!(broken.iter().any(|rule| rule.starts_with("I3")));
    for workload in shop.replicated() {
        let (_, _, failed) = seen.tallies.of(workload.name);
        assert!(failed > 0, "{} was not drained", workload.name);
    }
}

/// Going on as soon as the API and its nodes are back. Which requests that costs is a race and
/// only measured; that workers lose pods before agents are sure to listen again is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn without_settling_workers_are_drained_too_early() {
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let way = Way::protected(&cluster).await.without_settling();
    let passed_over = Arc::clone(&way.passed_over);
    let work = upgrade(&cluster, way);
    let seen = watched::watch("no-settling", &cluster, &shop, PATIENCE, work).await;
    println!("{}", seen.result);
    assert_eq!(seen.result.outcome, RunOutcome::Done);
    let passed_over = passed_over.load(Ordering::Relaxed);
    figure("no-settling.passed-over", passed_over as f64, "1");
    assert!(passed_over > 0, "it had settled all the time");
    // As the lane has it, the other way round.
    let settled_for = seen.settled_for.expect("evictions");
    assert!(settled_for < SETTLE, "{settled_for:?}");
}

/// Drains every worker and gives it back, one after the other.
async fn move_workers(cluster: &KubeadmCluster, drainer: Drainer) {
    for worker in workers(cluster) {
        let report = drainer.drain([worker.name()]).await.unwrap();
        let _empty = report.ensure_empty().unwrap();
        drainer.release([worker.name()]).await.unwrap();
    }
}

fn workers(cluster: &KubeadmCluster) -> impl Iterator<Item = &Node> {
    let nodes = cluster.nodes().iter();
    nodes.filter(|node| !node.is_control_plane())
}
