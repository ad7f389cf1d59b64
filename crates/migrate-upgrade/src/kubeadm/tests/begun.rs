//! Attempts after one that was begun, by what that one has changed.

use super::*;
use crate::kubeadm::etcd::tests::said;

const ILL: &str = "https://10.0.0.2:2379 is unhealthy\n";

fn remove(cp: &Node, file: &str) {
    std::fs::remove_file(cp.path(file)).unwrap();
}

#[tokio::test]
async fn etcd_is_looked_at_again_unless_this_upgrade_has_changed_something() {
    // kubeadm's own checks fail, and a member falls ill before the next attempt.
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.write("kubeadm-fails", "\t[ERROR CreateJob]: timed out");
    let (retryable, _) = cp.failure(&member()).await;
    assert!(retryable);
    remove(&cp, "kubeadm-fails");
    cp.write("etcd-is-ill", ILL);
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(retryable && reason.contains(ILL.trim()), "{reason}");
    assert_eq!(cp.read("kubeadm-calls").lines().count(), 1);
    remove(&cp, "etcd-is-ill");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());

    // Another target was begun here, whatever came of it.
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.write("state/kubeadm", "apply 1.37.1\n");
    cp.manifests("v1.36.3");
    cp.write("etcd-is-ill", ILL);
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(retryable && reason.contains(ILL.trim()), "{reason}");
    assert_eq!(cp.read("kubeadm-calls"), "");
}

#[tokio::test]
async fn what_is_half_changed_is_brought_to_its_end_with_an_ill_member_too() {
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.write("kubeadm-fails", "stopped");
    cp.failure(&member()).await;
    cp.write(
        "root/etc/kubernetes/manifests/kube-scheduler.yaml",
        "  - image: r.local/kube-scheduler:v1.37.2\n",
    );
    cp.write("etcd-is-ill", ILL);
    // One that changes nothing more does not hide it.
    cp.write("kubeadm-fails", "\t[ERROR CreateJob]: timed out");
    cp.failure(&member()).await;
    remove(&cp, "kubeadm-fails");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    assert_eq!(cp.read("kubeadm-calls").lines().count(), 3);
    assert_eq!(cp.read("state/kubeadm-manifests"), "");
}

/// Moved back by kubeadm, or from its backup by the next attempt.
#[tokio::test]
async fn etcd_is_looked_at_again_once_every_manifest_is_what_it_was() {
    for how in ["kubeadm-rolls-back", "kubeadm-loses"] {
        let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
        cp.write(how, "kube-scheduler");
        cp.write("kubeadm-fails", "stopped");
        cp.failure(&member()).await;
        remove(&cp, how);
        remove(&cp, "kubeadm-fails");
        cp.write("etcd-is-ill", ILL);
        for _ in 0..2 {
            let (retryable, reason) = cp.failure(&member()).await;
            assert!(retryable && reason.contains(ILL.trim()), "{how}: {reason}");
        }
        assert_eq!(cp.read("kubeadm-calls").lines().count(), 1, "{how}");
        remove(&cp, "etcd-is-ill");
        assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
    }
}

/// The very thing that is lost is what would answer.
#[tokio::test]
async fn lost_manifests_come_back_without_any_api_and_it_is_waited_for() {
    let cp = Node::new(true).with_etcd(&said(1, 2, &[7, 7, 7]));
    cp.write("kubeadm-fails", "power cut");
    cp.failure(&member()).await;
    remove(&cp, "kubeadm-fails");
    let kubernetes = cp.path("root/etc/kubernetes");
    let backup = kubernetes.join("tmp/kubeadm-backup-manifests-1");
    std::fs::create_dir_all(&backup).unwrap();
    let lost = ["etcd.yaml", "kube-apiserver.yaml"];
    for file in lost {
        std::fs::rename(kubernetes.join("manifests").join(file), backup.join(file)).unwrap();
    }
    cp.write("api-is-away", "");
    let (retryable, reason) = cp.failure(&member()).await;
    assert!(
        retryable && reason.contains("the API has not answered"),
        "{reason}"
    );
    for file in lost {
        assert!(kubernetes.join("manifests").join(file).exists(), "{file}");
    }
    remove(&cp, "api-is-away");
    assert_eq!(cp.upgrade(&member()).await, DONE, "{}", cp.log());
}
