//! Evictions of a pod or a budget that others write at the same time.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{add_budget, add_pod, budget, evict, is_leaving, pod, pod_json, send, server};
use migrate_sim::api::{ApiServer, Contended, Fault};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Evictions meet `contended` from now on.
fn contend(server: &ApiServer, contended: Contended) {
    server.set_faults(move |request| match request.subresource.as_str() {
        "eviction" => Fault::Contend(contended),
        _ => Fault::Pass,
    });
}

#[tokio::test(start_paused = true)]
async fn a_failed_precondition_is_409_and_still_debits_the_budget() {
    for precondition in [json!({ "uid": "other" }), json!({ "resourceVersion": "1" })] {
        let server = server();
        add_pod(&server, "web-0", true);
        add_budget(&server, "pb", json!({}), json!({}));
        let answer = evict(&server, "web-0", json!({ "preconditions": precondition })).await;
        assert_eq!(answer.code, 409);
        assert_eq!(answer.body["reason"], "Conflict");
        assert!(!is_leaving(&server, "web-0"));
        assert_eq!(
            pod_json(&server, "web-0")["status"]["conditions"]
                .as_array()
                .unwrap()
                .len(),
            1,
            "not marked"
        );
        assert_eq!(budget(&server, "pb")["status"]["disruptionsAllowed"], 0);
        assert!(budget(&server, "pb")["status"]["disruptedPods"]["web-0"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn the_right_uid_and_version_pass() {
    let server = server();
    add_pod(&server, "web-0", true);
    let pod = pod_json(&server, "web-0");
    let preconditions = json!({ "uid": pod["metadata"]["uid"], "resourceVersion": pod["metadata"]["resourceVersion"] });
    assert_eq!(
        evict(&server, "web-0", json!({ "preconditions": preconditions }))
            .await
            .code,
        201
    );
    assert!(is_leaving(&server, "web-0"));
}

/// The budget's status is written anew before each of the twenty tries.
#[tokio::test(start_paused = true)]
async fn a_contended_budget_is_409_after_ten_seconds_and_nothing_is_spent() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_budget(&server, "pb", json!({}), json!({}));
    let before = budget(&server, "pb")["status"].clone();
    contend(&server, Contended::Budget);
    let asked = Instant::now();
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 409);
    assert_eq!(answer.body["reason"], "Conflict");
    assert_eq!(answer.body["details"]["kind"], "poddisruptionbudgets");
    assert!(asked.elapsed() >= Duration::from_millis(9_500));
    assert!(!is_leaving(&server, "web-0"));
    assert_eq!(budget(&server, "pb")["status"], before);

    // A dry run debits nothing, so nobody is in its way.
    let dry = evict(&server, "web-0", json!({ "dryRun": ["All"] })).await;
    assert_eq!(dry.code, 201);
    // Nor does a pod without a budget care, or one that goes already.
    server.set_faults(|_| Fault::Pass);
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
    contend(&server, Contended::Budget);
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
}

/// The handler takes care that the pod has not become Ready meanwhile.
#[tokio::test(start_paused = true)]
async fn a_contended_pod_that_is_not_ready_is_429_and_asked_for_again_in_ten_seconds() {
    let server = server();
    add_pod(&server, "web-0", false);
    let healthy = json!({ "currentHealthy": 1, "desiredHealthy": 1 });
    add_budget(&server, "pb", json!({}), healthy);
    contend(&server, Contended::Pod);
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 429);
    assert_eq!(answer.body["details"]["retryAfterSeconds"], 10);
    let cause = &answer.body["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert!(!is_leaving(&server, "web-0"));

    // A version that the client names is checked as it is, once.
    let version = pod_json(&server, "web-0")["metadata"]["resourceVersion"].clone();
    let named = json!({ "preconditions": { "resourceVersion": version } });
    assert_eq!(evict(&server, "web-0", named).await.code, 201);
}

#[tokio::test(start_paused = true)]
async fn a_contended_pod_that_is_ready_or_ends_is_evicted_all_the_same() {
    let server = server();
    add_pod(&server, "web-0", true);
    contend(&server, Contended::Pod);
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
    assert!(is_leaving(&server, "web-0"));
}

#[tokio::test(start_paused = true)]
async fn a_contended_pending_pod_is_409_after_ten_seconds() {
    let server = server();
    let mut starting = pod("web-0", json!({}));
    starting["status"] = json!({ "phase": "Pending" });
    let path = "/api/v1/namespaces/default/pods";
    assert_eq!(send(&server, "POST", path, starting).await.code, 201);
    contend(&server, Contended::Pod);
    let asked = Instant::now();
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 409);
    assert_eq!(answer.body["details"]["kind"], "pods");
    assert!(asked.elapsed() >= Duration::from_millis(9_500));
    assert!(!is_leaving(&server, "web-0"));
}
