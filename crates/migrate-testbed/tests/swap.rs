//! Starting, running workloads, and swapping the version under them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{available, deployment, node, pods, text};
use migrate_testbed::{ControlPlane, skip_or_fail};
use serde_json::Value;
use tokio::time::Instant;

#[tokio::test]
async fn pods_live_through_a_swap_of_the_control_plane() {
    let begun = Instant::now();
    let builder = ControlPlane::builder().minor(36).also(37);
    let Some(plane) = common::start(builder).await else {
        return;
    };
    let started = begun.elapsed();
    let objects = vec![node("node-1"), node("node-2"), deployment("web", 20)];
    let applied = plane.apply(objects.clone()).await.unwrap();
    assert_eq!((applied.created, applied.updated), (3, 0));
    available(&plane, "web", 20).await;
    println!(
        "started in {started:?}; 20 pods available after {:?}",
        begun.elapsed()
    );
    assert_eq!(server_minor(&plane).await, "36");
    let before = facts(&pods(&plane.client()).await.unwrap());

    let swap = plane.swap_to(37).await.unwrap();
    println!("{swap:?}");
    assert_eq!(server_minor(&plane).await, "37");
    available(&plane, "web", 20).await;
    let after = facts(&pods(&plane.client()).await.unwrap());
    assert_eq!(before, after, "a pod was replaced or restarted");

    // The new controllers, scheduler and the old kwok work.
    let applied = plane
        .apply(vec![deployment("more", 5), node("node-1")])
        .await
        .unwrap();
    assert_eq!((applied.created, applied.updated), (1, 1));
    available(&plane, "more", 5).await;
    let again = plane.swap_to(37).await.unwrap();
    assert_eq!(again.from, again.to);
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn several_control_planes_run_at_once() {
    let start = || common::start(ControlPlane::builder());
    let (first, second) = tokio::join!(start(), start());
    let (Some(first), Some(second)) = (first, second) else {
        return;
    };
    assert_ne!(first.dir(), second.dir());
    assert_ne!(first.etcd_endpoint(), second.etcd_endpoint());
    first.apply(vec![node("only-in-the-first")]).await.unwrap();
    let nodes = common::get(&second.client(), "/api/v1/nodes")
        .await
        .unwrap();
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(0));
}

#[tokio::test]
async fn a_component_that_ends_is_an_error_with_its_log() {
    let builder = ControlPlane::builder().api_server_flag("--no-such-flag");
    let error = match builder.start().await {
        Err(missing @ migrate_testbed::Error::NoPrograms { .. }) => {
            let _: Option<ControlPlane> = skip_or_fail(Err(missing));
            return;
        }
        Err(error) => error.to_string(),
        Ok(_) => panic!("started with a flag that does not exist"),
    };
    assert!(error.contains("kube-apiserver ended by itself"), "{error}");
    assert!(error.contains("no-such-flag"), "{error}");
}

async fn server_minor(plane: &ControlPlane) -> String {
    let version = common::get(&plane.client(), "/version").await.unwrap();
    text(&version["minor"])
}

/// What a swap must not change: uid, node, restarts, readiness.
fn facts(pods: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let fact = |pod: &Value| {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        let ready = conditions
            .iter()
            .find(|condition| condition["type"] == "Ready");
        format!(
            "{} on {} restarted {restarts} {ready:?}",
            pod["metadata"]["uid"], pod["spec"]["nodeName"]
        )
    };
    pods.iter()
        .map(|(name, pod)| (name.clone(), fact(pod)))
        .collect()
}
