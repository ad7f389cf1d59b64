//! How the nodes of a kubeadm cluster are reached, and what an earlier run may
//! have left there.

use std::collections::BTreeSet;
use std::sync::Arc;

use migrate_core::{ClusterModel, Fence};
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
    let ssh = ssh(cli);
    let Some(image) = &cli.job_image else {
        return Ok(ssh);
    };
    let jobs: Arc<dyn NodeShell> =
        Arc::new(JobShell::new(client.clone(), image).with_namespace(&cli.job_namespace));
    let ways = by_job(cli, model)?.into_iter();
    Ok(Arc::new(ways.fold(PerNode::new(ssh), |ways, node| {
        ways.with_node(node, Arc::clone(&jobs))
    })))
}

/// The machine's own OpenSSH, with the configuration that was named.
pub(crate) fn own_ssh(cli: &Cli) -> Ssh {
    match &cli.ssh_config {
        Some(path) => Ssh::new().with_config(path),
        None => Ssh::new(),
    }
}

/// The same as a way to nodes.
pub(crate) fn ssh(cli: &Cli) -> Arc<dyn NodeShell> {
    Arc::new(own_ssh(cli))
}

/// The nodes that are reached by Jobs: the named ones, else all workers; none
/// without an image for them.
pub(crate) fn by_job(cli: &Cli, model: &ClusterModel) -> Result<Vec<String>, Failure> {
    if cli.job_image.is_none() {
        return Ok(Vec::new());
    }
    let workers: BTreeSet<&String> = model.workers().map(|node| &node.name).collect();
    if let Some(other) = cli.job_nodes.iter().find(|name| !workers.contains(name)) {
        return Err(Failure::new(
            format!("--job-nodes: {other}"),
            "is no worker; a control plane is reached over ssh, for its API server goes away \
             while it is changed",
        ));
    }
    Ok(match cli.job_nodes.as_slice() {
        [] => workers.into_iter().cloned().collect(),
        named => named.to_vec(),
    })
}

/// No API server stays out of its load balancer because a run was given up. One
/// that another runner may have taken out just now is left to it: a member goes
/// back under the epoch of the last holder, and only if the anchor names this
/// `journal`, whose runner is gone, or nobody. Nor while the anchor is paused: a
/// load balancer is for who pulled that switch to change.
pub(crate) async fn put_back_members(
    cli: &Cli,
    driver: &Kubeadm,
    model: &ClusterModel,
    env: &Environment,
    journal: &str,
) -> Result<(), Failure> {
    if cli.haproxy_backend.is_none() && cli.api_server_hook.is_none() {
        return Ok(());
    }
    let anchor = env.patience().ask(|| Anchor::read(&env.client)).await?;
    if anchor.paused {
        eprintln!(
            "  an API server that an earlier run has left out of its load balancer stays out while \
             the anchor is paused; the next action on its node puts it back, and so does the next \
             start of this program"
        );
        return Ok(());
    }
    if !anchor.names_no_other(journal) {
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
