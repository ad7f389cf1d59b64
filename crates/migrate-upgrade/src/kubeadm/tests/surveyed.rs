//! The script of the survey, and what it makes of a node.

use migrate_core::Finding;

use super::*;

async fn survey(node: &Node, target: &str) -> Vec<Finding> {
    let nodes = [CP.to_owned()];
    let target = target.parse().unwrap();
    node.driver.survey(&nodes, &target, &|| Moment::EPOCH).await
}

/// The codes, without their area, of what is found.
async fn codes(node: &Node, target: &str) -> Vec<String> {
    let found = survey(node, target).await.into_iter();
    found
        .map(|finding| finding.code.trim_start_matches("KM-KUBEADM-").to_owned())
        .collect()
}

#[tokio::test]
async fn a_survey_reads_a_node_and_reports_one_that_does_not_answer() {
    let cp = Node::new(true);
    cp.write(
        "root/etc/kubernetes/scheduler.conf",
        "    server: https://balancer.invalid:6443\n",
    );
    cp.write(
        "root/etc/kubernetes/manifests/kube-scheduler.yaml",
        "  - image: r.local/kube-scheduler:v1.37.2\n",
    );
    let nodes = [CP.to_owned(), "elsewhere".to_owned()];
    let target = "v1.34.2".parse().unwrap();
    let found = cp.driver.survey(&nodes, &target, &|| Moment::EPOCH).await;
    let codes: Vec<&str> = found.iter().map(|f| f.code.as_str()).collect();
    // The kubeadm of this node knows nothing of certificates.
    let of_node = ["KM-KUBEADM-011", "KM-KUBEADM-008", "KM-KUBEADM-010"];
    assert_eq!(codes[0], "KM-KUBEADM-003", "{found:?}");
    assert_eq!(codes[1..], of_node, "{found:?}");
}

#[tokio::test]
async fn a_scheduler_that_goes_to_an_older_api_server_is_a_blocker() {
    let cp = Node::new(true);
    cp.write(
        "root/etc/kubernetes/scheduler.conf",
        "    server: https://10.0.0.2:6443\n",
    );
    cp.write(
        "api-servers",
        "cp-1 10.0.0.1 r.local/kube-apiserver:v1.36.3\ncp-2 10.0.0.2 r.local/kube-apiserver:v1.36.3\n",
    );
    let found = survey(&cp, "v1.37.2").await;
    let elsewhere = found.iter().find(|found| found.code == "KM-KUBEADM-010");
    assert!(elsewhere.is_some_and(Finding::blocks), "{found:?}");

    // A kubelet comes after both.
    cp.write(
        "root/etc/kubernetes/kubelet.conf",
        "    server: \"https://10.0.0.2:6443\"\n",
    );
    let found = survey(&cp, "v1.37.2").await;
    let warned = found
        .iter()
        .find(|f| f.evidence.starts_with("kubelet.conf"));
    assert!(warned.is_some_and(|f| !f.blocks()), "{found:?}");
}

#[tokio::test]
async fn a_worker_s_kubelet_is_judged_by_what_a_control_plane_node_tells() {
    let (cp, worker) = (Node::new(true), Node::new(false));
    let servers = "cp-1 10.0.0.1 r.local/kube-apiserver:v1.36.3\n\
                   cp-2 10.0.0.2 r.local/kube-apiserver:v1.36.3\n";
    cp.write("api-servers", servers);
    let goes_to = |address: &str| {
        let server = format!("    server: https://{address}:6443\n");
        worker.write("root/etc/kubernetes/kubelet.conf", &server);
    };
    goes_to("10.0.0.2");
    let target = "v1.37.2".parse().unwrap();
    let (nodes, clock) = ([CP.to_owned()], || Moment::EPOCH);
    let said = async |node: &Node| node.driver.surveyed(&nodes, &target, &clock).await.0;
    let mut answers = said(&worker).await;
    answers[0].node = "w-1".to_owned();
    answers.extend(said(&cp).await);
    let found = cp.driver.judged(&answers, |_| &target);
    let one = found.iter().find(|it| it.code == "KM-KUBEADM-040");
    assert!(one.is_some_and(|it| it.object.name == "w-1"), "{found:#?}");
}

#[tokio::test]
async fn what_a_worker_is_set_to_is_read() {
    let worker = Node::new(false);
    assert_eq!(codes(&worker, "v1.37.2").await, [""; 0]);
    worker.write(
        "root/var/lib/kubelet/config.yaml",
        "a: 1\nfeatureGates:\n  SidecarContainers: true\n  NodeSwap: true\nz:\n  JobSuccessPolicy: true\n",
    );
    assert_eq!(codes(&worker, "v1.37.2").await, ["013"]);
    worker.write("root/var/lib/kubelet/config.yaml", "a: 1\n");
    worker.write(
        "root/var/lib/kubelet/kubeadm-flags.env",
        "KUBELET_KUBEADM_ARGS=\"--node-ip=10.0.0.1 --containerd=/run/secret --v=2\"\n",
    );
    worker.write(
        "root/etc/default/kubelet",
        "# --storage-driver-user=x\nKUBELET_EXTRA_ARGS='--feature-gates=NodeSwap=false,X=true'\n",
    );
    let found = survey(&worker, "v1.37.2").await;
    let texts: Vec<String> = found.iter().map(Finding::to_string).collect();
    assert_eq!(found.len(), 2, "{texts:?}");
    assert!(texts[0].contains("--containerd,"), "{texts:?}");
    assert!(!texts[0].contains("secret"), "{texts:?}");
    assert!(texts[1].contains("NodeSwap to false"), "{texts:?}");
}

#[tokio::test]
async fn packages_runtime_clock_and_patches_are_read() {
    let worker = Node::new(false);
    worker.write("drags", "Inst kubernetes-cni [1.6.0] (1.8.0 x)");
    worker.write(
        "verify",
        "??5??????   /opt/cni/bin/bridge\n??5?????? c /etc/x\n.M.......   /opt/cni/bin/own\n",
    );
    let found = survey(&worker, "v1.37.2").await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let evidence = &found[0].evidence;
    assert!(evidence.contains("kubernetes-cni [1.6.0] (1.8.0 x)"));
    assert!(
        evidence.ends_with("by hand: /opt/cni/bin/bridge, /etc/x"),
        "{evidence}"
    );
    // Nothing to be installed, or not known: that is for others to say.
    assert_eq!(codes(&worker, "v1.36.3").await, [""; 0]);
    assert_eq!(codes(&worker, "v1.38.0").await, [""; 0]);
    worker.write("drags", "Remv containerd [1.7]");
    assert_eq!(codes(&worker, "v1.37.2").await, ["025"]);
    worker.write("drags", "");
    worker.write("containerd", "1.7.27");
    worker.write("clock", "7000\n");
    assert_eq!(codes(&worker, "v1.37.2").await, ["022", "023"]);

    worker.write("containerd", "2.1.0");
    worker.write("clock", "");
    worker.write("free", " 199\n");
    assert_eq!(codes(&worker, "v1.37.2").await, ["033"]);
    worker.write("free", " 200\n");
    assert_eq!(codes(&worker, "v1.37.2").await, [""; 0]);

    // kubeadm alone must not bring what runs below pods.
    let cp = Node::new(true);
    cp.write(
        "drags",
        "Inst kubernetes-cni [1] (2 x)\nInst cri-tools [1] (2 x)",
    );
    let found = codes(&cp, "v1.37.2").await;
    assert_eq!(found[..2], ["025", "024"], "{found:?}");
}

#[tokio::test]
async fn the_cluster_s_configuration_is_read_on_a_control_plane() {
    let cp = Node::new(true);
    cp.write("kubelet-config", "featureGates: {JobSuccessPolicy: true}\n");
    let found = survey(&cp, "v1.37.2").await;
    let of_config = found.iter().find(|f| f.code == "KM-KUBEADM-012").unwrap();
    assert_eq!(of_config.object.name, "kubelet-config");

    cp.write(
        "kube-proxy-config",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nclientConnection:\n  kubeconfig: /secret\n\
         featureGates:\n  SidecarContainers: true\nkind: KubeProxyConfiguration\nmode: userspace\n",
    );
    cp.write("kube-proxy", "/usr/bin/kube-proxy\n--v=2\n--config=/x\n");
    let found = survey(&cp, "v1.37.2").await;
    let proxy = found.iter().filter(|f| f.object.name == "kube-proxy");
    let proxy: Vec<&str> = proxy.map(|f| &f.code[f.code.len() - 3..]).collect();
    assert_eq!(proxy, ["012", "037", "039"], "{found:?}");
    cp.write("kube-proxy", "");
    let found = codes(&cp, "v1.37.2").await;
    assert!(found.iter().any(|code| code == "038"), "{found:?}");

    // An external etcd is asked as the API server reaches it.
    cp.write(
        "root/etc/kubernetes/manifests/kube-apiserver.yaml",
        "  - command:\n    - kube-apiserver\n    - --etcd-cafile=/pki/ca.crt\n    \
         - --etcd-certfile=/pki/c.crt\n    - --etcd-keyfile=/pki/c.key\n    \
         - --etcd-servers=https://e-1:2379,https://e-2:2379\n  - image: r.local/kube-apiserver:v1.36.3\n",
    );
    cp.write(
        "etcd-version",
        "{\"etcdserver\":\"3.5.9\",\"etcdcluster\":\"3.5.0\"}\n",
    );
    cp.write(
        "cluster-version",
        "v1.36.3\netcd:\n  external:\n    endpoints: []",
    );
    let found = codes(&cp, "v1.37.2").await;
    let of_etcd = found
        .iter()
        .filter(|code| ["017", "018", "019"].contains(&code.as_str()));
    assert_eq!(
        of_etcd.collect::<Vec<_>>(),
        ["017", "017", "019"],
        "{found:?}"
    );
    let calls = cp.read("kubectl-calls");
    let call = "--server=https://e-2:2379 --certificate-authority=/pki/ca.crt \
                --client-certificate=/pki/c.crt --client-key=/pki/c.key";
    assert!(calls.contains(call), "{calls}");
}
