//! The demonstration cluster comes up, stays quiet, and is the same every time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use migrate_sim::store::Resource;
use migrate_sim::{SimCluster, is_settled};

#[tokio::test(start_paused = true)]
async fn the_demo_comes_up_with_every_pod_ready() {
    let cluster = SimCluster::demo(1).await.unwrap();
    let store = cluster.store();
    assert_eq!(store.count(Resource::NODES), 15);
    assert!(
        (280..=320).contains(&store.count(Resource::PODS)),
        "{}",
        store.count(Resource::PODS)
    );
    let namespaces = store
        .list(Resource::PODS, None)
        .map(|pod| pod.namespace.clone());
    assert!(namespaces.collect::<std::collections::BTreeSet<_>>().len() >= 10);
    // Every budget lets at least one pod go, so that the cluster can be drained.
    for budget in store.list(Resource::POD_DISRUPTION_BUDGETS, None) {
        let allowed = budget.json["status"]["disruptionsAllowed"].as_i64();
        assert!(
            allowed >= Some(1),
            "{}/{}: {}",
            budget.namespace,
            budget.name,
            budget.json["status"]
        );
    }
    println!(
        "{} pods at rv {} after {} steps",
        store.count(Resource::PODS),
        store.resource_version(),
        cluster.steps()
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_cluster_does_nothing() {
    let cluster = SimCluster::demo(1).await.unwrap();
    // The jobs come to their end first.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (steps, version) = (cluster.steps(), cluster.store().resource_version());
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(cluster.store().resource_version(), version);
    assert_eq!(cluster.steps(), steps);
    assert!(is_settled(&cluster.store()));
}
