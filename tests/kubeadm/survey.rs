//! A look at real nodes: clean where nothing was done to them, and each fault
//! found where it is.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{Finding, ObjectName, Severity};
use migrate_testbed::{KubeadmCluster, Node, skip_or_fail};
use migrate_upgrade::{Kubeadm, Ssh};
use tokio::time::Instant;

use crate::{TARGET, figure};

/// How long a fault may take until it shows.
const PATIENCE: Duration = Duration::from_secs(30);
const MEMBER: usize = 0;
const WORKER: usize = 1;

/// What is done to a node, and what has to be said of it.
struct Fault {
    node: usize,
    code: &'static str,
    severity: Severity,
    /// Part of the evidence.
    says: &'static str,
    breaks: &'static str,
    mends: &'static str,
}

const FAULTS: &[Fault] = &[
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-004",
        severity: Severity::Blocker,
        says: "the certificate front-proxy-client expired at",
        breaks: "cp -a /etc/kubernetes/pki /run/pki
            sed 's/^clusterName: .*/&\\ncertificateValidityPeriod: 1s/' \
                /etc/kubernetes/testbed.yaml > /run/short.yaml
            kubeadm certs renew front-proxy-client --config /run/short.yaml",
        mends: "cp -a /run/pki/front-proxy-client.* /etc/kubernetes/pki/",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-005",
        severity: Severity::Warning,
        says: "the certificate front-proxy-client expires at",
        breaks: "sed -i 's/^certificateValidityPeriod: .*/certificateValidityPeriod: 120h/' \
                /run/short.yaml
            kubeadm certs renew front-proxy-client --config /run/short.yaml",
        mends: "cp -a /run/pki/front-proxy-client.* /etc/kubernetes/pki/",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-006",
        severity: Severity::Warning,
        says: "does not renew front-proxy-client",
        breaks: "mv /etc/kubernetes/pki/front-proxy-ca.key /run/",
        mends: "mv /run/front-proxy-ca.key /etc/kubernetes/pki/",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-008",
        severity: Severity::Warning,
        says: "kube-scheduler:v1.37.2",
        // Nobody acts on it: the kubelet is away.
        breaks: "systemctl stop kubelet
            cp /etc/kubernetes/manifests/kube-scheduler.yaml /run/
            sed -i 's/kube-scheduler:v1.36.3/kube-scheduler:v1.37.2/' \
                /etc/kubernetes/manifests/kube-scheduler.yaml",
        mends: "cp /run/kube-scheduler.yaml /etc/kubernetes/manifests/
            systemctl start kubelet",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-010",
        severity: Severity::Warning,
        says: "scheduler.conf goes to https://balancer.example:6443",
        breaks: "cp /etc/kubernetes/scheduler.conf /run/
            sed -i 's#server: .*#server: https://balancer.example:6443#' \
                /etc/kubernetes/scheduler.conf",
        mends: "cp /run/scheduler.conf /etc/kubernetes/",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-011",
        severity: Severity::Warning,
        says: "did not answer",
        breaks: "mv /etc/kubernetes/pki /run/away",
        mends: "mv /run/away /etc/kubernetes/pki",
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes; part of cargo xtask extended"]
async fn real_nodes_are_clean_and_each_fault_is_found_where_it_is() {
    let builder = KubeadmCluster::builder().workers(1).minor(36).also(37);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let look = Look::at(&cluster);
    let began = Instant::now();
    let clean = look.findings().await;
    figure("survey.two-nodes", began.elapsed().as_secs_f64(), "s");
    assert_eq!(clean, [], "untouched");

    for fault in FAULTS {
        let node = &cluster.nodes()[fault.node];
        node.script(fault.breaks).await.unwrap();
        look.finds(node, fault.code, fault.severity, fault.says)
            .await;
        node.script(fault.mends).await.unwrap();
    }
    a_full_disk(&look, &cluster.nodes()[MEMBER]).await;
    cgroup_v1(&look, &cluster.nodes()[WORKER]).await;
    assert_eq!(look.findings().await, clean, "mended");

    let worker = &cluster.nodes()[WORKER];
    worker.power_off().await;
    let found = look.findings().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, "KM-KUBEADM-003");
    assert!(found[0].evidence.contains(worker.name()), "{found:?}");
}

async fn a_full_disk(look: &Look, node: &Node) {
    let tmp = "/etc/kubernetes/tmp";
    node.run(&["mkdir", "-p", tmp]).await.unwrap();
    node.fill_disk(tmp, 1024).await.unwrap();
    let says = "where 1024 KiB are free";
    look.finds(node, "KM-KUBEADM-007", Severity::Blocker, says)
        .await;
    node.run(&["umount", tmp]).await.unwrap();
}

/// Where this machine has it, and nodes do with it.
async fn cgroup_v1(look: &Look, node: &Node) {
    let kind = node.run(&["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]);
    if kind.await.unwrap().stdout.starts_with(b"cgroup2fs") {
        return;
    }
    let config = "/var/lib/kubelet/config.yaml";
    node.script(&format!(
        "cp {config} /run/; sed -i /^failCgroupV1/d {config}"
    ))
    .await
    .unwrap();
    look.finds(node, "KM-KUBEADM-009", Severity::Blocker, "cgroup v1")
        .await;
    node.run(&["cp", "/run/config.yaml", config]).await.unwrap();
}

/// The survey of all nodes.
struct Look {
    driver: Kubeadm,
    nodes: Vec<String>,
}

impl Look {
    fn at(cluster: &KubeadmCluster) -> Self {
        let nodes = cluster.nodes().iter();
        Self {
            driver: Kubeadm::new(Arc::new(Ssh::new().with_config(cluster.ssh_config()))),
            nodes: nodes.map(|node| node.name().to_owned()).collect(),
        }
    }

    async fn findings(&self) -> Vec<Finding> {
        self.driver
            .survey(&self.nodes, &TARGET.parse().unwrap())
            .await
    }

    /// Exactly one finding more than on clean nodes, and this one.
    async fn finds(&self, node: &Node, code: &str, severity: Severity, says: &str) {
        let began = Instant::now();
        loop {
            let found = self.findings().await;
            let is_it = |finding: &Finding| {
                finding.code == code
                    && finding.severity == severity
                    && finding.object == ObjectName::cluster("Node", node.name())
                    && finding.evidence.contains(says)
                    && !finding.cure.is_empty()
            };
            if let [only] = found.as_slice()
                && is_it(only)
            {
                println!("{only}");
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{code}, {says}: {found:#?}");
        }
    }
}
