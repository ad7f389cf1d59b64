//! What the simulated kubelets do.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::{condition, delete, get, node, pod, pods};
use migrate_testbed::ControlPlane;
use serde_json::json;
use tokio::time::Instant;

#[tokio::test]
async fn pods_honour_what_they_say_about_themselves() {
    let Some(plane) = common::start(ControlPlane::builder()).await else {
        return;
    };
    let client = plane.client();
    let sim = |name: &str| format!("sim.kube-migrate.dev/{name}");
    let mut graceful = pod("graceful", json!({}));
    graceful["spec"]["terminationGracePeriodSeconds"] = json!(3);
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "job", "namespace": "default"},
        "spec": {"template": {"metadata": {"annotations": {sim("run-seconds"): "1"}},
                              "spec": common::pod_spec(1)}},
    });
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    let objects = vec![
        node("node-1"),
        graceful,
        pod("quick", json!({sim("stop-seconds"): "1"})),
        pod("slow", json!({sim("ready-seconds"): "3"})),
        pod("sick", json!({sim("never-ready"): "true"})),
        job,
    ];
    plane.apply(objects).await.unwrap();
    plane
        .wait_until("graceful and quick to be ready", common::SOON, || async {
            let pods = pods(&client).await?;
            let ready = |name: &str| condition(&pods[name], "Ready") == "True";
            assert!(!ready("sick"));
            Ok::<_, kube::Error>(ready("graceful") && ready("quick"))
        })
        .await
        .unwrap();

    let begun = Instant::now();
    let pod_path = |name: &str| format!("/api/v1/namespaces/default/pods/{name}");
    delete(&client, &pod_path("graceful")).await.unwrap();
    delete(&client, &pod_path("quick")).await.unwrap();
    let gone = [Cell::new(None), Cell::new(None)];
    plane
        .wait_until("both to be gone", common::SOON, || async {
            let pods = pods(&client).await?;
            for (name, gone) in ["graceful", "quick"].into_iter().zip(&gone) {
                if let Some(pod) = pods.get(name) {
                    assert_eq!(condition(pod, "Ready"), "True", "unready while terminating");
                } else if gone.get().is_none() {
                    gone.set(Some(begun.elapsed()));
                }
            }
            Ok::<_, kube::Error>(gone.iter().all(|gone| gone.get().is_some()))
        })
        .await
        .unwrap();
    let [graceful, quick] = gone.map(|gone| gone.get().unwrap());
    println!("grace 3 s took {graceful:?}, stop-seconds 1 took {quick:?}");
    assert!(graceful >= Duration::from_secs(3) && quick >= Duration::from_secs(1));
    assert!(
        quick < graceful,
        "a pod that stops early was given its whole grace period"
    );

    plane
        .wait_until(
            "slow to be ready and the job to be done",
            common::SOON,
            || async {
                let pods = pods(&client).await?;
                let job = get(&client, "/apis/batch/v1/namespaces/default/jobs/job").await?;
                let slow = condition(&pods["slow"], "Ready") == "True";
                assert_eq!(condition(&pods["sick"], "Ready"), "False");
                Ok::<_, kube::Error>(slow && condition(&job, "Complete") == "True")
            },
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn frozen_nodes_become_unready_and_come_back_with_their_pods() {
    let builder = ControlPlane::builder()
        // Sooner than the default, to keep the test short.
        .controller_manager_flag("--node-monitor-grace-period=12s");
    let Some(plane) = common::start(builder).await else {
        return;
    };
    let client = plane.client();
    plane
        .apply(vec![node("node-1"), pod("web", json!({}))])
        .await
        .unwrap();
    let ready = |wanted: &'static str| {
        let client = client.clone();
        move || {
            let client = client.clone();
            async move {
                let node = get(&client, "/api/v1/nodes/node-1").await?;
                let pod = get(&client, "/api/v1/namespaces/default/pods/web").await?;
                let pod =
                    if wanted == "True" { "True" } else { "False" } == condition(&pod, "Ready");
                Ok::<_, kube::Error>(pod && condition(&node, "Ready") == wanted)
            }
        }
    };
    plane
        .wait_until("node and pod to be ready", common::SOON, ready("True"))
        .await
        .unwrap();
    plane.freeze_nodes().await.unwrap();
    let frozen = Instant::now();
    plane
        .wait_until("node and pod to be unready", common::SOON, ready("Unknown"))
        .await
        .unwrap();
    println!("unready after {:?}", frozen.elapsed());
    plane.thaw_nodes().await.unwrap();
    let thawed = Instant::now();
    plane
        .wait_until("node and pod to be back", common::SOON, ready("True"))
        .await
        .unwrap();
    println!("back after {:?}", thawed.elapsed());
}
