//! Reads and writes of objects, their subresources and their refusals.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{add_pod, pod, send, send_as, server, stored};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Client, ResourceExt};
use migrate_sim::api::ApiServer;
use migrate_sim::store::Resource;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c", "image": "i:1" }] } },
        },
        "status": { "replicas": 9 },
    })
}

fn version(server: &ApiServer) -> u64 {
    server.shared().lock().resource_version()
}

fn reason(error: &kube::Error) -> (u16, String) {
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    (status.code, status.reason.clone())
}

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

#[tokio::test(start_paused = true)]
async fn dry_runs_answer_like_the_write_and_write_nothing() {
    let server = server();
    add_pod(&server, "a", true);
    let before = (version(&server), stored(&server, Resource::PODS, "a"));
    let all = "dryRun=All";
    let created = send(
        &server,
        "POST",
        &format!("{PODS}?{all}"),
        pod("b", json!({})),
    )
    .await;
    assert_eq!(
        (created.code, created.body["metadata"]["name"].as_str()),
        (201, Some("b"))
    );
    assert_eq!(
        send(
            &server,
            "POST",
            &format!("{PODS}?{all}"),
            pod("a", json!({}))
        )
        .await
        .code,
        409
    );
    let patched = send(
        &server,
        "PATCH",
        &format!("{PODS}/a?{all}"),
        json!({ "metadata": { "labels": { "x": "1" } } }),
    )
    .await;
    assert_eq!(patched.body["metadata"]["labels"]["x"], "1");
    assert_eq!(
        send(&server, "DELETE", &format!("{PODS}/a?{all}"), Value::Null)
            .await
            .code,
        200
    );
    assert_eq!(
        send(
            &server,
            "DELETE",
            &format!("{PODS}/a"),
            json!({ "dryRun": ["All"] })
        )
        .await
        .code,
        200
    );
    assert_eq!(
        send(&server, "DELETE", &format!("{PODS}?{all}"), Value::Null)
            .await
            .code,
        200
    );
    assert_eq!(
        send(
            &server,
            "PUT",
            &format!("{LEASES}/l?{all}"),
            json!({ "metadata": { "name": "l" } })
        )
        .await
        .code,
        201
    );
    assert_eq!(
        send(
            &server,
            "POST",
            &format!("{PODS}?dryRun=Yes"),
            pod("b", json!({}))
        )
        .await
        .code,
        422
    );
    assert_eq!(
        (version(&server), stored(&server, Resource::PODS, "a")),
        before
    );
    // Identities are those that a run without the dry runs would give.
    let uid =
        send(&server, "POST", PODS, pod("c", json!({}))).await.body["metadata"]["uid"].clone();
    let other = common::server();
    add_pod(&other, "a", true);
    assert_eq!(
        send(&other, "POST", PODS, pod("c", json!({}))).await.body["metadata"]["uid"],
        uid
    );
}

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
async fn scale_and_binding_write_their_one_field() {
    let server = server();
    send(
        &server,
        "POST",
        "/apis/apps/v1/namespaces/default/deployments",
        deployment("web"),
    )
    .await;
    let deployments: Api<Deployment> = Api::default_namespaced(server.client());
    assert_eq!(
        deployments
            .get_scale("web")
            .await
            .unwrap()
            .spec
            .unwrap()
            .replicas,
        Some(3)
    );
    let scaled = deployments
        .patch_scale(
            "web",
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "replicas": 4 } })),
        )
        .await;
    assert_eq!(scaled.unwrap().spec.unwrap().replicas, Some(4));
    assert_eq!(deployments.get("web").await.unwrap().spec.replicas, Some(4));
    let path = "/apis/apps/v1/namespaces/default/deployments/web/scale";
    assert_eq!(
        send(
            &server,
            "PATCH",
            path,
            json!({ "spec": { "replicas": -1 } })
        )
        .await
        .code,
        422
    );

    let mut unbound = pod("p", json!({}));
    unbound["spec"].as_object_mut().unwrap().remove("nodeName");
    send(&server, "POST", PODS, unbound).await;
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    assert_eq!(
        send(
            &server,
            "POST",
            &format!("{PODS}/p/binding"),
            binding.clone()
        )
        .await
        .code,
        201
    );
    assert_eq!(
        stored(&server, Resource::PODS, "p")["spec"]["nodeName"],
        "n"
    );
    assert_eq!(
        send(&server, "POST", &format!("{PODS}/p/binding"), binding)
            .await
            .code,
        409
    );
}

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

#[tokio::test(start_paused = true)]
async fn custom_resources_are_served_once_defined() {
    let server = server();
    let definition = json!({
        "metadata": { "name": "machines.cluster.example.dev" },
        "spec": {
            "group": "cluster.example.dev", "scope": "Namespaced",
            "names": { "plural": "machines", "kind": "Machine" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} } }],
        },
    });
    let path = "/apis/cluster.example.dev/v1/namespaces/default/machines";
    assert_eq!(send(&server, "GET", path, Value::Null).await.code, 404);
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(send(&server, "POST", crds, definition).await.code, 201);
    let resource = ApiResource {
        group: "cluster.example.dev".into(),
        version: "v1".into(),
        api_version: "cluster.example.dev/v1".into(),
        kind: "Machine".into(),
        plural: "machines".into(),
    };
    let machines: Api<DynamicObject> = Api::default_namespaced_with(server.client(), &resource);
    let machine = DynamicObject::new("m", &resource).data(json!({ "spec": { "x": 1 } }));
    machines
        .create(&PostParams::default(), &machine)
        .await
        .unwrap();
    let strategic = machines
        .patch(
            "m",
            &PatchParams::default(),
            &Patch::Strategic(json!({ "spec": { "x": 2 } })),
        )
        .await;
    assert_eq!(reason(&strategic.unwrap_err()).0, 415);
    let merged = machines
        .patch(
            "m",
            &PatchParams::default(),
            &Patch::Merge(json!({ "spec": { "x": 2 } })),
        )
        .await
        .unwrap();
    assert_eq!(merged.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn discovery_and_version_work_with_the_client() {
    let server = server();
    let client: Client = server.client();
    assert_eq!(
        client.apiserver_version().await.unwrap().git_version,
        "v1.36.3"
    );
    server.set_version("v1.37.2");
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
    let discovery = kube::Discovery::new(client).run().await.unwrap();
    let (resource, _) = discovery
        .resolve_gvk(&kube::core::GroupVersionKind::gvk(
            "policy",
            "v1",
            "PodDisruptionBudget",
        ))
        .unwrap();
    assert_eq!(resource.plural, "poddisruptionbudgets");
    let core = send(&server, "GET", "/api/v1", Value::Null).await;
    let mut served = core.body["resources"].as_array().unwrap().iter();
    assert!(served.any(|resource| resource["name"] == "pods/eviction"));
}

#[tokio::test(start_paused = true)]
async fn partial_metadata_is_all_that_a_metadata_client_sees() {
    let server = server();
    add_pod(&server, "a", true);
    let pods: Api<kube::core::PartialObjectMeta<k8s_openapi::api::core::v1::Pod>> =
        Api::default_namespaced(server.client());
    let listed = pods
        .list_metadata(&kube::api::ListParams::default())
        .await
        .unwrap();
    assert_eq!(listed.items[0].name_any(), "a");
    let one = pods.get_metadata("a").await.unwrap();
    assert_eq!(one.labels()["app"], "web");
}
