//! What can go wrong on a node of a real cluster, and go right again.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{SOON, condition, get};
use migrate_testbed::{KubeadmCluster, Node, eventually, skip_or_fail};

#[tokio::test]
#[ignore = "two minutes; part of cargo xtask extended"]
async fn a_node_fails_in_every_way_and_comes_back() {
    let builder = KubeadmCluster::builder().workers(1).minor(36);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let worker = cluster.node("node2").unwrap();
    disk(worker).await;
    image(worker).await;
    kubelet(&cluster, worker).await;
    worker.power_off().await;
    assert!(worker.run(&["true"]).await.is_err(), "it is off");
    worker.reboot().await.unwrap();
    eventually("the kubelet after power came back", SOON * 2, || async {
        Ok::<_, String>(is_healthy(worker).await)
    })
    .await
    .unwrap();
}

async fn disk(node: &Node) {
    for folder in ["/var/cache/apt", "/var/lib/kube-migrate"] {
        let script = format!("mkdir -p {folder}; echo kept > {folder}/kept");
        node.script(&script).await.unwrap();
        node.fill_disk(folder, 512).await.unwrap();
        let write = format!("head -c 1000000 /dev/zero > {folder}/more");
        assert!(node.script(&write).await.is_err(), "{folder} is full");
        node.script(&format!("head -c 1000 /dev/zero > {folder}/more"))
            .await
            .unwrap();
        node.clear_disk(folder).await.unwrap();
        node.script(&write).await.unwrap();
        let kept = node.run(&["cat", &format!("{folder}/kept")]).await.unwrap();
        assert_eq!(kept.stdout, b"kept\n");
    }
    // Filled again, and apt notices.
    node.fill_disk("/var/cache/apt", 0).await.unwrap();
    assert!(
        node.script("apt-get install --reinstall -y kubectl")
            .await
            .is_err()
    );
    node.clear_disk("/var/cache/apt").await.unwrap();
}

async fn image(node: &Node) {
    let images = async || {
        let listed = node
            .run(&["ctr", "--namespace", "k8s.io", "images", "ls", "-q"])
            .await;
        String::from_utf8_lossy(&listed.unwrap().stdout).into_owned()
    };
    let coredns = images().await;
    let coredns = coredns
        .lines()
        .find(|name| name.contains("/coredns:"))
        .unwrap();
    node.remove_image(coredns).await.unwrap();
    assert!(!images().await.contains(coredns));
}

async fn kubelet(cluster: &KubeadmCluster, node: &Node) {
    let pid = async || {
        let words = ["systemctl", "show", "--property=MainPID", "kubelet"];
        node.run(&words).await.unwrap().stdout
    };
    let before = pid().await;
    node.kill_kubelet().await.unwrap();
    eventually("another kubelet", SOON, || async {
        Ok::<_, String>(pid().await != before && is_healthy(node).await)
    })
    .await
    .unwrap();

    node.freeze_kubelet().await.unwrap();
    assert!(!is_healthy(node).await, "it does not answer");
    let client = cluster.client();
    let ready = async || {
        get(&client, "/api/v1/nodes/node2")
            .await
            .map(|node| condition(&node, "Ready"))
    };
    eventually("the node to be given up", SOON * 3, || async {
        Ok::<_, kube::Error>(ready().await? == "Unknown")
    })
    .await
    .unwrap();
    node.thaw_kubelet().await.unwrap();
    eventually("the node to be Ready again", SOON * 2, || async {
        Ok::<_, kube::Error>(ready().await? == "True")
    })
    .await
    .unwrap();
}

/// Whether the kubelet says that it is well, within two seconds.
async fn is_healthy(node: &Node) -> bool {
    // Its wget has no time-out that works.
    let words = [
        "timeout",
        "2",
        "busybox",
        "wget",
        "-qO-",
        "http://127.0.0.1:10248/healthz",
    ];
    node.output(&words)
        .await
        .is_ok_and(|answer| answer.stdout == b"ok")
}
