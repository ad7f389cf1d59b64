//! Room on a node's disk for the images that it misses.

use migrate_core::Severity;

use super::*;

const MIB: u64 = 1024;

/// A worker that misses two images of 256 MiB at most, on a disk of so many
/// MiB of which so many are left; its findings, and what it pulled.
async fn pulled(left: u64, of: u64) -> (Vec<(String, Severity, String)>, String) {
    let worker = Node::new(false);
    worker.write("root/images/here", "");
    worker.write("image-room", &format!(" {} {}\n", left * MIB, of * MIB));
    worker.write(
        "pullable",
        "r.local/kube-proxy:v1.37.2\nr.local/coredns:v9\n",
    );
    let target = "v1.37.2".parse().unwrap();
    let readiness = worker.driver.pre_pull(&[CP.to_owned()], &target).await;
    let blocks = readiness.findings.iter().any(|found| found.blocks());
    assert_eq!(readiness.is_ready(), !blocks);
    let asked = worker.read("df-calls");
    assert!(asked.trim().ends_with("/root/images"), "{asked}");
    let findings = readiness.findings.into_iter();
    let found = findings.map(|found| (found.code, found.severity, found.evidence));
    (found.collect(), worker.read("pulls"))
}

#[tokio::test]
async fn a_node_without_room_for_its_images_pulls_none() {
    let (found, pulls) = pulled(511, 100_000).await;
    assert_eq!(pulls, "");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "KM-KUBEADM-032");
    assert_eq!(found[0].1, Severity::Blocker);
    assert!(
        found[0].2.contains("may take 512 MiB") && found[0].2.contains("has 511 MiB left"),
        "{found:?}"
    );
}

#[tokio::test]
async fn room_that_the_kubelet_would_clear_again_is_a_warning() {
    // 15 % of 10,000 MiB have to be left.
    let (found, pulls) = pulled(2011, 10_000).await;
    assert_eq!(pulls.lines().count(), 2, "{pulls}");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, Severity::Warning);
    assert!(found[0].2.contains("from 85 % on"), "{found:?}");
    let (found, pulls) = pulled(2012, 10_000).await;
    assert_eq!((found, pulls.lines().count()), (Vec::new(), 2));
}

#[tokio::test]
async fn a_disk_that_cannot_be_asked_and_a_node_that_has_all_say_nothing() {
    let worker = Node::new(false);
    worker.write(
        "pullable",
        "r.local/kube-proxy:v1.37.2\nr.local/coredns:v9\n",
    );
    let target = "v1.37.2".parse().unwrap();
    let nodes = [CP.to_owned()];
    assert_eq!(worker.driver.pre_pull(&nodes, &target).await.findings, []);
    assert_eq!(worker.read("pulls").lines().count(), 2);
    worker.write("image-room", "0 10");
    worker.write("images", "r.local/kube-proxy:v1.37.2\nr.local/coredns:v9\n");
    assert_eq!(worker.driver.pre_pull(&nodes, &target).await.findings, []);
}

#[tokio::test]
async fn a_full_disk_is_named_and_cured() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("apt-fails", "");
    worker.write("free", "  3");
    let (retryable, reason) = worker.failure(&node()).await;
    assert!(retryable, "{reason}");
    for words in [
        "apt-get could not install kubeadm=1.37.2-2.1; /var/lib/dpkg has 3 MiB free, make room there",
        "No space left on device",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!(worker.read("held"), "kubeadm\nkubelet\n");
    // With room the disk is not what is told.
    worker.write("free", " 4000");
    let (_, reason) = worker.failure(&node()).await;
    assert!(!reason.contains("make room"), "{reason}");
    std::fs::remove_file(worker.path("apt-fails")).unwrap();
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
}
