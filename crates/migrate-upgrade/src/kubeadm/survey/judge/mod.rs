//! What a survey means for an upgrade. Pure.

mod addons;
mod endpoints;
mod kube_proxy;
mod machine;
mod settings;

use std::collections::BTreeSet;

use migrate_core::version::MinorVersion;
use migrate_core::{Finding, KubeVersion, ObjectName, Severity};

use super::read::{Certificate, Survey};
pub(super) use addons::DNS_NAME;
pub(super) use endpoints::worker::judge as judge_worker;
pub(super) use machine::Window;

const EXPIRED: &str = "KM-KUBEADM-004";
const EXPIRING: &str = "KM-KUBEADM-005";
const EXTERNAL_AUTHORITY: &str = "KM-KUBEADM-006";
const NO_ROOM: &str = "KM-KUBEADM-007";
const MIXED: &str = "KM-KUBEADM-008";
const CGROUP_V1: &str = "KM-KUBEADM-009";
const UNREAD: &str = "KM-KUBEADM-011";

/// What is left of a certificate that is said to expire soon: 30 days.
const SOON_SECONDS: i64 = 30 * 24 * 60 * 60;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The first minor whose kubelet refuses cgroup v1 by itself.
const REFUSES_CGROUP_V1: (u32, u32) = (1, 35);

/// What an upgrade is asked to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) target: &'a KubeVersion,
    /// Phases of kubeadm that are skipped.
    pub(super) skipped: &'a [String],
    /// Checks of kubeadm that may fail.
    pub(super) ignored: &'a [String],
}

impl Asked<'_> {
    fn minor(&self) -> MinorVersion {
        self.target.minor_version()
    }

    /// Whether a phase `outer`, or `outer/inner`, is left out.
    pub(super) fn skips(&self, outer: &str, inner: &str) -> bool {
        let both = format!("{outer}/{inner}");
        let mut skipped = self.skipped.iter();
        skipped.any(|phase| *phase == both || phase == outer)
    }

    /// Whether a check of `kubeadm upgrade apply` may fail; kubeadm compares
    /// names in lower case.
    fn ignores(&self, check: &str) -> bool {
        let is_named =
            |name: &String| name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case(check);
        self.skips("preflight", "") || self.ignored.iter().any(is_named)
    }
}

/// The findings of one node; `asked_at` is when it was asked and answered, by
/// our own clock.
pub(super) fn judge(
    node: &str,
    survey: &Survey,
    asked_at: Window,
    asked: Asked<'_>,
) -> Vec<Finding> {
    let finding = |code, severity, evidence: String, cure: &str| {
        on_node(node, code, severity, evidence, cure)
    };
    let target = asked.target;
    let mut found = machine::judge(node, survey, asked_at, asked);
    found.extend(settings::of_node(node, survey, asked));
    if refuses_cgroup(survey, target) {
        found.push(finding(
            CGROUP_V1,
            Severity::Blocker,
            format!(
                "the node has cgroup v1 ({}), which the kubelet of {target} refuses",
                survey.cgroup
            ),
            "move the node to cgroup v2, or set failCgroupV1: false in kube-system/kubelet-config \
             and in the node's /var/lib/kubelet/config.yaml",
        ));
    }
    if survey.manifests.is_empty() {
        return found;
    }
    found.extend(settings::of_cluster(node, &survey.cluster, asked));
    found.extend(kube_proxy::judge(node, &survey.cluster, asked));
    found.extend(addons::judge(&survey.cluster, asked));
    match &survey.certificates {
        Some(all) => {
            for certificate in all {
                if let Some((code, severity, evidence, cure)) = lifetime(certificate) {
                    found.push(finding(code, severity, evidence, cure));
                }
            }
            let external: Vec<&str> = all
                .iter()
                .filter(|certificate| certificate.external && !certificate.is_authority)
                .map(|certificate| certificate.name.as_str())
                .collect();
            if !external.is_empty() {
                found.push(finding(
                    EXTERNAL_AUTHORITY,
                    Severity::Warning,
                    format!(
                        "the key of their authority is not here, so that kubeadm does not renew {}",
                        external.join(", ")
                    ),
                    "renew them where the key is, before they expire",
                ));
            }
        }
        None => found.push(finding(
            UNREAD,
            Severity::Warning,
            "`kubeadm certs check-expiration` did not answer".to_owned(),
            "run it on the node and see when certificates expire",
        )),
    }
    if let (Some(needed), Some(free)) = (survey.etcd_kib, survey.free_kib)
        && needed > free
    {
        found.push(finding(
            NO_ROOM,
            Severity::Blocker,
            format!(
                "kubeadm copies etcd's data, {needed} KiB, to /etc/kubernetes/tmp, where {free} KiB \
                 are free"
            ),
            "make room there, or defragment etcd",
        ));
    }
    let tags: BTreeSet<&str> = survey.manifests.values().map(|image| tag(image)).collect();
    if tags.len() > 1 {
        let images: Vec<&str> = survey.manifests.values().map(String::as_str).collect();
        found.push(finding(
            MIXED,
            Severity::Warning,
            format!("an upgrade has stopped half way: {}", images.join(", ")),
            "a run to the version it was going to goes on from there",
        ));
    }
    found.extend(endpoints::judge(node, survey, asked));
    found
}

fn on_node(
    node: &str,
    code: &str,
    severity: Severity,
    evidence: String,
    cure: impl Into<String>,
) -> Finding {
    let object = ObjectName::cluster("Node", node);
    Finding::new(code, severity, object, evidence, cure)
}

fn refuses_cgroup(survey: &Survey, target: &KubeVersion) -> bool {
    let is_v1 = !matches!(survey.cgroup.as_str(), "cgroup2fs" | "unknown" | "");
    let refuses = (target.major(), target.minor()) >= REFUSES_CGROUP_V1;
    is_v1 && refuses && !survey.accepts_cgroup_v1
}

/// Of an expired certificate, or one that will soon be.
fn lifetime(certificate: &Certificate) -> Option<(&'static str, Severity, String, &'static str)> {
    let Certificate { name, expires, .. } = certificate;
    if certificate.seconds_left <= 0 {
        return Some((
            EXPIRED,
            Severity::Blocker,
            format!("the certificate {name} expired at {expires}"),
            if certificate.is_authority {
                "replace the authority by hand; kubeadm does not"
            } else {
                "`kubeadm certs renew`, or renew it where its authority's key is"
            },
        ));
    }
    let days = certificate.seconds_left / DAY_SECONDS;
    (certificate.seconds_left < SOON_SECONDS).then(|| {
        (
            EXPIRING,
            Severity::Warning,
            format!("the certificate {name} expires at {expires}, in {days} days"),
            if certificate.is_authority {
                "replace the authority by hand; kubeadm does not"
            } else if certificate.external {
                "renew it where its authority's key is; the upgrade does not"
            } else {
                "the upgrade of this node's control plane renews it"
            },
        )
    })
}

/// The tag of an image, without a digest.
fn tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    image.rsplit_once(':').map_or(image, |(_, tag)| tag)
}
