//! Where kubelets find their API server.

use super::*;

/// The findings of a node whose kubelet goes to `server`, in a cluster of three whose
/// endpoint is `endpoint`; `more` stands in its configuration.
fn found(server: &str, endpoint: &str, more: &str, target: &str, skipped: &[&str]) -> Vec<Finding> {
    let own = "server kubelet https://10.0.0.1:6443";
    let text = found_text(own, &format!("server kubelet {server}"));
    let config =
        format!("kubeadm-config controlPlaneEndpoint: {endpoint}\n{more}kubeadm-config etcd:");
    let mut text = text.replacen("kubeadm-config etcd:", &config, 1);
    for member in 1..=3 {
        text += &format!("api-server cp-{member} 10.0.0.{member} r.local/kube-apiserver:v1.36.3\n");
    }
    let mut found = judged_as("cp-1", &text, target, skipped, &[]);
    found.retain(|finding| finding.evidence.starts_with("kubelet.conf"));
    found
}

fn says(found: &[Finding], code: &str, severity: Severity, evidence: &str) {
    assert_eq!(found.len(), 1, "{found:#?}");
    let finding = &found[0];
    assert_eq!(finding.code, format!("KM-KUBEADM-{code}"), "{finding}");
    assert_eq!(finding.severity, severity, "{finding}");
    assert!(finding.evidence.contains(evidence), "{finding}");
    assert_eq!(finding.object, ObjectName::cluster("Node", "cp-1"));
}

const BALANCER: &str = "https://lb.example:6443";
const MOVED: &str = "restarts it for that in the step of the control plane";
const STAYS: &str = "must not be newer than any API server behind it";

#[test]
fn a_kubelet_behind_the_balancer_is_moved_by_kubeadm_or_told_what_it_rests_on() {
    let through = |endpoint: &str, more: &str, target: &str, skipped: &[&str]| {
        found(BALANCER, endpoint, more, target, skipped)
    };
    let is = |found: &[Finding], evidence: &str| says(found, "036", Severity::Info, evidence);
    is(&through("lb.example:6443", "", "v1.37.2", &[]), MOVED);
    is(&through("lb.example", "", "v1.37.2", &[]), MOVED);
    // kubeadm looks for the very address, and not in every release.
    is(&through("lb.example:8443", "", "v1.37.2", &[]), STAYS);
    is(&through("lb.example:6443", "", "v1.32.9", &[]), STAYS);
    is(
        &through("lb.example:6443", "", "v1.37.2", &["kubeconfig"]),
        STAYS,
    );
    let off = "kubeadm-config featureGates: {ControlPlaneKubeletLocalMode: false}\n";
    is(&through("lb.example:6443", off, "v1.34.4", &[]), STAYS);
    is(&through("lb.example:6443", off, "v1.35.4", &[]), MOVED);
}

#[test]
fn a_kubelet_at_another_member_or_at_nobody_s_address_is_told() {
    let at = |server: &str| found(server, "lb.example:6443", "", "v1.37.2", &[]);
    assert_eq!(at("https://10.0.0.1:6443"), []);
    assert_eq!(at("https://localhost:6443"), []);
    let warning = Severity::Warning;
    says(
        &at("https://10.0.0.2:6443"),
        "010",
        warning,
        "the API server of cp-2",
    );
    let unknown = "which one answers there is not known";
    says(&at("https://10.9.9.9:6443"), "028", warning, unknown);
    // The first member's address for an endpoint, as some have it.
    let first = found("https://10.0.0.2:6443", "10.0.0.2:6443", "", "v1.37.2", &[]);
    says(&first, "036", Severity::Info, MOVED);
}

/// What is said of a worker whose kubelet goes to `server`, beside so many API servers.
fn of_worker(server: &str, endpoint: &str, members: usize) -> Option<Finding> {
    let mut text = format!("kubeadm-config\nkubeadm-config controlPlaneEndpoint: {endpoint}\n");
    for member in 1..=members {
        text += &format!("api-server cp-{member} 10.0.0.{member} r.local/kube-apiserver:v1.36.3\n");
    }
    let cluster = Survey::read(&text).cluster;
    let worker = Survey::read(&format!("cgroup cgroup2fs\nserver kubelet {server}\n"));
    judge_worker("w-1", &worker, &cluster)
}

#[test]
fn a_worker_that_leans_on_one_member_of_several_is_told() {
    const LB: &str = "lb.example:6443";
    let one = of_worker("https://10.0.0.2:6443", LB, 3).unwrap();
    assert_eq!(
        (one.code.as_str(), one.severity),
        ("KM-KUBEADM-040", Severity::Warning)
    );
    assert_eq!(one.object, ObjectName::cluster("Node", "w-1"));
    let says = "kubelet.conf goes to https://10.0.0.2:6443, the API server of cp-2, one of 3:";
    assert!(one.evidence.starts_with(says), "{one}");
    assert!(one.cure.contains(LB), "{one}");
    // The endpoint itself is the address of a member.
    let endpoint = of_worker("https://10.0.0.1:6443", "10.0.0.1:6443", 3).unwrap();
    assert_eq!(endpoint.code, "KM-KUBEADM-040");
    assert!(endpoint.cure.contains("load balancer"), "{endpoint}");
    let nobody = of_worker("https://10.9.9.9:6443", LB, 3).unwrap();
    assert_eq!(nobody.code, "KM-KUBEADM-028");
    for (server, endpoint, members) in [
        (BALANCER, LB, 3),
        // There is only one, or no list of them to compare with.
        ("https://10.0.0.1:6443", LB, 1),
        ("https://10.0.0.1:6443", "10.0.0.1:6443", 1),
        ("https://10.0.0.1:6443", "", 1),
        ("https://10.0.0.9:6443", LB, 0),
    ] {
        assert_eq!(of_worker(server, endpoint, members), None, "{server}");
    }
    // That of a control-plane node is judged elsewhere, and without a configuration
    // nothing is known.
    let text = "manifest kube-apiserver x:v1\nserver kubelet https://10.0.0.2:6443\n";
    let cluster = Survey::read("api-server cp-2 10.0.0.2 r.local/kube-apiserver:v1.36.3\n").cluster;
    assert_eq!(judge_worker("cp-1", &Survey::read(text), &cluster), None);
    assert_eq!(of_worker("https://10.0.0.2:6443", "{", 3), None);
}
