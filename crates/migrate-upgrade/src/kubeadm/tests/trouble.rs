//! Steps on nodes where something else is at work, or is wrong.

use super::*;
use crate::kubeadm::etcd::tests::said;

#[tokio::test]
async fn somebody_else_at_work_with_packages_is_waited_for() {
    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("unfinished", "iU  kubeadm\n");
    worker.write("dpkg-is-busy", "");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("slept"), "2\n".repeat(3));

    let worker = Node::new(false);
    worker.write("cluster-version", "v1.37.2");
    worker.write("lists-are-busy", "");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("slept"), "2\n".repeat(3));
    assert!(!worker.log().contains("apt-get update failed"));
}

#[tokio::test]
async fn an_empty_manifest_of_a_power_cut_is_a_lost_one() {
    let cp = Node::new(true);
    cp.write("kubeadm-fails", "power cut");
    cp.failure(&member()).await;
    std::fs::remove_file(cp.path("kubeadm-fails")).unwrap();
    cp.manifests("v1.36.3");
    let manifest = "root/etc/kubernetes/manifests/kube-apiserver.yaml";
    let whole = cp.read(manifest);
    cp.write(
        "root/etc/kubernetes/tmp/kubeadm-backup-manifests-1/kube-apiserver.yaml",
        &whole,
    );
    cp.write(manifest, "");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert!(cp.log().contains("the manifest of kube-apiserver was lost"));
}

#[tokio::test]
async fn a_kubelet_is_not_restarted_over_an_etcd_that_got_unwell_meanwhile() {
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.manifests("v1.37.2");
    cp.write("etcd-is-ill", "https://10.0.0.2:2379 is unhealthy\n");
    let (retryable, reason) = cp.failure(&node()).await;
    assert!(
        retryable && reason.contains("10.0.0.2:2379 is unhealthy"),
        "{reason}"
    );
    assert_eq!(cp.read("systemctl-calls"), "");
    std::fs::remove_file(cp.path("etcd-is-ill")).unwrap();

    // The lead has come back to it, and goes again, to the first other member.
    cp.write(
        "etcd-fields",
        "\"MemberID\" : 11400714819323198485\n\"Leader\" : 11400714819323198485\n\
         \"MemberID\" : 11400714819323198486\n\"Leader\" : 11400714819323198485\n",
    );
    assert_eq!(cp.upgrade(&node()).await, DONE, "{}", cp.log());
    assert!(
        cp.read("etcd-moves")
            .contains("move-leader 9e3779b97f4a7c16")
    );
    assert_eq!(
        cp.read("systemctl-calls"),
        "daemon-reload\nrestart kubelet\n"
    );
}

#[tokio::test]
async fn nothing_is_installed_that_was_not_there() {
    let worker = Node::new(false);
    std::fs::remove_file(worker.path("installed/kubectl")).unwrap();
    worker.write("cluster-version", "v1.37.2");
    worker.write("available", "1.36.3-1.1\n1.37.2-1.1\n");
    assert_eq!(worker.upgrade(&node()).await, DONE, "{}", worker.log());
    assert!(!worker.path("installed/kubectl").exists());
    // And its way back needs none.
    let back = way_back::node_back();
    assert_eq!(worker.upgrade(&back).await, DONE, "{}", worker.log());
    assert_eq!(worker.read("installed/kubelet").trim(), "1.36.3-1.1");
}

#[tokio::test]
async fn a_manifest_that_is_lost_in_kubeadms_own_rollback_is_named_and_comes_back() {
    let cp = Node::new(true);
    cp.write("kubeadm-loses", "kube-scheduler");
    cp.write(
        "kubeadm-fails",
        "rolled the state back to pre-upgrade state",
    );
    let (retryable, reason) = cp.failure(&member()).await;
    let says = "node cp-1: the manifest of kube-scheduler is lost";
    assert!(retryable && reason.starts_with(says), "{reason}");
    let backup = "tmp/kubeadm-backup-manifests-9/kube-scheduler.yaml and goes on";
    assert!(reason.contains(backup), "{reason}");
    // Without its backup nothing here brings it back.
    let tmp = cp.path("root/etc/kubernetes/tmp");
    std::fs::rename(&tmp, cp.path("away")).unwrap();
    let status = cp.driver.probe(&cx(), &member()).await.unwrap();
    let ActionStatus::Failed { retryable, reason } = status else {
        panic!("{status:?}");
    };
    assert!(!retryable && reason.contains("has no backup"), "{reason}");
    std::fs::rename(cp.path("away"), &tmp).unwrap();
    for file in ["kubeadm-loses", "kubeadm-fails"] {
        std::fs::remove_file(cp.path(file)).unwrap();
    }
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    let log = cp.log();
    assert!(
        log.contains("the manifest of kube-scheduler was lost"),
        "{log}"
    );
}
