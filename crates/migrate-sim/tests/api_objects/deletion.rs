//! Deletions: preconditions, finalizers, grace, namespaces.

use kube::api::{Api, DeleteParams, Preconditions};
use migrate_sim::store::Resource;
use serde_json::{Value, json};

use crate::common::{add_pod, send, server, stored};
use crate::reason;

#[tokio::test(start_paused = true)]
async fn deletions_have_preconditions_finalizers_and_shortened_grace() {
    let server = server();
    add_pod(&server, "a", true);
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::default_namespaced(server.client());
    let wrong = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("x".into()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(
        reason(&pods.delete("a", &wrong).await.unwrap_err()),
        (409, "Conflict".to_owned())
    );
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let first = stored(&server, Resource::PODS, "a");
    pods.delete("a", &DeleteParams::default().grace_period(60))
        .await
        .unwrap();
    assert_eq!(
        stored(&server, Resource::PODS, "a"),
        first,
        "grace is never prolonged"
    );
    pods.delete("a", &DeleteParams::default().grace_period(5))
        .await
        .unwrap();
    assert_eq!(
        stored(&server, Resource::PODS, "a")["metadata"]["deletionTimestamp"],
        "2026-09-01T00:00:05Z"
    );
    pods.delete("a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert!(stored(&server, Resource::PODS, "a").is_null());

    let held =
        json!({ "metadata": { "name": "m", "namespace": "default", "finalizers": ["x/y"] } });
    server
        .shared()
        .lock()
        .create(Resource::CONFIG_MAPS, held)
        .unwrap();
    let path = "/api/v1/namespaces/default/configmaps/m";
    assert_eq!(
        send(&server, "DELETE", path, Value::Null).await.body["kind"],
        "ConfigMap"
    );
    assert!(
        stored(&server, Resource::CONFIG_MAPS, "m")["metadata"]["deletionTimestamp"].is_string()
    );
    let released = json!({ "metadata": { "finalizers": null, "deletionTimestamp": null } });
    assert_eq!(send(&server, "PATCH", path, released).await.code, 200);
    assert!(
        stored(&server, Resource::CONFIG_MAPS, "m").is_null(),
        "goes with its last finalizer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_terminating_namespace_takes_nothing_new_and_goes_when_finalized() {
    let server = server();
    send(
        &server,
        "POST",
        "/api/v1/namespaces",
        json!({ "metadata": { "name": "team" } }),
    )
    .await;
    let gone = send(&server, "DELETE", "/api/v1/namespaces/team", Value::Null).await;
    assert_eq!(gone.body["status"]["phase"], "Terminating");
    let refused = send(
        &server,
        "POST",
        "/api/v1/namespaces/team/configmaps",
        json!({ "metadata": { "name": "m" } }),
    )
    .await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let finalized = json!({ "metadata": { "name": "team" }, "spec": { "finalizers": [] } });
    assert_eq!(
        send(
            &server,
            "PUT",
            "/api/v1/namespaces/team/finalize",
            finalized
        )
        .await
        .code,
        200
    );
    assert_eq!(
        send(&server, "GET", "/api/v1/namespaces/team", Value::Null)
            .await
            .code,
        404
    );
    server
        .shared()
        .lock()
        .create(
            Resource::NAMESPACES,
            json!({ "metadata": { "name": "other" } }),
        )
        .unwrap();
    server
        .shared()
        .lock()
        .remove(Resource::NAMESPACES, "", "other")
        .unwrap();
    assert!(stored(&server, Resource::NAMESPACES, "other").is_null());
}
