//! Disruption budgets: the status that the eviction handler goes by.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world_support;

use std::time::Duration;

use migrate_sim::store::Resource;
use migrate_sim::{Budget, Pool, SimCluster, Workload};
use serde_json::{Value, json};
use tokio::time::sleep;
use world_support::{MINUTE, condition, evict, object, patch, pods, send, settled};

/// Limits, replicas, and what the real controller makes of them.
#[tokio::test(start_paused = true)]
async fn the_status_is_that_of_the_real_controller() {
    let cases: Vec<(Budget, u32, [i64; 3])> = vec![
        // Expected pods, desired healthy, disruptions allowed. Both percentages go up.
        (Budget::max_unavailable("25%"), 7, [7, 5, 2]),
        (Budget::max_unavailable("1%"), 7, [7, 6, 1]),
        (Budget::max_unavailable("100%"), 3, [3, 0, 3]),
        (Budget::max_unavailable(0), 3, [3, 3, 0]),
        (Budget::max_unavailable(5), 3, [3, 0, 3]),
        (Budget::min_available("25%"), 7, [7, 2, 5]),
        (Budget::min_available("99%"), 7, [7, 7, 0]),
        (Budget::min_available(2), 3, [3, 2, 1]),
        (Budget::min_available(9), 3, [3, 9, 0]),
        (Budget::min_available(0), 3, [3, 0, 3]),
    ];
    let mut builder = SimCluster::builder().nodes(Pool::new("general", 3));
    for (index, (budget, replicas, _)) in cases.iter().enumerate() {
        let workload = Workload::deployment("shop", format!("case-{index}"), *replicas);
        builder = builder.workload(workload.with_budget(budget.clone()));
    }
    let cluster = settled(builder).await;
    for (index, (budget, replicas, [expected, desired, allowed])) in cases.iter().enumerate() {
        let status = status(&cluster, &format!("case-{index}"));
        let counts = ["expectedPods", "desiredHealthy", "disruptionsAllowed"]
            .map(|field| status[field].clone());
        assert_eq!(
            counts,
            [json!(expected), json!(desired), json!(allowed)],
            "{budget:?} of {replicas}"
        );
        assert_eq!(status["currentHealthy"], *replicas);
        assert_eq!(status["observedGeneration"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_follows_pods_scale_and_specification() {
    let cart = Workload::deployment("shop", "cart", 4).with_budget(Budget::max_unavailable("50%"));
    let cluster = one_pool(cart).await;
    let read = || {
        let status = status(&cluster, "cart");
        ["expectedPods", "currentHealthy", "disruptionsAllowed"]
            .map(|field| status[field].as_i64().unwrap())
    };
    assert_eq!(read(), [4, 4, 2]);
    patch(
        &cluster,
        "/apis/apps/v1/namespaces/shop/deployments/cart",
        json!({"spec": {"replicas": 8}}),
    )
    .await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(
        read(),
        [8, 4, 0],
        "the scale counts at once, the pods when they are ready"
    );
    cluster.wait_until_settled(MINUTE).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(read(), [8, 8, 4]);
    let path = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/cart";
    patch(&cluster, path, json!({"spec": {"maxUnavailable": 1}})).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(
        (
            read(),
            status(&cluster, "cart")["observedGeneration"].clone()
        ),
        ([8, 8, 1], json!(2))
    );
    assert_eq!(
        evict(&cluster, "shop", &pods(&cluster, "shop", "cart")[0].name).await,
        201
    );
    sleep(Duration::from_millis(50)).await;
    assert_eq!(read(), [8, 7, 0]);
    assert_eq!(
        status(&cluster, "cart")["disruptedPods"],
        Value::Null,
        "the deletion is seen, the note is gone"
    );
    patch(
        &cluster,
        "/apis/apps/v1/namespaces/shop/deployments/cart",
        json!({"spec": {"replicas": 0}}),
    )
    .await;
    sleep(MINUTE).await;
    assert_eq!(read(), [0, 0, 0], "nothing expected, nothing allowed");
}

#[tokio::test(start_paused = true)]
async fn a_refused_eviction_holds_the_budget_for_two_minutes() {
    let cart = Workload::deployment("shop", "cart", 3).with_budget(Budget::max_unavailable(1));
    let cluster = one_pool(cart).await;
    let name = pods(&cluster, "shop", "cart")[0].name.clone();
    let path = format!("/api/v1/namespaces/shop/pods/{name}/eviction");
    let body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name},
        "deleteOptions": {"preconditions": {"uid": "someone-else"}},
    });
    assert_eq!(send(&cluster, "POST", &path, body).await.code, 409);
    let allowed = || status(&cluster, "cart")["disruptionsAllowed"].clone();
    sleep(Duration::from_secs(110)).await;
    assert_eq!(allowed(), 0);
    assert_eq!(evict(&cluster, "shop", &name).await, 429);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(allowed(), 1);
    assert_eq!(evict(&cluster, "shop", &name).await, 201);
}

#[tokio::test(start_paused = true)]
async fn pods_without_scale_cannot_be_counted_by_percentage() {
    let agent = Workload::daemon_set("shop", "agent").with_budget(Budget::max_unavailable(1));
    let bare = Workload::bare_pods("shop", "bare", 2).with_budget(Budget::max_unavailable(1));
    let counted = Workload::bare_pods("shop", "counted", 2).with_budget(Budget::min_available(1));
    let builder = SimCluster::builder()
        .nodes(Pool::new("general", 2))
        .workload(agent)
        .workload(bare);
    let cluster = builder.workload(counted).start().await.unwrap();
    cluster.wait_until_settled(MINUTE).await.unwrap();
    let agent = object(&cluster, Resource::POD_DISRUPTION_BUDGETS, "shop", "agent");
    let (state, reason, message) = condition(&agent, "DisruptionAllowed");
    assert_eq!((state.as_str(), reason.as_str()), ("False", "SyncFailed"));
    assert_eq!(
        message,
        "daemonsets.apps does not implement the scale subresource"
    );
    assert_eq!(agent["status"]["disruptionsAllowed"], 0);
    // Bare pods count for nobody's scale; a number of pods needs none.
    assert_eq!(status(&cluster, "bare")["expectedPods"], 0);
    assert_eq!(status(&cluster, "bare")["disruptionsAllowed"], 0);
    assert_eq!(status(&cluster, "counted")["disruptionsAllowed"], 1);
}

/// A pod that runs and never gets ready: the two policies differ.
#[tokio::test(start_paused = true)]
async fn unready_pods_go_as_their_policy_says() {
    for (budget, code) in [
        (Budget::min_available(2), 429),
        (Budget::min_available(2).always_allow_unhealthy(), 201),
    ] {
        let workload = Workload::deployment("shop", "sick", 3).with_budget(budget);
        let mut scenario = migrate_sim::Scenario::new("v1.36.3").with_pool(Pool::new("general", 2));
        for mut object in migrate_sim::Scenario::new("")
            .with_workload(workload)
            .objects()
        {
            if object["kind"] == "Deployment" {
                let key = migrate_sim::annotations::NEVER_READY;
                object["spec"]["template"]["metadata"]["annotations"] = json!({(key): "true"});
            }
            scenario = scenario.with_object(object);
        }
        let cluster = SimCluster::builder()
            .scenario(scenario)
            .start()
            .await
            .unwrap();
        sleep(MINUTE).await;
        let pod = pods(&cluster, "shop", "sick")[0].clone();
        assert_eq!((pod.phase(), pod.is_ready()), ("Running", false));
        assert_eq!(evict(&cluster, "shop", &pod.name).await, code);
    }
}

async fn one_pool(workload: Workload) -> SimCluster {
    let cluster = SimCluster::builder()
        .nodes(Pool::new("general", 3))
        .workload(workload)
        .start()
        .await
        .unwrap();
    cluster.wait_until_settled(2 * MINUTE).await.unwrap();
    cluster
}

fn status(cluster: &SimCluster, name: &str) -> Value {
    object(cluster, Resource::POD_DISRUPTION_BUDGETS, "shop", name)["status"].clone()
}
