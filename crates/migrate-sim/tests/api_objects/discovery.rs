//! Which kinds there are, and what is said of them.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::common::{add_pod, send, server};
use crate::reason;

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
