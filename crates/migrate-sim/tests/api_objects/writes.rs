//! Created and updated: identity, defaults, versions.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::common::{pod, send, server};
use crate::{LEASES, PODS, deployment, reason};

#[tokio::test(start_paused = true)]
async fn a_created_object_gets_identity_defaults_and_no_status() {
    let server = server();
    let deployments: Api<Deployment> = Api::default_namespaced(server.client());
    let created = deployments
        .create(
            &PostParams::default(),
            &serde_json::from_value(deployment("web")).unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    assert_eq!(
        created
            .metadata
            .creation_timestamp
            .as_ref()
            .unwrap()
            .0
            .to_string(),
        "2026-09-01T00:00:00Z"
    );
    assert!(created.uid().is_some_and(|uid| uid.len() == 36));
    assert_eq!(
        created.status.unwrap_or_default().replicas,
        None,
        "a client cannot create a status"
    );
    let strategy = created.spec.strategy.unwrap();
    assert_eq!(strategy.type_.as_deref(), Some("RollingUpdate"));
    let again = deployments
        .create(
            &PostParams::default(),
            &serde_json::from_value(deployment("web")).unwrap(),
        )
        .await;
    assert_eq!(
        reason(&again.unwrap_err()),
        (409, "AlreadyExists".to_owned())
    );
    assert_eq!(
        reason(&deployments.get("gone").await.unwrap_err()),
        (404, "NotFound".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn generated_names_differ_and_kube_system_has_a_uid() {
    let server = server();
    let mut bare = pod("", json!({}));
    bare["metadata"] = json!({ "generateName": "job-" });
    let first = send(&server, "POST", PODS, bare.clone()).await;
    let second = send(&server, "POST", PODS, bare).await;
    assert_eq!((first.code, second.code), (201, 201));
    assert_ne!(
        first.body["metadata"]["name"],
        second.body["metadata"]["name"]
    );
    assert_eq!(
        first.body["metadata"]["name"].as_str().unwrap().len(),
        "job-".len() + 5
    );
    let system = send(
        &server,
        "GET",
        "/api/v1/namespaces/kube-system",
        Value::Null,
    )
    .await;
    assert_eq!(system.body["metadata"]["uid"].as_str().unwrap().len(), 36);
}

#[tokio::test(start_paused = true)]
async fn an_update_of_an_old_version_is_409_and_an_equal_one_is_no_change() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let map: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "m" }, "data": { "a": "1" } }))
            .unwrap();
    let first = maps.create(&PostParams::default(), &map).await.unwrap();
    let mut second = first.clone();
    second.data.as_mut().unwrap().insert("a".into(), "2".into());
    let second = maps
        .replace("m", &PostParams::default(), &second)
        .await
        .unwrap();
    assert_ne!(first.resource_version(), second.resource_version());
    let stale = maps
        .replace("m", &PostParams::default(), &first)
        .await
        .unwrap_err();
    assert_eq!(reason(&stale), (409, "Conflict".to_owned()));
    let equal = maps
        .replace("m", &PostParams::default(), &second)
        .await
        .unwrap();
    assert_eq!(equal.resource_version(), second.resource_version());
    let patch = json!({ "metadata": { "resourceVersion": first.resource_version() }, "data": { "a": "3" } });
    let stale = maps
        .patch("m", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap_err();
    assert_eq!(reason(&stale), (409, "Conflict".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn leases_are_compared_and_set() {
    let server = server();
    let leases: Api<Lease> = Api::default_namespaced(server.client());
    let lease = json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": "a" } });
    assert_eq!(send(&server, "POST", LEASES, lease.clone()).await.code, 201);
    assert_eq!(send(&server, "POST", LEASES, lease.clone()).await.code, 409);
    assert_eq!(
        send(&server, "PUT", &format!("{LEASES}/l"), lease.clone())
            .await
            .code,
        422,
        "without resourceVersion"
    );
    let seen = leases.get("l").await.unwrap();
    assert!(
        leases
            .replace("l", &PostParams::default(), &{
                let mut l = seen.clone();
                l.spec.as_mut().unwrap().holder_identity = Some("b".into());
                l
            })
            .await
            .is_ok()
    );
    assert_eq!(
        reason(
            &leases
                .replace("l", &PostParams::default(), &seen)
                .await
                .unwrap_err()
        )
        .0,
        409
    );
    let new = json!({ "metadata": { "name": "n" }, "spec": {} });
    assert_eq!(
        send(&server, "PUT", &format!("{LEASES}/n"), new).await.code,
        201,
        "an update creates a lease"
    );
}

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_apart_and_generation_counts_the_spec() {
    let server = server();
    let deployments: Api<Deployment> = Api::default_namespaced(server.client());
    deployments
        .create(
            &PostParams::default(),
            &serde_json::from_value(deployment("web")).unwrap(),
        )
        .await
        .unwrap();
    let both = json!({ "spec": { "replicas": 5 }, "status": { "replicas": 4 } });
    let main = deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(
        (main.spec.replicas, main.status.unwrap_or_default().replicas),
        (Some(5), None)
    );
    assert_eq!(main.metadata.generation, Some(2));
    let both = json!({ "spec": { "replicas": 6 }, "status": { "replicas": 4 } });
    let status = deployments
        .patch_status("web", &PatchParams::default(), &Patch::Merge(&both))
        .await
        .unwrap();
    assert_eq!(
        (status.spec.replicas, status.status.unwrap().replicas),
        (Some(5), Some(4))
    );
    assert_eq!(status.metadata.generation, Some(2));
}
