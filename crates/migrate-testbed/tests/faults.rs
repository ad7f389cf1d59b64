//! What can go wrong on a node of a real cluster, and go right again.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{SOON, condition, get};
use migrate_testbed::{KubeadmCluster, Node, eventually, skip_or_fail};

#[tokio::test]
#[ignore = "two minutes; part of cargo xtask extended"]
async fn a_node_fails_in_every_way_and_comes_back() {
    let builder = KubeadmCluster::builder().workers(1).minor(36).also(37);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let worker = cluster.node("node2").unwrap();
    network(&cluster, worker).await;
    locks(worker).await;
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
    question(worker).await;
}

/// A slow link is felt in the way of a large packet, and by nobody else.
async fn network(cluster: &KubeadmCluster, node: &Node) {
    let first = &cluster.nodes()[0];
    let way = async |from: &Node, to: &Node| {
        let address = to.address().to_string();
        let words = ["busybox", "ping", "-c", "1", "-s", "8000", &address];
        let said = from.run(&words).await.unwrap().stdout;
        milliseconds(&String::from_utf8_lossy(&said))
    };
    let is_quick = async |what: &str| {
        eventually(what, SOON, || async {
            Ok::<_, String>(way(first, node).await < 50.0)
        })
        .await
        .unwrap();
    };
    is_quick("a quick way").await;
    // Half of the packet passes at once, half of it has to wait.
    node.set_rate(Some(128)).unwrap();
    let slow = way(first, node).await;
    assert!((200.0..1000.0).contains(&slow), "{slow} ms");
    node.set_rate(Some(512)).unwrap();
    let quicker = way(first, node).await;
    assert!((50.0..slow).contains(&quicker), "{quicker} ms");
    node.set_rate(None).unwrap();
    is_quick("a quick way again").await;
    // There was no such queue, and that is no error.
    node.set_rate(None).unwrap();
}

/// The only figure of a `ping` of one packet.
fn milliseconds(said: &str) -> f64 {
    let (_, figures) = said.split_once("min/avg/max = ").unwrap();
    figures.split('/').next().unwrap().parse().unwrap()
}

/// While another program has a lock, apt and dpkg do not get it.
async fn locks(node: &Node) {
    for (lock, words) in [
        (
            "/var/lib/dpkg/lock-frontend",
            "apt-get install --reinstall -y kubectl=1.36.3-1.1",
        ),
        ("/var/lib/dpkg/lock", "dpkg --configure -a"),
        ("/var/lib/apt/lists/lock", "apt-get update"),
        (
            "/var/cache/apt/archives/lock",
            "apt-get install --reinstall -y kubectl=1.36.3-1.1",
        ),
    ] {
        let held = node.hold_lock(lock).await.unwrap();
        let said = node.script(&format!("{words} 2>&1")).await.unwrap_err();
        assert!(said.to_string().contains("lock"), "{said}");
        drop(held);
        // Waits until the other process has gone.
        drop(node.hold_lock(lock).await.unwrap());
        eventually(words, SOON, || async {
            node.script(words).await.map(|_| true)
        })
        .await
        .unwrap();
    }
    let none = node.hold_lock("/var/lib/no-such-folder/lock").await;
    assert!(none.is_err());
}

/// About a configuration file that both sides have changed dpkg asks, and nobody
/// is there to answer.
async fn question(node: &Node) {
    let file = "/etc/default/kubelet";
    node.script(&format!("echo '# ours' >> {file}"))
        .await
        .unwrap();
    let upgrade = "apt-get install -y --allow-change-held-packages kubelet=1.37.2-1.1 2>&1";
    let said = node.script(&format!("{upgrade} || true")).await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("What would you like to do about it"),
        "{said}"
    );
    assert!(said.contains("end of file on stdin"), "{said}");
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
        node.script("apt-get install --reinstall -y kubectl=1.36.3-1.1")
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
