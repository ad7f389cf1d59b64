//! kube-proxy, as kubeadm would write it anew.

use super::configured::says;
use super::*;

const CONFIG: &str = "ConfigMap kube-system/kube-proxy";
const SET: &str = "DaemonSet kube-system/kube-proxy";
const GATE: &str = "kube-proxy-config   NodeSwap: true";
const MODE: &str = "kube-proxy-config mode: iptables";

/// What is found with some phases left out.
fn codes(old: &str, new: &str, skipped: &[&str]) -> Vec<String> {
    let found = judged_as("cp-1", &found_text(old, new), "v1.37.2", skipped, &[]);
    found.into_iter().map(|finding| finding.code).collect()
}

#[test]
fn what_its_configuration_sets_and_the_target_does_not_take_is_found() {
    let gone = "SidecarContainers, which is gone since 1.37: no kube-proxy starts";
    let sidecar = GATE.replace("NodeSwap", "SidecarContainers");
    says(GATE, &sidecar, "012", CONFIG, gone);
    let locked = "NodeSwap to false, which has been locked to true";
    says(GATE, &GATE.replace("true", "false"), "012", CONFIG, locked);
    let userspace = MODE.replace("iptables", "userspace");
    says(MODE, &userspace, "037", CONFIG, "the mode userspace");
    let ipvs = MODE.replace("iptables", "ipvs");
    says(MODE, &ipvs, "037", CONFIG, "gone with 1.43");
    assert!(!found_with(MODE, &ipvs)[0].blocks());
    assert!(found_with(MODE, &userspace)[0].blocks());
    assert_eq!(
        judged("cp-1", &found_text(MODE, &ipvs), "v1.34.4"),
        [judged("cp-1", &found_text("", ""), "v1.34.4")].concat()
    );
    for mode in ["nftables", "\"\""] {
        assert_eq!(found_with(MODE, &MODE.replace("iptables", mode)), []);
    }
    // Left as it is, it does not change.
    assert_eq!(codes(GATE, &sidecar, &["addon"]), [""; 0]);
}

#[test]
fn a_configuration_that_kubeadm_does_not_read_stops_it_whatever_is_skipped() {
    let (api, later) = ("k8s.io/v1alpha1", "k8s.io/v1alpha2");
    says(api, later, "016", CONFIG, "v1alpha2");
    let old = "KM-KUBEADM-016";
    assert_eq!(codes(api, later, &["addon/kube-proxy"]), [old]);
    // A release that is not known may have another one.
    let found = judged("cp-1", &found_text(api, later), "v1.38.0");
    assert!(found.iter().all(|f| f.code != old), "{found:?}");
    // One document of several; one that is none of kube-proxy's.
    let first = "kube-proxy-config\n";
    let several = format!("{first}kube-proxy-config kind: Other\nkube-proxy-config ---\n");
    assert_eq!(found_with(first, &several), []);
    let other = "kube-proxy-config apiVersion: kubeproxy";
    let says_015 = codes(other, "kube-proxy-config apiVersion: other", &[]);
    assert_eq!(says_015, ["KM-KUBEADM-015"]);
}

#[test]
fn one_that_is_not_there_would_be_installed() {
    let here = "kube-proxy daemonset.apps/kube-proxy\n";
    says(
        here,
        "kube-proxy \n",
        "038",
        SET,
        "installs it on every node",
    );
    assert!(found_with(here, "kube-proxy \n")[0].blocks());
    assert_eq!(codes(here, "kube-proxy \n", &["addon/kube-proxy"]), [""; 0]);
    let disabled = found_text(here, "kube-proxy \n").replacen(
        "kubeadm-config etcd:",
        "kubeadm-config proxy: {disabled: true}\nkubeadm-config etcd:",
        1,
    );
    assert_eq!(judged("cp-1", &disabled, "v1.37.2"), []);
    // Nobody could ask.
    assert_eq!(found_with(here, ""), []);
}

#[test]
fn flags_of_its_daemon_set_are_lost() {
    let own = "kube-proxy-flag --config\n";
    let more = format!("{own}kube-proxy-flag --v\nkube-proxy-flag --boot-id-file\n");
    says(
        own,
        &more,
        "039",
        SET,
        "--v, --boot-id-file (gone since 1.37) is lost",
    );
    assert_eq!(codes(own, &more, &["addon/kube-proxy"]), [""; 0]);
}
