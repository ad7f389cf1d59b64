//! What was set for an older release, and what stands beside the cluster.

use super::*;

/// Of one change to what is well: code, object, and part of the evidence.
pub(super) fn says(old: &str, new: &str, code: &str, object: &str, evidence: &str) {
    let found = found_with(old, new);
    assert_eq!(found.len(), 1, "{old} -> {new}: {found:#?}");
    let finding = &found[0];
    assert_eq!(finding.code, format!("KM-KUBEADM-{code}"), "{finding}");
    assert_eq!(finding.object.to_string(), object, "{finding}");
    assert!(finding.evidence.contains(evidence), "{finding}");
}

const NODE: &str = "Node cp-1";
const KUBEADM: &str = "ConfigMap kube-system/kubeadm-config";
const KUBELET: &str = "ConfigMap kube-system/kubelet-config";
const DNS: &str = "Deployment kube-system/coredns";

#[test]
fn gates_that_are_gone_or_locked_are_found_where_they_are_set() {
    let gone = "SidecarContainers, which is gone since 1.37";
    let locked = "NodeSwap to false, which has been locked to true since 1.34";
    let own = "kubelet-gates   NodeSwap: true";
    let sidecar = |line: &str| line.replace("NodeSwap", "SidecarContainers");
    says(own, &sidecar(own), "013", NODE, gone);
    let flag = "--feature-gates=NodeSwap=true";
    says(flag, &sidecar(flag), "012", NODE, gone);
    let config = "kubeadm-config     value: NodeSwap=true";
    says(config, &sidecar(config), "012", KUBEADM, gone);
    let evidence = "apiServer.extraArgs sets";
    says(config, &sidecar(config), "012", KUBEADM, evidence);
    let off = config.replace("true", "X=false,NodeSwap=false");
    says(config, &off, "012", KUBEADM, locked);
    let kubelet = "kubelet-config   NodeSwap: true";
    says(kubelet, &sidecar(kubelet), "012", KUBELET, gone);
    says(
        kubelet,
        &kubelet.replace("true", "false"),
        "012",
        KUBELET,
        locked,
    );
    // A value that has no effect any more is none of the target's errors.
    assert_eq!(
        found_with(kubelet, "kubelet-config   ImageVolume: true"),
        []
    );
    // A map, as kubeadm wrote it before v1beta4.
    let map = "kubeadm-config     feature-gates: SidecarContainers=true";
    let list = "kubeadm-config   - name: feature-gates\nkubeadm-config     value: NodeSwap=true";
    says(list, map, "012", KUBEADM, gone);
}

#[test]
fn gates_of_kubeadm_s_own_that_are_gone_are_found() {
    let etcd = "kubeadm-config etcd:";
    let set = |gates: &str| format!("kubeadm-config featureGates: {{{gates}}}\n{etcd}");
    let gone = "featureGates sets ControlPlaneKubeletLocalMode, which kubeadm has not since 1.36";
    let gates = set("ControlPlaneKubeletLocalMode: false, RootlessControlPlane: false");
    says(etcd, &gates, "012", KUBEADM, gone);
    // A gate of Kubernetes is none of kubeadm's, and one that is there may stay.
    assert_eq!(found_with(etcd, &set("SidecarContainers: true")), []);
    let keys = found_with(etcd, &set("PublicKeysECDSA: true"));
    assert!(keys[0].cure.contains("encryptionAlgorithm"), "{keys:?}");
    let found = judged("cp-1", &found_text(etcd, &gates), "v1.35.4");
    assert!(
        found.iter().all(|f| f.code != "KM-KUBEADM-012"),
        "{found:?}"
    );
}

#[test]
fn a_file_of_the_node_s_own_matters_if_kubeadm_does_not_write_it_anew() {
    let text = "kubelet-gates featureGates: {SidecarContainers: true}\n";
    let code = |skipped: &[&str]| {
        let found = judged_as("w-1", text, "v1.37.2", skipped, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].code.clone(), found[0].severity)
    };
    let (lost, kept) = ("KM-KUBEADM-013".to_owned(), "KM-KUBEADM-012".to_owned());
    assert_eq!(code(&[]), (lost, Severity::Warning));
    assert_eq!(code(&["kubelet-config"]), (kept, Severity::Blocker));
}

#[test]
fn flags_that_are_gone_are_found_where_they_are_given() {
    let kubelet = "--node-labels";
    says(
        kubelet,
        "--storage-driver-user",
        "014",
        NODE,
        "kubeadm-flags.env gives the kubelet",
    );
    let etcd = "heartbeat-interval";
    let gone = "experimental-initial-corrupt-check";
    let evidence = "etcd.local.extraArgs gives etcd --experimental-initial-corrupt-check";
    says(etcd, gone, "014", KUBEADM, evidence);
    let api_server = "name: feature-gates";
    says(
        api_server,
        "name: cloud-provider",
        "014",
        KUBEADM,
        "kube-apiserver --cloud-provider",
    );
    // kubeadm of 1.35 takes its own flag away by itself, and nobody else's.
    let pause = |file: &str, target: &str| {
        let text = format!("kubelet-flag {file} --pod-infra-container-image\n");
        judged("w-1", &text, target).len()
    };
    assert_eq!(pause("/var/lib/kubelet/kubeadm-flags.env", "v1.35.4"), 0);
    assert_eq!(pause("/var/lib/kubelet/kubeadm-flags.env", "v1.36.3"), 1);
    assert_eq!(pause("/etc/default/kubelet", "v1.35.4"), 1);
}

#[test]
fn a_configuration_that_cannot_be_read_is_said_to_be() {
    says(
        "v1beta4",
        "v1beta3",
        "016",
        KUBEADM,
        "kubeadm.k8s.io/v1beta3",
    );
    // Not asked, no YAML, not what it should be.
    says(
        "kubeadm-config\n",
        "kubeadm-config :\n",
        "015",
        NODE,
        "kube-system/kubeadm-config",
    );
    let text = "manifest kube-apiserver x:v1\ncertificates {\"certificates\":[],\
                \"certificateAuthorities\":[]}\n";
    let codes: Vec<String> = judged("cp-1", text, "v1.37.2")
        .into_iter()
        .map(|f| f.code)
        .collect();
    assert_eq!(codes, ["KM-KUBEADM-015"; 3]);
}

#[test]
fn an_external_etcd_is_named_and_must_not_be_too_old() {
    let external = "kubeadm-config etcd: {external: {endpoints: [https://e-1:2379]}}\n\
                    etcd-version https://e-1:2379 3.6.8\netcd-version https://e-2:2379 3.5.24\n";
    let local = "kubeadm-config etcd:\nkubeadm-config   local:\nkubeadm-config     extraArgs:\n\
                 kubeadm-config     - name: heartbeat-interval\nkubeadm-config       value: \"100\"\n";
    let codes = |text: &str| -> Vec<(String, Severity, String)> {
        let found = found_with(local, text).into_iter();
        found.map(|f| (f.code, f.severity, f.object.name)).collect()
    };
    let named = (
        "KM-KUBEADM-019".to_owned(),
        Severity::Info,
        "external".to_owned(),
    );
    assert_eq!(codes(external), std::slice::from_ref(&named));
    let old = external.replace("3.5.24", "3.5.23");
    let expected = (
        "KM-KUBEADM-017".to_owned(),
        Severity::Blocker,
        "https://e-2:2379".to_owned(),
    );
    assert_eq!(codes(&old), [expected, named.clone()]);
    let silent = external.replace("3.6.8", "unknown");
    let expected = (
        "KM-KUBEADM-018".to_owned(),
        Severity::Warning,
        "https://e-1:2379".to_owned(),
    );
    assert_eq!(codes(&silent), [expected, named]);
}

#[test]
fn dns_that_is_not_kubeadm_s_is_found() {
    let line = "coredns coredns r.local/coredns/coredns:v1.14.6@sha256:ab ";
    let newer = "coredns coredns r.local/coredns/coredns:v1.14.7 ";
    says(
        line,
        newer,
        "020",
        DNS,
        "CoreDNS v1.14.7 is newer than 1.14.6",
    );
    let latest = "coredns coredns r.local/coredns/coredns:latest ";
    says(line, latest, "020", DNS, "names no version");
    says(
        "coredns-config configmap/coredns",
        "coredns-config ",
        "020",
        DNS,
        "no ConfigMap",
    );
    says(line, "", "020", DNS, "no Deployment is labelled");
    let two = format!("{line}\ncoredns coredns r.local/coredns/coredns:v1.14.6 ");
    says(line, &two, "020", DNS, "several Deployments");
    says(line, &format!("{line}Helm"), "021", DNS, "managed by Helm");
    let named = line.replace("coredns coredns ", "coredns dns-coredns ");
    says(line, &named, "021", DNS, "it is called dns-coredns");
    let other = line.replace("coredns/coredns:", "node-dns:");
    says(line, &other, "021", DNS, "its image is");
}

#[test]
fn dns_that_is_left_out_is_left_alone() {
    let with = |line: &str, skipped: &[&str], ignored: &[&str]| {
        let text = format!(
            "manifest kube-apiserver x:v1\ncertificates {{\"certificates\":[],\
             \"certificateAuthorities\":[]}}\nkubeadm-config kind: ClusterConfiguration\n\
             kubelet-config\nkube-proxy x\nkube-proxy-config\n\
             coredns-config configmap/coredns\ncoredns {line}\n"
        );
        let found = judged_as("cp-1", &text, "v1.37.2", skipped, ignored);
        found.into_iter().map(|f| f.code).collect::<Vec<_>>()
    };
    let (both, helm) = (
        "coredns x/coredns:v1.15.0 Helm",
        "coredns x/coredns:v1.14.2 Helm",
    );
    let (refused, replaced) = ("KM-KUBEADM-020".to_owned(), "KM-KUBEADM-021".to_owned());
    assert_eq!(with(both, &[], &[]), [refused.clone(), replaced.clone()]);
    // The checks look whether the addon is left out or not.
    assert_eq!(with(both, &["addon/coredns"], &[]), [refused]);
    let checks = ["corednsunsupportedplugins", "CoreDNSMigration"];
    assert_eq!(with(both, &["addon"], &checks), [""; 0]);
    assert_eq!(with(both, &["addon"], &["all"]), [""; 0]);
    assert_eq!(with(helm, &["addon/kube-proxy"], &[]), [replaced]);
    assert_eq!(with(helm, &["addon/coredns"], &[]), [""; 0]);
}

#[test]
fn the_machine_is_looked_at() {
    says(
        "containerd 2.1.0",
        "containerd 1.7.27",
        "022",
        NODE,
        "announced to end with 1.38",
    );
    let (now, late) = ("clock 1000000\n".repeat(2), "clock 997500\n".repeat(2));
    says(&now, &late, "023", NODE, "2.5 s behind");
    let also = |line: &str| format!("containerd 2.1.0\n{line}");
    let cni = also(
        "package kubernetes-cni [1.6.0] (1.8.0 x)\npackage-changed kubernetes-cni /opt/cni/bin/bridge",
    );
    let evidence = "bring along kubernetes-cni [1.6.0] (1.8.0 x)";
    says("containerd 2.1.0", &cni, "024", NODE, evidence);
    says(
        "containerd 2.1.0",
        &cni,
        "024",
        NODE,
        "changed by hand: /opt/cni/bin/bridge",
    );
    for (line, evidence) in [
        ("package-removed containerd", "would remove containerd"),
        (
            "package-early kubelet",
            "would change kubelet before the node is drained",
        ),
        ("packages-refused E: broken", "E: broken"),
    ] {
        says("containerd 2.1.0", &also(line), "025", NODE, evidence);
    }
    says(
        "containerd 2.1.0",
        &also("patches-missing /p"),
        "026",
        NODE,
        "/p is not on the node",
    );
}

#[test]
fn who_goes_through_the_balancer_is_judged_by_the_skew_policy() {
    use Severity::{Blocker, Warning};
    let config = "kubeadm-config controlPlaneEndpoint: lb.example:6443\nkubeadm-config etcd:";
    let servers = |others: &[(&str, &str)]| -> String {
        let line = |node: &str, address: &str, version: &str| {
            format!("api-server {node} {address} r.local/kube-apiserver:{version}\n")
        };
        let mut text = line("cp-1", "10.0.0.1", "v1.36.3");
        for (at, (node, version)) in others.iter().enumerate() {
            text += &line(node, &format!("10.0.0.{}", at + 2), version);
        }
        text
    };
    let found = |server: &str, others: &[(&str, &str)], target: &str| {
        let text = found_text("https://10.0.0.1:6443", server);
        let text = text.replacen("kubeadm-config etcd:", config, 1) + &servers(others);
        let found = judged("cp-1", &text, target);
        let of = |finding: Finding| (finding.code, finding.severity, finding.evidence);
        let mut found: Vec<_> = found.into_iter().map(of).collect();
        found.retain(|(code, ..)| code.ends_with("-010") || code.ends_with("-028"));
        found
    };
    let is = |found: &[(String, Severity, String)], code: &str, severity: Severity| {
        assert_eq!(found.len(), 1, "{found:?}");
        let (found_code, found_severity, evidence) = &found[0];
        assert_eq!(
            (&**found_code, *found_severity),
            (code, severity),
            "{evidence}"
        );
    };
    let old = [("cp-2", "v1.36.3"), ("cp-3", "v1.36.3")];
    let balancer = "https://lb.example:6443";
    assert_eq!(found("https://10.0.0.1:6443", &old, "v1.37.2"), []);
    // It would be newer than the two that come later.
    is(&found(balancer, &old, "v1.37.2"), "KM-KUBEADM-010", Blocker);
    is(
        &found("https://10.0.0.3:6443", &old, "v1.37.2"),
        "KM-KUBEADM-010",
        Blocker,
    );
    // Another patch, others that are there already, or no others: allowed.
    let new = [("cp-2", "v1.37.2"), ("cp-3", "v1.37.2")];
    is(&found(balancer, &old, "v1.36.9"), "KM-KUBEADM-010", Warning);
    is(&found(balancer, &new, "v1.37.2"), "KM-KUBEADM-010", Warning);
    is(&found(balancer, &[], "v1.37.2"), "KM-KUBEADM-010", Warning);
    // Nobody knows that one.
    is(
        &found("https://10.9.9.9:6443", &old, "v1.37.2"),
        "KM-KUBEADM-028",
        Warning,
    );
}
