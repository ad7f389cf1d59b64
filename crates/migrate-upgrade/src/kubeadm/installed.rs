//! What is on a node, as it says itself.

use std::collections::BTreeMap;

use migrate_core::KubeVersion;

use super::certificates::Renewals;
use crate::Error;

/// The components whose images carry the version of Kubernetes.
const COMPONENTS: [&str; 3] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
];

/// The versions on a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Installed {
    kubelet: String,
    stale: bool,
    healthy: bool,
    manifests: BTreeMap<String, String>,
    /// Components whose manifest was lost, with the backup that is there.
    lost: BTreeMap<String, Option<String>>,
    /// Components whose old manifest kubeadm has moved back by itself.
    pub(super) moved_back: Vec<String>,
    /// What the step of a member has noted of certificates.
    pub(super) renewals: Renewals,
}

impl Installed {
    /// Reads what `look.sh` prints.
    pub(super) fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            if let Some((when, json)) = line
                .strip_prefix("certificates-")
                .and_then(|rest| rest.split_once(' '))
            {
                read.renewals.read(when, json);
                continue;
            }
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["kubelet", version] => read.kubelet = (*version).to_owned(),
                ["kubelet-stale", _] => read.stale = true,
                ["kubelet-healthy", _] => read.healthy = true,
                ["manifest", component, image] => {
                    let image = (*image).to_owned();
                    read.manifests.insert((*component).to_owned(), image);
                }
                ["moved-back", component] => read.moved_back.push((*component).to_owned()),
                ["lost", component, backup] => {
                    let backup = (*backup != "-").then(|| (*backup).to_owned());
                    read.lost.insert((*component).to_owned(), backup);
                }
                _ => {}
            }
        }
        read
    }

    /// A manifest that the upgrade under way here has lost; one without a backup
    /// before others.
    pub(super) fn lost_manifest(&self, node: &str) -> Option<Error> {
        let (component, backup) = self
            .lost
            .iter()
            .min_by_key(|(_, backup)| backup.is_some())?;
        Some(Error::LostManifest {
            node: node.to_owned(),
            component: component.clone(),
            backup: backup.clone(),
        })
    }

    /// What of the control plane here is not at `target`.
    pub(super) fn control_plane_behind(&self, target: &str) -> Vec<String> {
        let behind = COMPONENTS.iter().filter_map(|component| {
            let Some(image) = self.manifests.get(*component) else {
                return Some(format!("{component} has no manifest"));
            };
            let image = image.split('@').next().unwrap_or_default();
            let is_there = image
                .rsplit_once(":v")
                .is_some_and(|(_, tag)| tag == target);
            (!is_there).then(|| format!("{component} is {image}"))
        });
        behind.collect()
    }

    /// What of the kubelet here is not at `target`, or not well.
    pub(super) fn kubelet_behind(&self, target: &str) -> Vec<String> {
        let mut behind = Vec::new();
        if self.kubelet.parse() != target.parse::<KubeVersion>() {
            behind.push(format!("the kubelet is {}", self.kubelet));
        }
        if self.stale {
            behind.push("the kubelet that runs is not the one installed".to_owned());
        }
        if !self.healthy {
            behind.push("the kubelet does not say that it is well".to_owned());
        }
        behind
    }
}
