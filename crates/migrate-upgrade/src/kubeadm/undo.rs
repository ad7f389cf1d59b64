//! What can be taken back.

use std::fmt;

use migrate_core::{Action, ClusterModel, KubeVersion, Pod, Target};

use super::{Kubeadm, release};

/// Whether and how an action can be undone once it has been done.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Undo {
    /// By these steps.
    Possible {
        /// What to do, in order.
        how: String,
    },
    /// Not: going back means restoring the backup.
    PointOfNoReturn {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Possible { how } => write!(f, "undo: {how}"),
            Self::PointOfNoReturn { why } => write!(f, "POINT OF NO RETURN: {why}"),
        }
    }
}

impl Kubeadm {
    /// What undoing `action` on the cluster of `model` would take.
    ///
    /// A member whose etcd comes with a new storage minor is a point of no
    /// return: the older etcd does not read what the newer one has written.
    /// For releases of Kubernetes that this version does not know, each minor
    /// counts as one. An external etcd is touched by no upgrade, but that none shows
    /// as a static pod does not prove it external: such a pod is missing for a moment
    /// where its kubelet has just been restarted. So it is said that none shows, and
    /// the line stays a point of no return.
    pub fn undo(action: &Action, model: &ClusterModel) -> Undo {
        let from = release(&action.from).unwrap_or_else(|| action.from.to_string());
        let name = action.target.name();
        match &action.target {
            Target::ControlPlane { .. } => {
                let (old, new) = (etcd_minor(&action.from), etcd_minor(&action.to));
                let same_release = action.from.minor_version() == action.to.minor_version();
                let unseen = !shows_etcd(model);
                if same_release || (old.is_some() && old == new) {
                    let mut how = format!(
                        "on {name}, move the manifests of /etc/kubernetes/tmp/\
                         kubeadm-backup-manifests-… back, install kubeadm {from}, and set \
                         kubernetesVersion back in kube-system/kubeadm-config"
                    );
                    if unseen {
                        how +=
                            "; no etcd shows as a static pod: one that is external is not touched";
                    }
                    Undo::Possible { how }
                } else {
                    let text =
                        |minor: Option<&str>| minor.unwrap_or("a minor not known").to_owned();
                    let mut why = format!(
                        "etcd's storage goes from {} to {}; back only by restoring the backup",
                        text(old),
                        text(new)
                    );
                    if unseen {
                        why += " (not known: no etcd shows as a static pod now; look again, unless \
                                it is external, and so not touched)";
                    }
                    Undo::PointOfNoReturn { why }
                }
            }
            _ if action.is_way_back() => Undo::Possible {
                how: format!("upgrade {name} again"),
            },
            _ => Undo::Possible {
                how: format!(
                    "drain {name}, install kubelet and kubectl {from} with the saved \
                     /var/lib/kubelet/config.yaml, restart the kubelet, uncordon"
                ),
            },
        }
    }
}

/// Whether an etcd that kubeadm runs shows anywhere in the cluster.
fn shows_etcd(model: &ClusterModel) -> bool {
    let is_etcd = |pod: &Pod| {
        let label = pod.labels.get("component");
        pod.mirror && pod.id.namespace == "kube-system" && label.is_some_and(|it| it == "etcd")
    };
    model.pods.iter().any(is_etcd)
}

/// The minor of etcd that kubeadm of a release installs.
fn etcd_minor(version: &KubeVersion) -> Option<&'static str> {
    match (version.major(), version.minor()) {
        (1, 22..=33) => Some("3.5"),
        (1, 34..=36) => Some("3.6"),
        (1, 37) => Some("3.7"),
        _ => None,
    }
}
