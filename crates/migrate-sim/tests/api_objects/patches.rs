//! Patches of each format.

use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use migrate_sim::store::Resource;
use serde_json::{Value, json};

use crate::PODS;
use crate::common::{add_pod, send, send_as, server};

#[tokio::test(start_paused = true)]
async fn cordon_and_uncordon_are_strategic_patches() {
    let server = server();
    server
        .shared()
        .lock()
        .create(
            Resource::NODES,
            json!({ "metadata": { "name": "n" }, "spec": {} }),
        )
        .unwrap();
    let nodes: Api<Node> = Api::all(server.client());
    assert_eq!(
        nodes.cordon("n").await.unwrap().spec.unwrap().unschedulable,
        Some(true)
    );
    let found = send(
        &server,
        "GET",
        "/api/v1/nodes?fieldSelector=spec.unschedulable%3Dtrue",
        Value::Null,
    )
    .await;
    assert_eq!(found.body["items"].as_array().unwrap().len(), 1);
    assert_ne!(
        nodes
            .uncordon("n")
            .await
            .unwrap()
            .spec
            .unwrap_or_default()
            .unschedulable,
        Some(true)
    );
}

#[tokio::test(start_paused = true)]
async fn patches_of_each_format_work_and_apply_is_415() {
    let server = server();
    add_pod(&server, "a", true);
    let path = format!("{PODS}/a");
    let json_patch = json!([{ "op": "add", "path": "/metadata/labels/x", "value": "1" }]);
    assert_eq!(
        send_as(
            &server,
            "PATCH",
            &path,
            "application/json-patch+json",
            json_patch
        )
        .await
        .code,
        200
    );
    let merge = json!({ "metadata": { "labels": { "app": null } } });
    let patched = send(&server, "PATCH", &path, merge).await;
    assert_eq!(patched.body["metadata"]["labels"], json!({ "x": "1" }));
    let failing = json!([{ "op": "test", "path": "/metadata/labels/x", "value": "2" }]);
    assert_eq!(
        send_as(
            &server,
            "PATCH",
            &path,
            "application/json-patch+json",
            failing
        )
        .await
        .code,
        422
    );
    for (content_type, code) in [("application/apply-patch+yaml", 415), ("text/plain", 415)] {
        assert_eq!(
            send_as(&server, "PATCH", &path, content_type, json!({}))
                .await
                .code,
            code
        );
    }
}
