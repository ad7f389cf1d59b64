//! Who asked for what, and who may not.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{available, deployment, node, pods, post};
use migrate_testbed::{AuditEvent, ControlPlane, Identity};
use serde_json::json;

#[tokio::test]
async fn the_audit_log_shows_evictions_and_tells_dry_runs_apart() {
    let Some(plane) = common::start(ControlPlane::builder().audit(true)).await else {
        return;
    };
    plane
        .apply(vec![node("node-1"), deployment("web", 2)])
        .await
        .unwrap();
    available(&plane, "web", 2).await;
    let client = plane.client();
    let names: Vec<_> = pods(&client).await.unwrap().into_keys().collect();
    let mut audit = plane.audit().unwrap();
    let before = audit.read_new().unwrap();
    assert!(before.iter().all(|event| !event.is_accepted_eviction()));

    let eviction = |pod: &str| {
        json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod, "namespace": "default"},
        })
    };
    let path =
        |pod: &str, query: &str| format!("/api/v1/namespaces/default/pods/{pod}/eviction{query}");
    post(
        &client,
        &path(&names[0], "?dryRun=All"),
        &eviction(&names[0]),
    )
    .await
    .unwrap();
    post(&client, &path(&names[1], ""), &eviction(&names[1]))
        .await
        .unwrap();

    let events = audit.read_new().unwrap();
    let evictions: Vec<_> = events
        .iter()
        .filter(|event| event.is_for("pods/eviction"))
        .collect();
    assert_eq!(evictions.len(), 2);
    assert!(evictions[0].is_dry_run() && !evictions[0].is_accepted_eviction());
    assert!(evictions[1].is_accepted_eviction());
    assert_eq!(evictions[1].user.username, "testbed:admin");
    let object = evictions[1].object_ref.as_ref().unwrap();
    assert_eq!(object.name, names[1]);
    assert_eq!(
        evictions[1].request_object.as_ref().unwrap()["kind"],
        "Eviction"
    );

    // The end of the pod is kwok's doing, and the log says so.
    let ended = |event: &AuditEvent| event.verb == "delete" && event.is_for("pods");
    let events = audit
        .read_until("the pod to end", common::SOON, ended)
        .await
        .unwrap();
    let end = events.iter().find(|&event| ended(event)).unwrap();
    assert_eq!(end.user.username, "testbed:kwok");
    assert_eq!(end.object_ref.as_ref().unwrap().name, names[1]);

    plane.swap_to(37).await.unwrap();
    let events = audit.read_new().unwrap();
    assert!(!events.is_empty(), "the log ended with the swap");
}

#[tokio::test]
async fn users_without_rights_and_expired_certificates_are_refused() {
    let Some(plane) = common::start(ControlPlane::builder()).await else {
        return;
    };
    let nobody = plane.client_for(&Identity::new("nobody")).await.unwrap();
    let refusal = common::get(&nobody, "/api/v1/nodes").await.unwrap_err();
    let kube::Error::Api(status) = refusal else {
        panic!("{refusal}");
    };
    assert_eq!(status.code, 403);
    assert!(
        status
            .message
            .contains("User \"nobody\" cannot list resource \"nodes\"")
    );

    let group = Identity::new("somebody").with_group("readers");
    plane
        .apply(vec![json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "readers"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "readers"}],
        })])
        .await
        .unwrap();
    let somebody = plane.client_for(&group).await.unwrap();
    plane
        .wait_until("the group to have its role", common::SOON, || async {
            common::get(&somebody, "/api/v1/nodes").await.map(|_| true)
        })
        .await
        .unwrap();

    let expired = plane.client_for(&group.expired()).await.unwrap();
    let refusal = common::get(&expired, "/api/v1/nodes").await.unwrap_err();
    let kube::Error::Api(status) = refusal else {
        panic!("{refusal}");
    };
    assert_eq!(status.code, 401);
}

#[tokio::test]
async fn without_an_audit_log_there_is_no_reader() {
    let Some(plane) = common::start(ControlPlane::builder()).await else {
        return;
    };
    assert!(matches!(
        plane.audit(),
        Err(migrate_testbed::Error::AuditOff)
    ));
}
