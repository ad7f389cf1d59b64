//! What is refused, and how it is said.

use serde_json::json;

use crate::common::{add_pod, pod, send, server};
use crate::{PODS, deployment};

#[tokio::test(start_paused = true)]
async fn wrong_objects_are_refused() {
    let server = server();
    add_pod(&server, "a", true);
    let other_namespace = json!({ "metadata": { "name": "x", "namespace": "kube-system" }, "spec": { "containers": [{ "name": "c" }] } });
    let both =
        json!({ "metadata": { "name": "x" }, "spec": { "minAvailable": 1, "maxUnavailable": 1 } });
    let percent = json!({ "metadata": { "name": "x" }, "spec": { "minAvailable": "half" } });
    let mut unselected = deployment("x");
    unselected["spec"]["selector"]["matchLabels"]["app"] = "y".into();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    for (path, body, code) in [
        (
            PODS,
            json!({ "metadata": { "name": "x" }, "spec": {} }),
            422,
        ),
        (
            PODS,
            json!({ "metadata": {}, "spec": { "containers": [{ "name": "c" }] } }),
            422,
        ),
        (
            PODS,
            json!({ "metadata": { "name": "No_Good" }, "spec": { "containers": [{ "name": "c" }] } }),
            422,
        ),
        (
            PODS,
            json!({ "kind": "Node", "metadata": { "name": "x" } }),
            400,
        ),
        (PODS, json!([1]), 400),
        (PODS, other_namespace, 400),
        (
            "/api/v1/namespaces/none/pods",
            json!({ "metadata": { "name": "x" }, "spec": { "containers": [{ "name": "c" }] } }),
            404,
        ),
        (budgets, both, 422),
        (budgets, percent, 422),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            unselected,
            422,
        ),
        ("/api/v1/unknowns", json!({}), 404),
        ("/apis/apps/v1/namespaces/default/nodes", json!({}), 404),
    ] {
        let answer = send(&server, "POST", path, body.clone()).await;
        assert_eq!(answer.code, code, "{path} {body} {}", answer.text);
        assert_eq!(answer.body["kind"], "Status");
    }
    let moved = send(
        &server,
        "PATCH",
        &format!("{PODS}/a"),
        json!({ "spec": { "nodeName": "other" } }),
    )
    .await;
    assert_eq!(moved.code, 422);
    assert_eq!(
        send(&server, "PUT", &format!("{PODS}/a"), pod("b", json!({})))
            .await
            .code,
        400
    );
}
