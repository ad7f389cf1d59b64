//! Every branch of the eviction handler.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{add_budget, add_pod, budget, evict, is_leaving, pod, pod_json, send, server};
use migrate_sim::store::Resource;
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn a_pod_without_budget_gets_its_grace_and_the_condition() {
    let server = server();
    add_pod(&server, "web-0", true);
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 201);
    assert_eq!(
        answer.body,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
    );
    let pod = pod_json(&server, "web-0");
    assert_eq!(pod["metadata"]["deletionTimestamp"], "2026-09-01T00:00:30Z");
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    let condition = pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(condition["type"], "DisruptionTarget");
    assert_eq!(condition["status"], "True");
    assert_eq!(condition["reason"], "EvictionByEvictionAPI");
}

#[tokio::test(start_paused = true)]
async fn delete_options_set_the_grace_and_zero_removes_at_once() {
    let server = server();
    add_pod(&server, "short", true);
    add_pod(&server, "none", true);
    add_pod(&server, "negative", true);
    assert_eq!(
        evict(&server, "short", json!({ "gracePeriodSeconds": 7 }))
            .await
            .code,
        201
    );
    assert_eq!(
        pod_json(&server, "short")["metadata"]["deletionTimestamp"],
        "2026-09-01T00:00:07Z"
    );
    assert_eq!(
        evict(&server, "negative", json!({ "gracePeriodSeconds": -5 }))
            .await
            .code,
        201
    );
    assert_eq!(
        pod_json(&server, "negative")["metadata"]["deletionGracePeriodSeconds"],
        1
    );
    assert_eq!(
        evict(&server, "none", json!({ "gracePeriodSeconds": 0 }))
            .await
            .code,
        201
    );
    assert!(pod_json(&server, "none").is_null());
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_budget_answers_429_without_retry_after() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_budget(
        &server,
        "pb",
        json!({}),
        json!({ "disruptionsAllowed": 0, "currentHealthy": 1 }),
    );
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 429);
    assert_eq!(answer.retry_after, None);
    assert_eq!(answer.body["reason"], "TooManyRequests");
    assert_eq!(
        answer.body["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        answer.body["details"],
        json!({ "causes": [{
            "reason": "DisruptionBudget",
            "message": "The disruption budget pb needs 1 healthy pods and has 1 currently",
        }] }),
    );
    assert!(!is_leaving(&server, "web-0"));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_budget_names_the_condition_that_explains_it() {
    let condition = |reason: &str| json!([{ "type": "DisruptionAllowed", "status": "False", "reason": reason, "message": "why" }]);
    for (reason, text) in [
        (
            "SyncFailed",
            "The disruption budget pb does not allow evicting pods currently because it failed sync: why",
        ),
        (
            "Other",
            "The disruption budget pb does not allow evicting pods currently (Other): why",
        ),
        (
            "InsufficientPods",
            "The disruption budget pb needs 1 healthy pods and has 2 currently",
        ),
    ] {
        let server = server();
        add_pod(&server, "web-0", true);
        add_budget(
            &server,
            "pb",
            json!({}),
            json!({ "disruptionsAllowed": 0, "conditions": condition(reason) }),
        );
        let answer = evict(&server, "web-0", Value::Null).await;
        assert_eq!(answer.code, 429);
        assert_eq!(answer.body["details"]["causes"][0]["message"], text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_not_yet_observed_answers_429_with_retry_after() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_budget(&server, "pb", json!({}), json!({ "observedGeneration": 0 }));
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 429);
    assert_eq!(answer.retry_after.as_deref(), Some("10"));
    assert_eq!(answer.body["details"]["retryAfterSeconds"], 10);
    assert_eq!(
        answer.body["details"]["causes"][0]["message"],
        "The disruption budget pb is still being processed by the server.",
    );
}

#[tokio::test(start_paused = true)]
async fn the_debit_is_synchronous() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_pod(&server, "web-1", true);
    add_budget(&server, "pb", json!({}), json!({}));
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
    let status = budget(&server, "pb")["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(
        status["disruptedPods"],
        json!({ "web-0": "2026-09-01T00:00:00Z" })
    );
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    assert_eq!(evict(&server, "web-1", Value::Null).await.code, 429);
    assert!(!is_leaving(&server, "web-1"));
}

#[tokio::test(start_paused = true)]
async fn a_terminating_pod_is_accepted_again_whatever_the_budget() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_budget(&server, "pb", json!({}), json!({}));
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
    let first = pod_json(&server, "web-0");
    assert_eq!(evict(&server, "web-0", Value::Null).await.code, 201);
    assert_eq!(
        pod_json(&server, "web-0"),
        first,
        "nothing changes the second time"
    );
    assert_eq!(budget(&server, "pb")["status"]["disruptionsAllowed"], 0);
}

#[tokio::test(start_paused = true)]
async fn pending_and_finished_pods_go_whatever_the_budget() {
    let server = server();
    add_budget(&server, "pb", json!({}), json!({ "disruptionsAllowed": 0 }));
    for (name, phase) in [("p", "Pending"), ("s", "Succeeded"), ("f", "Failed")] {
        add_pod(&server, name, true);
        let _ = server
            .shared()
            .lock()
            .modify(Resource::PODS, "default", name, |pod| {
                pod["status"]["phase"] = phase.into()
            });
        assert_eq!(evict(&server, name, Value::Null).await.code, 201, "{phase}");
    }
    assert!(is_leaving(&server, "p"), "bound, so it gets its grace");
    assert!(pod_json(&server, "s").is_null());
    assert!(pod_json(&server, "f").is_null());
}

#[tokio::test(start_paused = true)]
async fn two_budgets_answer_500_without_reason_and_details() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_budget(&server, "one", json!({}), json!({}));
    add_budget(&server, "two", json!({ "selector": {} }), json!({}));
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 500);
    assert_eq!(
        answer.body["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
    );
    assert!(answer.body.get("reason").is_none() && answer.body.get("details").is_none());
    assert_eq!(budget(&server, "one")["status"]["disruptionsAllowed"], 1);
}

#[tokio::test(start_paused = true)]
async fn selectors_of_budgets_empty_is_all_and_absent_or_invalid_is_none() {
    for (selector, code) in [
        (json!({}), 429),
        (Value::Null, 201),
        (
            json!({ "matchExpressions": [{ "key": "app", "operator": "Near" }] }),
            201,
        ),
        (json!({ "matchLabels": { "app": "other" } }), 201),
    ] {
        let server = server();
        add_pod(&server, "web-0", true);
        add_budget(
            &server,
            "pb",
            json!({ "selector": selector }),
            json!({ "disruptionsAllowed": 0 }),
        );
        assert_eq!(
            evict(&server, "web-0", Value::Null).await.code,
            code,
            "{selector}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn unready_pods_follow_the_policy_of_their_budget() {
    let healthy = json!({ "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1 });
    let unhealthy = json!({ "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 1 });
    let nothing_desired =
        json!({ "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0 });
    for (policy, status, code) in [
        (json!({}), &healthy, 201),
        (json!({}), &unhealthy, 429),
        (json!({}), &nothing_desired, 429),
        (
            json!({ "unhealthyPodEvictionPolicy": "IfHealthyBudget" }),
            &healthy,
            201,
        ),
        (
            json!({ "unhealthyPodEvictionPolicy": "IfHealthyBudget" }),
            &unhealthy,
            429,
        ),
        (
            json!({ "unhealthyPodEvictionPolicy": "AlwaysAllow" }),
            &unhealthy,
            201,
        ),
    ] {
        let server = server();
        add_pod(&server, "web-0", false);
        add_budget(&server, "pb", policy.clone(), status.clone());
        let answer = evict(&server, "web-0", Value::Null).await;
        assert_eq!(answer.code, code, "{policy} {status}");
        assert!(
            budget(&server, "pb")["status"]
                .get("disruptedPods")
                .is_none(),
            "no debit"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_nobody_looks_after_is_403() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_budget(
        &server,
        "pb",
        json!({}),
        json!({ "disruptionsAllowed": -1 }),
    );
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 403);
    assert!(
        answer.body["message"]
            .as_str()
            .unwrap()
            .ends_with("pdb disruptions allowed is negative")
    );

    let crowd: serde_json::Map<String, Value> = (0..2_001)
        .map(|i| (format!("p{i}"), json!("2026-09-01T00:00:00Z")))
        .collect();
    let server = common::server();
    add_pod(&server, "web-0", true);
    add_budget(&server, "pb", json!({}), json!({ "disruptedPods": crowd }));
    let answer = evict(&server, "web-0", Value::Null).await;
    assert_eq!(answer.code, 403);
    assert!(
        answer.body["message"]
            .as_str()
            .unwrap()
            .contains("DisruptedPods map too big")
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminating_namespace_is_403_with_its_cause() {
    let server = server();
    add_pod(&server, "web-0", true);
    assert_eq!(
        send(&server, "DELETE", "/api/v1/namespaces/default", Value::Null)
            .await
            .code,
        200
    );
    for options in [Value::Null, json!({ "dryRun": ["All"] })] {
        let answer = evict(&server, "web-0", options).await;
        assert_eq!(answer.code, 403);
        assert_eq!(answer.body["reason"], "Forbidden");
        assert_eq!(
            answer.body["details"]["causes"][0]["reason"],
            "NamespaceTerminating"
        );
        assert_eq!(
            answer.body["details"]["causes"][0]["field"],
            "metadata.namespace"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn malformed_evictions_are_refused() {
    let server = server();
    add_pod(&server, "web-0", true);
    let path = "/api/v1/namespaces/default/pods/web-0/eviction";
    for body in [
        json!({ "metadata": { "name": "web-1" } }),
        json!({}),
        Value::Null,
        json!({ "apiVersion": "policy/v2", "kind": "Eviction", "metadata": { "name": "web-0" } }),
    ] {
        assert_eq!(
            send(&server, "POST", path, body.clone()).await.code,
            400,
            "{body}"
        );
    }
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        assert_eq!(
            send(&server, method, path, Value::Null).await.code,
            405,
            "{method}"
        );
    }
    assert_eq!(evict(&server, "gone", Value::Null).await.code, 404);
    let stuck = json!({ "ignoreStoreReadErrorWithClusterBreakingPotential": true });
    assert_eq!(evict(&server, "web-0", stuck).await.code, 422);
    assert!(!is_leaving(&server, "web-0"));
    let beta = json!({ "apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": { "name": "web-0" } });
    assert_eq!(send(&server, "POST", path, beta).await.code, 201);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_checks_the_budget_and_writes_nothing() {
    let server = server();
    add_pod(&server, "web-0", true);
    add_pod(&server, "web-1", true);
    add_budget(&server, "pb", json!({}), json!({}));
    let before = server.shared().lock().resource_version();
    for name in ["web-0", "web-1", "web-0"] {
        assert_eq!(
            evict(&server, name, json!({ "dryRun": ["All"] }))
                .await
                .code,
            201
        );
    }
    let body = json!({ "metadata": { "name": "web-0" } });
    let path = "/api/v1/namespaces/default/pods/web-0/eviction?dryRun=All";
    assert_eq!(send(&server, "POST", path, body).await.code, 201);
    assert_eq!(server.shared().lock().resource_version(), before);
    assert!(
        server
            .audit()
            .iter()
            .all(|entry| entry.request.dry_run && !entry.is_mutating())
    );

    let _ = server.shared().lock().modify(
        Resource::POD_DISRUPTION_BUDGETS,
        "default",
        "pb",
        |budget| {
            budget["status"]["disruptionsAllowed"] = 0.into();
        },
    );
    assert_eq!(
        evict(&server, "web-0", json!({ "dryRun": ["All"] }))
            .await
            .code,
        429
    );
    assert_eq!(
        evict(&server, "web-0", json!({ "dryRun": ["Some"] }))
            .await
            .code,
        422
    );
}

#[tokio::test(start_paused = true)]
async fn an_unbound_pod_is_gone_at_once() {
    let server = server();
    let mut unbound = pod("queued", json!({}));
    unbound["spec"].as_object_mut().unwrap().remove("nodeName");
    assert_eq!(
        send(&server, "POST", "/api/v1/namespaces/default/pods", unbound)
            .await
            .code,
        201
    );
    assert_eq!(evict(&server, "queued", Value::Null).await.code, 201);
    assert!(pod_json(&server, "queued").is_null());
}
