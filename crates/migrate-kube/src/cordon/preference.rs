//! Nodes that are still to be upgraded as the worse choice for new pods.

use std::collections::BTreeMap;

use kube::Client;
use migrate_core::{Fence, KubeVersion};

use super::all::{Change, change_all};
use crate::Error;
use crate::resources::{Node, Taint};

/// Key of the taint on nodes that a run is still to upgrade: the scheduler rather places pods
/// elsewhere, and none is kept away.
pub const TO_BE_UPGRADED: &str = "kube-migrate.dev/to-be-upgraded";

/// Has the scheduler prefer other nodes to these, as long as their kubelets have not reached
/// the version beside them: by a taint with the effect `PreferNoSchedule` and the key
/// [`TO_BE_UPGRADED`]. Gives how many nodes have it.
///
/// It goes with the cordon of its node ([`restore_cordon`](super::restore_cordon)), and that of
/// every node at the end of the run ([`unstamp_nodes`](super::unstamp_nodes)).
///
/// # Guarantees
/// Other taints stay as they are, and so does a node whose kubelet has reached its version, or
/// has not reported yet. Doing it twice changes nothing. A taint of that key in a model is left
/// out. Who was superseded is refused as by [`cordon`](super::cordon()).
///
/// # Errors
/// As [`take_over_nodes`](super::take_over_nodes).
pub async fn prefer_upgraded(
    client: &Client,
    fence: &Fence,
    nodes: &BTreeMap<String, KubeVersion>,
) -> Result<usize, Error> {
    let is_outdated = |node: &Node| {
        let to = node.metadata.name.as_ref().and_then(|name| nodes.get(name));
        let is = node.to_model().ok().map(|node| node.kubelet_version);
        to.zip(is).is_some_and(|(to, is)| !is.has_reached(to))
    };
    let seen = change_all(client, fence, |node| {
        let taints = &node.spec.taints;
        let is_due = is_outdated(node) && !taints.iter().any(Taint::is_ours);
        Change {
            taints: is_due.then(|| taints.iter().cloned().chain([taint()]).collect()),
            ..Change::default()
        }
    })
    .await?;
    let tainted = seen
        .iter()
        .filter(|node| node.spec.taints.iter().any(Taint::is_ours));
    Ok(tainted.count())
}

/// `taints` without ours; `None` if it is not there.
pub(super) fn without(taints: &[Taint]) -> Option<Vec<Taint>> {
    let others = taints.iter().filter(|taint| !taint.is_ours());
    let others: Vec<Taint> = others.cloned().collect();
    (others.len() < taints.len()).then_some(others)
}

fn taint() -> Taint {
    Taint {
        key: TO_BE_UPGRADED.to_owned(),
        effect: "PreferNoSchedule".to_owned(),
        ..Taint::default()
    }
}
