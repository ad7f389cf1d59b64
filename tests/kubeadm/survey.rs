//! A look at real nodes: clean where nothing was done to them, and each fault
//! found where it is.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{Clock, Finding, Moment, ObjectName, Severity};
use migrate_kube::TokioClock;
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
    /// Kind and name; the node itself if empty.
    object: &'static str,
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
        object: "",
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
        object: "",
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
        object: "",
        says: "does not renew front-proxy-client",
        breaks: "mv /etc/kubernetes/pki/front-proxy-ca.key /run/",
        mends: "mv /run/front-proxy-ca.key /etc/kubernetes/pki/",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-008",
        severity: Severity::Warning,
        object: "",
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
        code: "KM-KUBEADM-028",
        severity: Severity::Warning,
        object: "",
        says: "scheduler.conf goes to https://balancer.example:6443",
        breaks: "cp /etc/kubernetes/scheduler.conf /run/
            sed -i 's#server: .*#server: https://balancer.example:6443#' \
                /etc/kubernetes/scheduler.conf",
        mends: "cp /run/scheduler.conf /etc/kubernetes/",
    },
    // The kubelet that runs does not read it again.
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-028",
        severity: Severity::Warning,
        object: "",
        says: "kubelet.conf goes to https://balancer.example:6443",
        breaks: "cp /etc/kubernetes/kubelet.conf /run/
            sed -i 's#server: .*#server: https://balancer.example:6443#' \
                /etc/kubernetes/kubelet.conf",
        mends: "",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-036",
        severity: Severity::Info,
        object: "",
        says: "lets it go to the API server of its own node",
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k get configmap kubeadm-config -o yaml > /run/kubeadm-config.yaml
            sed '/^    controlPlaneEndpoint:/d
                s/^    clusterName:/    controlPlaneEndpoint: balancer.example:6443\\n&/' \
                /run/kubeadm-config.yaml | k replace --force -f -",
        mends: "cp /run/kubelet.conf /etc/kubernetes/
            kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force \
                -f /run/kubeadm-config.yaml",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-011",
        severity: Severity::Warning,
        object: "",
        says: "did not answer",
        // On the same disk: etcd reads its certificates anew for each connection,
        // and does so through a mount of the very folder.
        breaks: "mv /etc/kubernetes/pki /etc/kubernetes/away",
        mends: "mv /etc/kubernetes/away /etc/kubernetes/pki",
    },
    // Of the kubelets: in the cluster, on one node.
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-012",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kubelet-config",
        says: "SidecarContainers, which is gone since 1.37",
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k get configmap kubelet-config -o yaml > /run/kubelet-config.yaml
            sed 's/^    failSwapOn: .*/&\\n    featureGates:\\n      SidecarContainers: true/' \
                /run/kubelet-config.yaml | k replace --force -f -",
        mends: RESTORED_KUBELET,
    },
    Fault {
        node: WORKER,
        code: "KM-KUBEADM-013",
        severity: Severity::Warning,
        object: "",
        says: "SidecarContainers, which is gone since 1.37",
        breaks: "cp /var/lib/kubelet/config.yaml /run/
            echo 'featureGates: {SidecarContainers: true}' >> /var/lib/kubelet/config.yaml",
        mends: "cp /run/config.yaml /var/lib/kubelet/",
    },
    Fault {
        node: WORKER,
        code: "KM-KUBEADM-014",
        severity: Severity::Blocker,
        object: "",
        says: "/etc/default/kubelet gives the kubelet --storage-driver-user",
        breaks: "cp /etc/default/kubelet /run/
            echo 'KUBELET_EXTRA_ARGS=--storage-driver-user=root' > /etc/default/kubelet",
        mends: "cp /run/kubelet /etc/default/",
    },
    // Of kube-proxy.
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-012",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kube-proxy",
        says: "SidecarContainers, which is gone since 1.37: no kube-proxy starts",
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k get configmap kube-proxy -o yaml > /run/kube-proxy.yaml
            sed 's/^    mode: .*/&\\n    featureGates:\\n      SidecarContainers: true/' \
                /run/kube-proxy.yaml | k replace --force -f -",
        mends: RESTORED_PROXY,
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-037",
        severity: Severity::Warning,
        object: "ConfigMap kube-system/kube-proxy",
        says: "the mode ipvs",
        breaks: "sed 's/^    mode: .*/    mode: ipvs/' /run/kube-proxy.yaml \
            | kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force -f -",
        mends: RESTORED_PROXY,
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-016",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kube-proxy",
        says: "kubeproxy.config.k8s.io/v1alpha2",
        breaks: "sed 's#kubeproxy.config.k8s.io/v1alpha1#kubeproxy.config.k8s.io/v1alpha2#' \
            /run/kube-proxy.yaml \
            | kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force -f -",
        mends: RESTORED_PROXY,
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-039",
        severity: Severity::Warning,
        object: "DaemonSet kube-system/kube-proxy",
        says: "--v is lost",
        // Its pods stay as they are: only the object is changed, and put back.
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k patch daemonset kube-proxy --type json -p '[
                {\"op\": \"replace\", \"path\": \"/spec/updateStrategy\",
                    \"value\": {\"type\": \"OnDelete\"}},
                {\"op\": \"add\", \"path\": \"/spec/template/spec/containers/0/command/-\",
                    \"value\": \"--v=2\"}]'",
        mends: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k patch daemonset kube-proxy --type json -p '[{\"op\": \"remove\",
                \"path\": \"/spec/template/spec/containers/0/command/3\"}]'",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-038",
        severity: Severity::Blocker,
        object: "DaemonSet kube-system/kube-proxy",
        says: "there is no kube-proxy here",
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k get daemonset kube-proxy -o yaml | grep -v ' uid:\\|resourceVersion:' > /run/proxy.yaml
            k delete daemonset kube-proxy --cascade=orphan",
        mends: "kubectl --kubeconfig /etc/kubernetes/admin.conf create -f /run/proxy.yaml",
    },
    // Of the control plane.
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-012",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kubeadm-config",
        says: "apiServer.extraArgs sets the feature gate NodeSwap to false",
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k get configmap kubeadm-config -o yaml > /run/kubeadm-config.yaml
            args='      extraArgs:\\n      - name: feature-gates\\n        value: NodeSwap=false'
            sed \"s/^    apiServer:/&\\n$args/\" /run/kubeadm-config.yaml | k replace --force -f -",
        mends: RESTORED_KUBEADM,
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-012",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kubeadm-config",
        says: "featureGates sets NodeLocalCRISocket, which kubeadm has not since 1.37",
        breaks: "sed 's/^    clusterName:/    featureGates: {NodeLocalCRISocket: true}\\n&/' \
                /run/kubeadm-config.yaml \
                | kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force -f -",
        mends: RESTORED_KUBEADM,
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-014",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kubeadm-config",
        says: "gives etcd --experimental-initial-corrupt-check",
        breaks: "args='        extraArgs:\\n        - name: experimental-initial-corrupt-check'
            sed \"s/^      local:/&\\n$args\\n          value: 'true'/\" /run/kubeadm-config.yaml \
                | kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force -f -",
        mends: RESTORED_KUBEADM,
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-016",
        severity: Severity::Blocker,
        object: "ConfigMap kube-system/kubeadm-config",
        says: "kubeadm.k8s.io/v1beta3",
        breaks: "sed 's#kubeadm.k8s.io/v1beta4#kubeadm.k8s.io/v1beta3#; /^      extraArgs:/,+2d' \
                /run/kubeadm-config.yaml \
                | kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force -f -",
        mends: RESTORED_KUBEADM,
    },
    // The stacked etcd stands in for an external one: it is asked the same way.
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-019",
        severity: Severity::Info,
        object: "Etcd external",
        says: "(https://127.0.0.1:2379 3.6.8)",
        breaks: "endpoints='endpoints: [\"https://127.0.0.1:2379\"]'
            sed \"s/^      local:/      external:/; s#dataDir: .*#$endpoints#\" \
                /run/kubeadm-config.yaml \
                | kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force -f -",
        mends: RESTORED_KUBEADM,
    },
    // The cluster's DNS.
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-020",
        severity: Severity::Blocker,
        object: "Deployment kube-system/coredns",
        says: "there is no ConfigMap coredns",
        breaks: "k() { kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \"$@\"; }
            k get configmap coredns -o yaml | grep -v ' uid:\\|resourceVersion:' > /run/coredns.yaml
            k delete configmap coredns",
        mends: "kubectl --kubeconfig /etc/kubernetes/admin.conf create -f /run/coredns.yaml",
    },
    Fault {
        node: MEMBER,
        code: "KM-KUBEADM-021",
        severity: Severity::Blocker,
        object: "Deployment kube-system/coredns",
        says: "managed by Helm",
        breaks: "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \
            label deployment coredns app.kubernetes.io/managed-by=Helm",
        mends: "kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system \
            label deployment coredns app.kubernetes.io/managed-by-",
    },
];

const RESTORED_KUBELET: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force \
    -f /run/kubelet-config.yaml";
const RESTORED_PROXY: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force \
    -f /run/kube-proxy.yaml";
const RESTORED_KUBEADM: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf replace --force \
    -f /run/kubeadm-config.yaml";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "three minutes; part of cargo xtask extended"]
async fn real_nodes_are_clean_and_each_fault_is_found_where_it_is() {
    let builder = KubeadmCluster::builder().workers(1).minor(36).also(37);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let look = Look::at(&cluster).await;
    for fault in FAULTS {
        let node = &cluster.nodes()[fault.node];
        node.script(fault.breaks).await.unwrap();
        look.finds(node, fault).await;
        node.script(fault.mends).await.unwrap();
    }
    a_full_disk(&look, &cluster.nodes()[MEMBER]).await;
    cgroup_v1(&look, &cluster.nodes()[WORKER]).await;
    look.finds_nothing_more().await;
    a_runner_whose_clock_is_late(&look).await;
    without_patches(&look).await;

    let worker = &cluster.nodes()[WORKER];
    worker.power_off().await;
    let found = look.findings().await;
    let of_worker = found
        .iter()
        .find(|finding| finding.code == "KM-KUBEADM-003");
    assert!(
        of_worker.unwrap().evidence.contains(worker.name()),
        "{found:?}"
    );
}

async fn a_full_disk(look: &Look, node: &Node) {
    let tmp = "/etc/kubernetes/tmp";
    node.run(&["mkdir", "-p", tmp]).await.unwrap();
    node.fill_disk(tmp, 1024).await.unwrap();
    let fault = Fault {
        node: MEMBER,
        code: "KM-KUBEADM-007",
        severity: Severity::Blocker,
        object: "",
        says: "where 1024 KiB are free",
        breaks: "",
        mends: "",
    };
    look.finds(node, &fault).await;
    node.run(&["umount", tmp]).await.unwrap();
}

/// Where this machine has it, and nodes do with it.
async fn cgroup_v1(look: &Look, node: &Node) {
    let kind = node.run(&["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]);
    if kind.await.unwrap().stdout.starts_with(b"cgroup2fs") {
        return;
    }
    let fault = Fault {
        node: WORKER,
        code: "KM-KUBEADM-009",
        severity: Severity::Blocker,
        object: "",
        says: "cgroup v1",
        breaks: "cp /var/lib/kubelet/config.yaml /run/
            sed -i '/^failCgroupV1/d' /var/lib/kubelet/config.yaml",
        mends: "cp /run/config.yaml /var/lib/kubelet/",
    };
    node.script(fault.breaks).await.unwrap();
    look.finds(node, &fault).await;
    node.script(fault.mends).await.unwrap();
}

/// Nodes share this machine's clock, so that ours has to be another one.
async fn a_runner_whose_clock_is_late(look: &Look) {
    let clock = TokioClock::system();
    let late = || Moment::from_millis(clock.now().as_millis() - 30_000);
    let target = TARGET.parse().unwrap();
    let found = look.driver.survey(&look.nodes, &target, &late).await;
    let apart: Vec<_> = found
        .iter()
        .filter(|f| f.code == "KM-KUBEADM-023")
        .collect();
    assert_eq!(apart.len(), look.nodes.len(), "{found:?}");
    for finding in apart {
        println!("{finding}");
        assert!(
            finding.evidence.contains(" s ahead of the runner's"),
            "{finding}"
        );
    }
}

async fn without_patches(look: &Look) {
    let driver = look.driver.clone().with_patches("/etc/kubernetes/patches");
    let target = TARGET.parse().unwrap();
    let found = driver
        .survey(&look.nodes, &target, &TokioClock::system())
        .await;
    let missing = found.iter().filter(|f| f.code == "KM-KUBEADM-026");
    assert_eq!(missing.count(), look.nodes.len(), "{found:?}");
}

/// The survey of all nodes.
struct Look {
    driver: Kubeadm,
    nodes: Vec<String>,
    /// What is found of nodes to which nothing was done.
    untouched: Vec<Finding>,
}

impl Look {
    /// Untouched nodes have two findings each, and they are true: their containerd is
    /// Debian's, and the kubelet's package brings newer network plugins.
    async fn at(cluster: &KubeadmCluster) -> Self {
        let nodes = cluster.nodes().iter();
        let mut look = Self {
            driver: Kubeadm::new(Arc::new(Ssh::new().with_config(cluster.ssh_config()))),
            nodes: nodes.map(|node| node.name().to_owned()).collect(),
            untouched: Vec::new(),
        };
        let began = Instant::now();
        let found = look.findings().await;
        figure("survey.two-nodes", began.elapsed().as_secs_f64(), "s");
        for finding in &found {
            println!("untouched: {finding}");
        }
        let mut codes: Vec<&str> = found.iter().map(|f| f.code.as_str()).collect();
        codes.sort_unstable();
        let [containerd, brought] = ["KM-KUBEADM-022", "KM-KUBEADM-024"];
        let all = [containerd, containerd, brought, brought];
        assert_eq!(codes, all, "{found:#?}");
        look.untouched = found;
        look
    }

    async fn findings(&self) -> Vec<Finding> {
        let target = TARGET.parse().unwrap();
        self.driver
            .survey(&self.nodes, &target, &TokioClock::system())
            .await
    }

    /// What is found beyond that of untouched nodes.
    async fn new_findings(&self) -> Vec<Finding> {
        let mut found = self.findings().await;
        found.retain(|finding| !self.untouched.contains(finding));
        found
    }

    async fn finds_nothing_more(&self) {
        let began = Instant::now();
        loop {
            let found = self.new_findings().await;
            if found.is_empty() {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "mended: {found:#?}");
        }
    }

    /// One finding more than on untouched nodes, and this one.
    async fn finds(&self, node: &Node, fault: &Fault) {
        let Fault { code, says, .. } = fault;
        let object = match fault.object {
            "" => ObjectName::cluster("Node", node.name()).to_string(),
            object => object.to_owned(),
        };
        let is_it = |finding: &Finding| {
            finding.code == *code
                && finding.severity == fault.severity
                && finding.object.to_string() == object
                && finding.evidence.contains(says)
                && !finding.cure.is_empty()
        };
        let began = Instant::now();
        loop {
            let found = self.new_findings().await;
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
