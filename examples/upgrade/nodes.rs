//! How the nodes of a kubeadm cluster are reached, and what they need before a
//! run begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use migrate_core::{ClusterModel, Fence, KubeVersion, Node};
use migrate_kube::Anchor;
use migrate_upgrade::{JobShell, Kubeadm, NodeShell, PerNode, Ssh};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::run::Environment;

/// Over ssh, or by Jobs where they were asked for.
pub(crate) fn ways(
    cli: &Cli,
    client: &kube::Client,
    model: &ClusterModel,
) -> Result<Arc<dyn NodeShell>, Failure> {
    let ssh: Arc<dyn NodeShell> = Arc::new(match &cli.ssh_config {
        Some(path) => Ssh::new().with_config(path),
        None => Ssh::new(),
    });
    let Some(image) = &cli.job_image else {
        return Ok(ssh);
    };
    let jobs: Arc<dyn NodeShell> =
        Arc::new(JobShell::new(client.clone(), image).with_namespace(&cli.job_namespace));
    let ways = by_job(&cli.job_nodes, model)?.into_iter();
    Ok(Arc::new(ways.fold(PerNode::new(ssh), |ways, node| {
        ways.with_node(node, Arc::clone(&jobs))
    })))
}

/// The nodes that are reached by Jobs: the named ones, else all workers.
fn by_job(named: &[String], model: &ClusterModel) -> Result<Vec<String>, Failure> {
    let workers: BTreeSet<&String> = model.workers().map(|node| &node.name).collect();
    if let Some(other) = named.iter().find(|name| !workers.contains(name)) {
        return Err(Failure::new(
            format!("--job-nodes: {other}"),
            "is no worker; a control plane is reached over ssh, for its API server goes away \
             while it is changed",
        ));
    }
    Ok(match named {
        [] => workers.into_iter().cloned().collect(),
        named => named.to_vec(),
    })
}

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
    target: &KubeVersion,
) -> Result<(), Failure> {
    let before = |node: &&Node| !node.kubelet_version.has_reached(target);
    let nodes = model.nodes.iter().filter(before);
    let names: Vec<String> = nodes.map(|node| node.name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    eprintln!("looking at images on {} nodes", names.len());
    let found = driver.pre_pull(&names, target).await.findings;
    let open = found
        .iter()
        .filter(|finding| !env.policy.waive.contains(&finding.code));
    let lines: Vec<String> = open.map(|finding| format!("  {finding}")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::plain(format!(
        "the nodes are not ready for {target}; nothing but images was put on them:\n{}",
        lines.join("\n")
    )))
}
