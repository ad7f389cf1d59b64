//! Subresources that write one field.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use migrate_sim::store::Resource;
use serde_json::json;

use crate::common::{pod, send, server, stored};
use crate::{PODS, deployment};

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
