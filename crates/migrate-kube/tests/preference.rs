//! Nodes that are the worse choice for new pods, on the embedded cluster.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use migrate_core::{Fence, Moment};
use migrate_kube::resources::Node;
use migrate_kube::{
    Anchor, Claim, Error, RunMark, cordon, observe, prefer_upgraded, restore_cordon,
    take_over_nodes, unstamp_nodes,
};
use migrate_sim::{Pool, SimCluster};
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn nodes_to_be_upgraded_are_avoided_until_they_are_given_back() {
    let cluster = SimCluster::builder().nodes(Pool::new("general", 3));
    let cluster = cluster.start().await.unwrap();
    let client = cluster.client();
    let nodes = Api::<Node>::all(client.clone());
    let names: Vec<String> = nodes_of(&client)
        .await
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    // Another's taint has a time, which stays.
    let theirs =
        json!({ "key": "theirs", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z" });
    let patch = json!({ "spec": { "taints": [theirs] } });
    nodes
        .patch(&names[0], &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let mark = RunMark::new("run-1", "host:/journal", "plan-1");
    let claim = Claim::new(mark, Duration::from_secs(30));
    let claimed = Anchor::claim(&client, &claim, Moment::EPOCH).await.unwrap();
    let ours = Fence::new("run-1", claimed.epoch);
    let to = |version: &str| {
        names
            .iter()
            .map(|name| (name.clone(), version.parse().unwrap()))
            .collect()
    };
    // Who has arrived is not avoided.
    assert_eq!(
        prefer_upgraded(&client, &ours, &to("v1.36.3"))
            .await
            .unwrap(),
        0
    );
    for _ in 0..2 {
        let avoided = prefer_upgraded(&client, &ours, &to("v1.37.2"))
            .await
            .unwrap();
        assert_eq!(avoided, names.len());
    }
    let model = observe(&client, Moment::EPOCH).await.unwrap();
    let known: Vec<&str> = model
        .nodes
        .iter()
        .flat_map(|node| &node.taints)
        .map(|it| it.key.as_str())
        .collect();
    assert_eq!(known, ["theirs"], "ours is no property of a node");
    let of_first = async || nodes_of(&client).await.remove(0).1;
    assert_eq!(of_first().await[0], theirs);
    assert_eq!(of_first().await[1]["effect"], "PreferNoSchedule");
    // It goes with the cordon, and from the others at the end.
    cordon(&client, &names[0], &ours).await.unwrap();
    restore_cordon(&client, &names[0], &ours).await.unwrap();
    let counts = async || -> Vec<usize> {
        nodes_of(&client)
            .await
            .iter()
            .map(|(_, taints)| taints.len())
            .collect()
    };
    assert_eq!(counts().await, [1, 1, 1]);
    assert_eq!(of_first().await, std::slice::from_ref(&theirs));
    // Who was superseded may not.
    let next = Anchor::claim(&client, &claim, Moment::EPOCH).await.unwrap();
    take_over_nodes(&client, &Fence::new("run-1", next.epoch))
        .await
        .unwrap();
    let late = prefer_upgraded(&client, &ours, &to("v1.37.2")).await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    unstamp_nodes(&client, &Fence::new("run-1", next.epoch))
        .await
        .unwrap();
    let left: usize = counts().await.iter().sum();
    assert_eq!((left, of_first().await), (1, vec![theirs]));
}

/// Nodes with their taints as the API has them, but for those of its own controllers.
async fn nodes_of(client: &Client) -> Vec<(String, Vec<Value>)> {
    let request = http::Request::get("/api/v1/nodes")
        .body(Vec::new())
        .unwrap();
    let list: Value = client.request(request).await.unwrap();
    let taints = |node: &Value| {
        let mut taints = node["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        taints.retain(|it| {
            !it["key"]
                .as_str()
                .unwrap()
                .starts_with("node.kubernetes.io/")
        });
        taints
    };
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap().to_owned();
    let nodes = list["items"].as_array().unwrap().iter();
    nodes.map(|node| (name(node), taints(node))).collect()
}
