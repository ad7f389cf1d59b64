//! Negative controls: with a protection taken away, requests fail or the
//! observers object.

use std::time::Duration;

use migrate_drain::Drainer;
use migrate_testbed::KubeadmCluster;

use crate::lane::broken_rules;
use crate::real::run::policy;
use crate::run::{POLICY, Way, upgrade};
use crate::shop::{Kind, WORKLOADS, Workload};
use crate::watched;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn without_a_drain_nodes_change_under_their_pods() {
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let work = upgrade(&cluster, Way::protected(&cluster).without_drain());
    let seen = watched::watch("no-drain", &cluster, &shop, PATIENCE, work).await;
    println!("{}", seen.result);
    let broken = broken_rules(&seen.changes);
    println!("{broken:#?}");
    assert!(broken.iter().any(|rule| rule.starts_with("I3")));
}

/// A race, and so only measured: what is lost by going on as soon as the API
/// and the nodes are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn without_settling_the_run_is_measured() {
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let work = upgrade(&cluster, Way::protected(&cluster).without_settling());
    let seen = watched::watch("no-settling", &cluster, &shop, PATIENCE, work).await;
    println!("{}", seen.result);
}

/// Drains every worker and gives it back, one after the other.
async fn move_workers(cluster: &KubeadmCluster, drainer: Drainer) {
    let workers = cluster
        .nodes()
        .iter()
        .filter(|node| !node.is_control_plane());
    for worker in workers {
        let report = drainer.drain([worker.name()]).await.unwrap();
        let _empty = report.ensure_empty().unwrap();
        drainer.release([worker.name()]).await.unwrap();
    }
}
