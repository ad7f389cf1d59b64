//! What stands beside the control plane: the cluster's DNS, an external etcd.

use migrate_core::{Finding, ObjectName, Severity};
use serde_json::Value;

use super::super::read::{Cluster, Deployment};
use super::super::releases;
use super::{Asked, tag};

const OLD_ETCD: &str = "KM-KUBEADM-017";
const SILENT_ETCD: &str = "KM-KUBEADM-018";
const EXTERNAL_ETCD: &str = "KM-KUBEADM-019";
const DNS_REFUSED: &str = "KM-KUBEADM-020";
const DNS_REPLACED: &str = "KM-KUBEADM-021";

/// The checks of `kubeadm upgrade apply` that look at `CoreDNS`.
const DNS_CHECKS: [&str; 2] = ["CoreDNSUnsupportedPlugins", "CoreDNSMigration"];
/// The Deployment that kubeadm writes.
pub(in super::super) const DNS_NAME: &str = "coredns";

pub(super) fn judge(cluster: &Cluster, asked: Asked<'_>) -> Vec<Finding> {
    let text = cluster.kubeadm_config.as_deref().unwrap_or_default();
    let config: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let mut found = of_etcd(cluster, &config, asked);
    found.extend(of_dns(cluster, &config, asked));
    found
}

fn of_etcd(cluster: &Cluster, config: &Value, asked: Asked<'_>) -> Vec<Finding> {
    if !config["etcd"]["external"].is_object() {
        return Vec::new();
    }
    let oldest = releases::oldest_external_etcd(asked.minor());
    let on = |server: &str, code, severity, evidence, cure: &str| {
        Finding::new(
            code,
            severity,
            ObjectName::cluster("Etcd", server),
            evidence,
            cure,
        )
    };
    let mut found = Vec::new();
    for (server, version) in &cluster.etcd {
        let (Some(has), Some(needs)) = (numbers(version), oldest) else {
            let evidence = "its version could not be asked: whether kubeadm takes it is not known";
            let cure = "see that it answers /version to the API server's client certificate";
            let evidence = evidence.to_owned();
            found.push(on(server, SILENT_ETCD, Severity::Warning, evidence, cure));
            continue;
        };
        if Some(has) < numbers(needs) {
            let evidence = format!(
                "external etcd {version} is older than {needs}, the oldest that kubeadm of {} takes",
                asked.target
            );
            let cure = "upgrade etcd first; nothing here touches an external one";
            found.push(on(server, OLD_ETCD, Severity::Blocker, evidence, cure));
        }
    }
    let members: Vec<String> = cluster
        .etcd
        .iter()
        .map(|(server, version)| format!("{server} {version}"))
        .collect();
    found.push(on(
        "external",
        EXTERNAL_ETCD,
        Severity::Info,
        format!(
            "etcd is external ({}): it is not touched",
            members.join(", ")
        ),
        "upgrade it and back it up by its own procedure",
    ));
    found
}

/// `kubeadm upgrade apply` compares the `CoreDNS` there is with its own, whether
/// its addon is left out or not, and fails if it does not know the way from one
/// to the other; the addon then writes Deployment, Service and rights anew, and
/// the Corefile only if it is a default one or has to be migrated.
fn of_dns(cluster: &Cluster, config: &Value, asked: Asked<'_>) -> Vec<Finding> {
    let (Some(has_corefile), Some(all)) = (cluster.has_corefile, &cluster.dns) else {
        return Vec::new();
    };
    let finding = |code, severity, evidence: String, cure: &str| {
        let object = ObjectName::namespaced("Deployment", "kube-system", DNS_NAME);
        Finding::new(code, severity, object, evidence, cure)
    };
    let is_left_out =
        config["dns"]["disabled"] == Value::Bool(true) || asked.skips("addon", "coredns");
    let mut found = Vec::new();
    let is_checked = DNS_CHECKS.iter().any(|check| !asked.ignores(check));
    if let Some(why) = refusal(has_corefile, all, asked)
        && is_checked
    {
        let [plugins, migration] = DNS_CHECKS;
        let cure = if is_left_out {
            format!("let the checks {plugins} and {migration} fail")
        } else {
            format!(
                "skip the phase addon/coredns and let the checks {plugins} and {migration} fail, or \
                 have kubeadm's CoreDNS again"
            )
        };
        found.push(finding(
            DNS_REFUSED,
            Severity::Blocker,
            format!("kubeadm upgrade apply refuses: {why}"),
            &cure,
        ));
    }
    if is_left_out {
        return found;
    }
    for deployment in all {
        if let Some(whose) = other_owner(deployment) {
            found.push(finding(
                DNS_REPLACED,
                Severity::Blocker,
                format!(
                    "the cluster's DNS is not kubeadm's own: {whose}; kubeadm writes its Deployment \
                     coredns over it, or beside it"
                ),
                "skip the phase addon/coredns, and upgrade CoreDNS as it was installed",
            ));
        }
    }
    found
}

/// Why the checks fail.
fn refusal(has_corefile: bool, all: &[Deployment], asked: Asked<'_>) -> Option<String> {
    let deployment = match all {
        _ if !has_corefile => return Some("there is no ConfigMap coredns".to_owned()),
        [] => return Some("no Deployment is labelled k8s-app=kube-dns".to_owned()),
        [only] => only,
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
            return Some(format!(
                "several Deployments are labelled k8s-app=kube-dns: {}",
                names.join(", ")
            ));
        }
    };
    let has = tag(&deployment.image);
    let brings = releases::coredns(asked.minor())?;
    match numbers(has) {
        None => Some(format!("{} names no version of CoreDNS", deployment.image)),
        Some(version) if Some(version) > numbers(brings) => Some(format!(
            "CoreDNS {has} is newer than {brings}, which kubeadm of {} brings",
            asked.minor()
        )),
        Some(_) => None,
    }
}

/// Who else has made the Deployment, as far as that shows.
fn other_owner(deployment: &Deployment) -> Option<String> {
    let Deployment {
        name,
        image,
        managed_by,
    } = deployment;
    let path = image.split('@').next().unwrap_or_default();
    let path = path.rsplit_once(':').map_or(path, |(path, _)| path);
    if name != DNS_NAME {
        Some(format!("it is called {name}"))
    } else if !managed_by.is_empty() {
        Some(format!("it is managed by {managed_by}"))
    } else if path.rsplit('/').next() != Some(DNS_NAME) {
        Some(format!("its image is {image}"))
    } else {
        None
    }
}

/// Major, minor and patch; `v` and what follows are left out.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let version = version.trim_start_matches('v');
    let mut parts = version.split(['.', '-', '+', '~']);
    let mut next = || parts.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers() {
        assert_eq!(numbers("v1.14.2"), Some([1, 14, 2]));
        assert_eq!(numbers("3.5.24-0"), Some([3, 5, 24]));
        assert_eq!(numbers("latest"), None);
        assert!(numbers("1.9.9") < numbers("1.14.2"));
    }
}
