//! What was set before and the target's programs do not take: feature gates,
//! flags, a configuration in an API that is gone.

use std::collections::BTreeSet;

use migrate_core::version::MinorVersion;
use migrate_core::{Finding, ObjectName, Severity};
use serde_json::Value;

use super::super::read::{Cluster, Survey};
use super::super::releases::{self, GateProblem};
use super::{Asked, on_node};

pub(super) const GATE: &str = "KM-KUBEADM-012";
const OWN_GATE: &str = "KM-KUBEADM-013";
const FLAG: &str = "KM-KUBEADM-014";
const UNREAD: &str = "KM-KUBEADM-015";
pub(super) const OLD_API: &str = "KM-KUBEADM-016";

const OWN_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// Where kubeadm keeps what the kubelet is started with; it takes out of it what
/// it has once put there.
const KUBEADM_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const OWN_TO_KUBEADM: (&str, MinorVersion) =
    ("pod-infra-container-image", MinorVersion::new(1, 35));

/// The gate of kubeadm in the place of which something else has to be set.
const KEY_GATE: &str = "PublicKeysECDSA";

/// Sections of a `ClusterConfiguration`, and the program that gets its
/// `extraArgs`.
const SECTIONS: [(&str, &str); 4] = [
    ("/apiServer", "kube-apiserver"),
    ("/controllerManager", "kube-controller-manager"),
    ("/scheduler", "kube-scheduler"),
    ("/etcd/local", "etcd"),
];

/// Of the kubelet of one node.
pub(super) fn of_node(node: &str, survey: &Survey, asked: Asked<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let target = asked.target;
    let keeps = asked.skips("kubelet-config", "");
    for (gate, problem) in problems(yaml_gates(&survey.own_gates).unwrap_or_default(), asked) {
        let said = said_of(&gate, problem);
        found.push(if keeps {
            let evidence =
                format!("{OWN_CONFIG} sets {said}: the kubelet of {target} does not start");
            on_node(
                node,
                GATE,
                Severity::Blocker,
                evidence,
                format!("take {gate} out of that file"),
            )
        } else {
            let evidence = format!(
                "{OWN_CONFIG} sets {said}; kubeadm writes that file anew from \
                 kube-system/kubelet-config, and what only it has is lost"
            );
            on_node(
                node,
                OWN_GATE,
                Severity::Warning,
                evidence,
                format!("take {gate} out of that file"),
            )
        });
    }
    for (file, flag) in &survey.kubelet_flags {
        let (name, value) = split_flag(flag);
        if name == "feature-gates" {
            for (gate, problem) in problems(listed_gates(value), asked) {
                let said = said_of(&gate, problem);
                let evidence =
                    format!("{file} sets {said} for the kubelet, which does not start at {target}");
                let cure = format!("take {gate} out of --feature-gates in that file");
                found.push(on_node(node, GATE, Severity::Blocker, evidence, cure));
            }
        }
        let is_kubeadms = file == KUBEADM_FLAGS && (name, asked.minor()) == OWN_TO_KUBEADM;
        if let Some(since) = releases::flag("kubelet", name, asked.minor())
            && !is_kubeadms
        {
            let evidence = format!(
                "{file} gives the kubelet --{name}, which it has not since {since}: it does not \
                 start at {target}"
            );
            let cure = format!("take --{name} out of that file");
            found.push(on_node(node, FLAG, Severity::Blocker, evidence, cure));
        }
    }
    found
}

/// Of what is the same for all, as `node` has read it.
pub(super) fn of_cluster(node: &str, cluster: &Cluster, asked: Asked<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let read = |text: &Option<String>| serde_saphyr::from_str::<Value>(text.as_deref()?).ok();
    match read(&cluster.kubeadm_config).filter(Value::is_object) {
        Some(config) => found.extend(of_configuration(&config, asked)),
        None => found.push(unread(node, "kubeadm-config")),
    }
    match cluster.kubelet_gates.as_deref().and_then(yaml_gates) {
        Some(gates) => {
            for (gate, problem) in problems(gates, asked) {
                let evidence = format!(
                    "it sets {}: no kubelet starts at {}",
                    said_of(&gate, problem),
                    asked.target
                );
                let cure = format!("take {gate} out of featureGates there");
                found.push(on_config_map("kubelet-config", GATE, evidence, cure));
            }
        }
        None => found.push(unread(node, "kubelet-config")),
    }
    found
}

fn of_configuration(config: &Value, asked: Asked<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let target = asked.target;
    let map = "kubeadm-config";
    let api = config["apiVersion"].as_str().unwrap_or_default();
    if let Some(since) = releases::configuration(api, asked.minor()) {
        let evidence = format!("it is in {api}, which kubeadm does not read since {since}");
        let cure = "run `kubeadm config migrate` of the release before on it, or the upgrade to \
                    that release, which writes it anew";
        found.push(on_config_map(map, OLD_API, evidence, cure));
    }
    let own = config["featureGates"].as_object();
    for gate in own.into_iter().flat_map(|gates| gates.keys()) {
        if let Some(since) = releases::kubeadm_gate(gate, asked.minor()) {
            let evidence = format!(
                "featureGates sets {gate}, which kubeadm has not since {since}: that of {target} \
                 does not say which images this configuration needs, so that none can be pulled \
                 before the start"
            );
            let instead = match gate.as_str() {
                KEY_GATE => "; encryptionAlgorithm: ECDSA-P256 takes its place",
                _ => "",
            };
            let cure = format!("take {gate} out of featureGates there{instead}");
            found.push(on_config_map(map, GATE, evidence, cure));
        }
    }
    for (section, program) in SECTIONS {
        let place = format!(
            "{}.extraArgs",
            section.trim_start_matches('/').replace('/', ".")
        );
        for (name, value) in extra_args(config.pointer(section)) {
            if name == "feature-gates" && program != "etcd" {
                for (gate, problem) in problems(listed_gates(&value), asked) {
                    let evidence = format!(
                        "{place} sets {}: {program} of {target} does not start",
                        said_of(&gate, problem)
                    );
                    let cure = format!("take {gate} out of feature-gates in {place}");
                    found.push(on_config_map(map, GATE, evidence, cure));
                }
            }
            if let Some(since) = releases::flag(program, &name, asked.minor()) {
                let evidence = format!(
                    "{place} gives {program} --{name}, which it has not since {since}: it does \
                     not start at {target}"
                );
                let cure = format!("take {name} out of {place}, or put what replaces it there");
                found.push(on_config_map(map, FLAG, evidence, cure));
            }
        }
    }
    found
}

pub(super) fn on_config_map(
    map: &str,
    code: &str,
    evidence: String,
    cure: impl Into<String>,
) -> Finding {
    let object = ObjectName::namespaced("ConfigMap", "kube-system", map);
    Finding::new(code, Severity::Blocker, object, evidence, cure)
}

pub(super) fn unread(node: &str, map: &str) -> Finding {
    on_node(
        node,
        UNREAD,
        Severity::Warning,
        format!("kube-system/{map} could not be read there, or not understood"),
        "read it with kubectl, and see whether it has feature gates or flags that are gone",
    )
}

/// Gates of which the target's programs do not take the value, once each.
pub(super) fn problems(
    gates: impl IntoIterator<Item = (String, bool)>,
    asked: Asked<'_>,
) -> impl Iterator<Item = (String, GateProblem)> {
    let gates: BTreeSet<(String, bool)> = gates.into_iter().collect();
    gates.into_iter().filter_map(move |(gate, value)| {
        let problem = releases::gate(&gate, value, asked.minor())?;
        Some((gate, problem))
    })
}

pub(super) fn said_of(gate: &str, problem: GateProblem) -> String {
    let since = problem.since;
    match problem.only {
        None => format!("the feature gate {gate}, which is gone since {since}"),
        Some(only) => format!(
            "the feature gate {gate} to {}, which has been locked to {only} since {since}",
            !only
        ),
    }
}

/// `featureGates` of a kubelet's configuration; none if it cannot be read.
fn yaml_gates(text: &str) -> Option<Vec<(String, bool)>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    gates_of(&serde_saphyr::from_str(text).ok()?)
}

/// The same, of what has been read.
pub(super) fn gates_of(config: &Value) -> Option<Vec<(String, bool)>> {
    let gates = match &config["featureGates"] {
        Value::Null => return Some(Vec::new()),
        gates => gates.as_object()?,
    };
    let gates = gates.iter();
    gates
        .map(|(gate, value)| Some((gate.clone(), value.as_bool()?)))
        .collect()
}

/// `A=true,B=false`.
fn listed_gates(text: &str) -> Vec<(String, bool)> {
    let gates = text.split(',').filter_map(|part| part.split_once('='));
    let read = gates.filter_map(|(gate, value)| {
        let value = value.trim().to_ascii_lowercase().parse().ok()?;
        Some((gate.trim().to_owned(), value))
    });
    read.collect()
}

/// Of one component: a list since v1beta4, a map before.
fn extra_args(component: Option<&Value>) -> Vec<(String, String)> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    match component.map(|component| &component["extraArgs"]) {
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|arg| Some((arg["name"].as_str()?.to_owned(), text(&arg["value"]))))
            .collect(),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        _ => Vec::new(),
    }
}

/// The name without dashes, and the value if there is one.
pub(super) fn split_flag(flag: &str) -> (&str, &str) {
    let flag = flag.trim_start_matches('-');
    flag.split_once('=').unwrap_or((flag, ""))
}
