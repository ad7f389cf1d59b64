//! What a kubeadm cluster's nodes need before a run begins.

use migrate_core::{ClusterModel, Fence, Node};
use migrate_kube::Anchor;
use migrate_upgrade::Kubeadm;

use crate::failure::Failure;
use crate::run::Environment;

/// No API server stays out of its load balancer because a run was given up. One
/// that another runner may have taken out just now is left to it: a member goes
/// back under the epoch of the last holder, and only if that is the runner of
/// this `journal`, which is gone, or nobody.
pub(crate) async fn put_back_members(
    driver: &Kubeadm,
    model: &ClusterModel,
    env: &Environment,
    journal: &str,
) -> Result<(), Failure> {
    let anchor = Anchor::read(&env.client).await?;
    if anchor.holder.is_some_and(|it| it.identity != journal) {
        return Ok(());
    }
    let members = model.control_plane.iter();
    let members: Vec<String> = members.map(|member| member.name.clone()).collect();
    let fence = Fence::new(env.run.clone(), anchor.epoch.max(1));
    for finding in driver.put_back_all(&members, &fence).await {
        eprintln!("  {finding}");
    }
    Ok(())
}

/// Every node that is to be upgraded has the images, which are pulled where they
/// are missing: nothing that runs is changed.
pub(crate) async fn prepare(
    driver: &Kubeadm,
    model: &ClusterModel,
    env: &Environment,
) -> Result<(), Failure> {
    let before = |node: &&Node| !node.kubelet_version.has_reached(&env.target);
    let nodes = model.nodes.iter().filter(before);
    let names: Vec<String> = nodes.map(|node| node.name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    eprintln!("looking at images on {} nodes", names.len());
    let found = driver.pre_pull(&names, &env.target).await.findings;
    let open = found
        .iter()
        .filter(|finding| !env.policy.waive.contains(&finding.code));
    let lines: Vec<String> = open.map(|finding| format!("  {finding}")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::plain(format!(
        "the nodes are not ready for {}; nothing but images was put on them:\n{}",
        env.target,
        lines.join("\n")
    )))
}
