//! The rule checker on an embedded cluster, fed by its changes and its audit log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, EvictParams};
use migrate_sim::rules::{RuleProbe, RuleSettings};
use migrate_sim::store::{Resource, Store};
use migrate_sim::{Pool, Scenario, SimCluster, Workload, is_settled};

/// The pods of a StatefulSet have one name after the other: what excuses one of
/// them does not excuse the next.
#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_hand_is_reported_though_its_name_was_evicted_before() {
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::new("general", 2))
        .with_workload(Workload::stateful_set("shop", "db", 2));
    let cluster = SimCluster::builder().scenario(scenario);
    let (cluster, probe) = RuleProbe::start(RuleSettings::default(), cluster)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "shop");
    let first = uid(&cluster);
    pods.evict("db-0", &EvictParams::default()).await.unwrap();
    replaced(&cluster, &first).await;
    assert_eq!(probe.finish(&cluster.audit()), []);

    let second = uid(&cluster);
    pods.delete("db-0", &DeleteParams::default()).await.unwrap();
    replaced(&cluster, &second).await;
    let said = probe.finish(&cluster.audit());
    assert_eq!(said.len(), 1, "{said:?}");
    let what = format!("pod shop/db-0 ({second}) went without an accepted eviction");
    assert_eq!((said[0].rule, &said[0].what), ("I1", &what));
}

fn uid(cluster: &SimCluster) -> String {
    let store = cluster.store();
    let pod = store.get(Resource::PODS, "shop", "db-0").unwrap();
    pod.uid().to_owned()
}

/// Waits until all is well and another pod has the name.
async fn replaced(cluster: &SimCluster, old: &str) {
    let is_other = |store: &Store| {
        let pod = store.get(Resource::PODS, "shop", "db-0");
        pod.is_some_and(|pod| pod.uid() != old) && is_settled(store)
    };
    let limit = Duration::from_secs(600);
    cluster.wait_until(limit, is_other).await.unwrap();
}
