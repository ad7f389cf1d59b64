//! What of a control plane is not kubeadm's: an etcd of its own, with certificates of
//! its own, and a CoreDNS that somebody has installed. Both are told before the start,
//! and stand as they were when everything else is at the target.

use migrate_testbed::Node;

use crate::lane::is_at_the_target;
use crate::rig::Rig;
use crate::{TARGET, watched};

/// What is not kubeadm's, as its node and the cluster show it.
const THEIRS: &str = r#"
    k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system "$@"; }
    systemctl show etcd --property MainPID,NRestarts,ExecMainStartTimestamp
    sha256sum /usr/local/bin/etcd /etc/systemd/system/etcd.service
    find /etc/etcd -type f -exec sha256sum {} + | sort
    k get deployment coredns -o jsonpath='{.metadata.uid} {.metadata.generation} {.spec}{"\n"}'
    k get configmap/coredns service/kube-dns -o jsonpath='{.items[*].metadata.resourceVersion}{"\n"}'
    k get configmap kubeadm-config -o jsonpath='{.data.ClusterConfiguration}' | grep -A 6 '^etcd:'
    ls /etc/kubernetes/manifests /var/lib/etcd /etc/kubernetes/pki
"#;
const ADOPT_DNS: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \
    label deployment coredns app.kubernetes.io/managed-by=Helm";
const UPGRADE: [&str; 4] = ["--to", TARGET, "--kubeadm-skip-phases", "addon/coredns"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn what_is_not_kubeadms_is_told_and_never_touched() {
    let Some(mut rig) = Rig::start_on(watched::builder().external_etcd()).await else {
        return;
    };
    rig.cluster.nodes()[0].script(ADOPT_DNS).await.unwrap();

    // Not left out, kubeadm would write its own CoreDNS over it.
    let ended = rig.run(&["--to", TARGET]).await;
    let said = ended.said();
    println!("{said}");
    assert!(!ended.status.success());
    assert!(said.contains("KM-KUBEADM-021"), "{said}");
    rig.is_untouched().await;

    let before = theirs(&rig.cluster.nodes()[0]).await;
    println!("{before}");
    assert!(before.contains("external:") && !before.contains("etcd.yaml"));
    let ended = rig.run(&UPGRADE).await;
    let said = ended.said();
    println!("{said}");
    assert!(ended.status.success(), "{said}");
    assert!(
        said.contains("KM-KUBEADM-019") && said.contains("2379 3."),
        "{said}"
    );
    assert!(!said.contains("KM-KUBEADM-021"), "{said}");
    is_at_the_target(&rig.cluster).await;
    rig.was_done_once().await;
    rig.is_given_back().await;
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
    assert_eq!(theirs(&rig.cluster.nodes()[0]).await, before);
}

async fn theirs(member: &Node) -> String {
    let said = member.script(THEIRS).await.unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}
