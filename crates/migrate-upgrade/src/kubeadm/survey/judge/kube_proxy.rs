//! kube-proxy, which `kubeadm upgrade` writes anew once every member is at the
//! target: its configuration, its flags, and whether it is there at all.

use migrate_core::version::MinorVersion;
use migrate_core::{Finding, ObjectName, Severity, listed};
use serde_json::Value;

use super::super::read::Cluster;
use super::super::releases;
use super::Asked;
use super::settings::{
    GATE, OLD_API, gates_of, on_config_map, problems, said_of, split_flag, unread,
};

const MODE: &str = "KM-KUBEADM-037";
const INSTALLED: &str = "KM-KUBEADM-038";
const LOST_FLAGS: &str = "KM-KUBEADM-039";

/// The `ConfigMap` and the `DaemonSet`.
const NAME: &str = "kube-proxy";
const GROUP: &str = "kubeproxy.config.k8s.io";
/// The only API of its configuration, up to the newest release that is known.
const API: (&str, MinorVersion) = ("v1alpha1", MinorVersion::new(1, 37));
/// What kube-proxy takes for a mode on Linux (`validateProxyModeLinux`).
const MODES: [&str; 4] = ["", "iptables", "nftables", IPVS];
const IPVS: &str = "ipvs";
/// Since then kube-proxy calls that mode deprecated.
const IPVS_DEPRECATED: MinorVersion = MinorVersion::new(1, 35);
/// The flags that kubeadm's `DaemonSet` gives it.
const OWN_FLAGS: [&str; 2] = ["config", "hostname-override"];
/// How many flags are named.
const SHOWN: usize = 5;

pub(super) fn judge(node: &str, cluster: &Cluster, asked: Asked<'_>) -> Vec<Finding> {
    let config = cluster.kubeadm_config.as_deref();
    let config: Option<Value> = config.and_then(|text| serde_saphyr::from_str(text).ok());
    let is_disabled = |config: &Value| config["proxy"]["disabled"] == Value::Bool(true);
    let is_left_out = config.as_ref().is_some_and(is_disabled) || asked.skips("addon", NAME);
    let mut found = of_configuration(node, cluster, is_left_out, asked);
    match cluster.has_kube_proxy {
        _ if is_left_out => {}
        // Whether it is disabled has to be known for that.
        Some(false) => found.extend(config.is_some().then(|| would_be_installed(asked))),
        _ => found.extend(lost_flags(&cluster.kube_proxy_flags, asked)),
    }
    found
}

/// kubeadm reads the configuration before everything, whether it goes on to write
/// kube-proxy anew or not.
fn of_configuration(
    node: &str,
    cluster: &Cluster,
    is_left_out: bool,
    asked: Asked<'_>,
) -> Vec<Finding> {
    let target = asked.target;
    let text = match cluster.kube_proxy_config.as_deref() {
        // Without it kubeadm writes one of its own.
        Some(text) if text.trim().is_empty() => return Vec::new(),
        Some(text) => text,
        None if is_left_out => return Vec::new(),
        None => return vec![unread(node, NAME)],
    };
    let Some(config) = document(text) else {
        return vec![unread(node, NAME)];
    };
    let (only, newest) = API;
    let version = config["apiVersion"]
        .as_str()
        .and_then(|api| api.split('/').nth(1));
    if asked.minor() <= newest && version != Some(only) {
        let evidence = format!(
            "config.conf is in {}, which kubeadm of {target} does not read: it ends before it has \
             changed anything",
            config["apiVersion"]
        );
        let cure = format!("write it in {GROUP}/{only}");
        return vec![on_config_map(NAME, OLD_API, evidence, cure)];
    }
    if is_left_out {
        return Vec::new();
    }
    let mut found = Vec::new();
    match gates_of(&config) {
        Some(gates) => found.extend(problems(gates, asked).map(|(gate, problem)| {
            let evidence = format!(
                "config.conf sets {}: no kube-proxy starts at {target}",
                said_of(&gate, problem)
            );
            let cure = format!("take {gate} out of featureGates there");
            on_config_map(NAME, GATE, evidence, cure)
        })),
        None => found.push(unread(node, NAME)),
    }
    found.extend(of_mode(config["mode"].as_str().unwrap_or_default(), asked));
    found
}

/// The document of kube-proxy's group among those there are.
fn document(text: &str) -> Option<Value> {
    let documents = text.split("---\n");
    let mut read = documents.filter_map(|text| serde_saphyr::from_str::<Value>(text).ok());
    read.find(|config| {
        let api = config["apiVersion"].as_str().unwrap_or_default();
        api.split('/').next() == Some(GROUP)
    })
}

fn of_mode(mode: &str, asked: Asked<'_>) -> Option<Finding> {
    let target = asked.target;
    if !MODES.contains(&mode) {
        let evidence = format!(
            "config.conf sets the mode {mode}, which kube-proxy of {target} does not take on Linux: \
             none starts"
        );
        return Some(on_config_map(NAME, MODE, evidence, "iptables or nftables"));
    }
    (mode == IPVS && asked.minor() >= IPVS_DEPRECATED).then(|| {
        let evidence = "config.conf sets the mode ipvs: it works on, is deprecated since 1.35, and \
                        announced to be off by default with 1.40 and gone with 1.43";
        let cure =
            "nftables, or iptables, before that: as a change of its own, not with an upgrade";
        let mut finding = on_config_map(NAME, MODE, evidence.to_owned(), cure);
        finding.severity = Severity::Warning;
        finding
    })
}

/// Releases before 1.32 left a kube-proxy alone that was not there.
fn would_be_installed(asked: Asked<'_>) -> Finding {
    let evidence = format!(
        "there is no kube-proxy here, and kubeadm of {} installs it on every node: what does its \
         work here would have it beside itself",
        asked.target
    );
    let cure =
        "skip the phase addon/kube-proxy, or set proxy.disabled in kube-system/kubeadm-config";
    Finding::new(INSTALLED, Severity::Blocker, daemon_set(), evidence, cure)
}

/// kubeadm writes the `DaemonSet` anew, so that a flag that is gone keeps nobody
/// from starting.
fn lost_flags(flags: &[String], asked: Asked<'_>) -> Option<Finding> {
    let names = flags.iter().map(|flag| split_flag(flag).0);
    let others = names.filter(|name| !OWN_FLAGS.contains(name));
    let others = others.map(|name| match releases::flag(NAME, name, asked.minor()) {
        Some(since) => format!("--{name} (gone since {since})"),
        None => format!("--{name}"),
    });
    let others: Vec<String> = others.collect();
    (!others.is_empty()).then(|| {
        let evidence = format!(
            "kubeadm writes it anew with --config and --hostname-override alone: {} is lost, unless a \
             patch of yours (kubeproxydaemonset, of 1.37 and newer) has it",
            listed(&others, SHOWN)
        );
        let cure = "put what you need of it into config.conf of kube-system/kube-proxy before, or into \
                    a patch";
        Finding::new(LOST_FLAGS, Severity::Warning, daemon_set(), evidence, cure)
    })
}

fn daemon_set() -> ObjectName {
    ObjectName::namespaced("DaemonSet", "kube-system", NAME)
}
