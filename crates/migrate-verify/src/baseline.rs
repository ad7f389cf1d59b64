//! From the cluster model to a baseline.

use std::collections::BTreeMap;

use migrate_core::steps::{Baseline, BaselineNode, BaselineWorkload};
use migrate_core::{ClusterModel, Resources, WorkloadId};

/// What `model` says about health; `control_plane_ready` is the answer of
/// `/readyz`. Linear in the model.
///
/// Jobs are left out: their pods come and go by design. Leases, rollouts and
/// storage drivers are not in the model; [`ClusterHealth`](crate::ClusterHealth)
/// adds them.
pub fn baseline(model: &ClusterModel, control_plane_ready: bool) -> Baseline {
    let mut baseline = Baseline::default();
    baseline.taken_at = model.taken_at;
    baseline.control_plane_ready = control_plane_ready;
    baseline.control_plane = model
        .control_plane
        .iter()
        .map(|member| (member.name.clone(), member.version.clone()))
        .collect();
    baseline.unready_members = model
        .control_plane
        .iter()
        .filter(|member| !member.ready)
        .map(|member| member.name.clone())
        .collect();
    baseline.nodes = model
        .nodes
        .iter()
        .map(|node| {
            let mut seen = BaselineNode::new(node.ready, node.kubelet_version.clone());
            seen.unschedulable = node.unschedulable;
            seen.taints = Some(node.taints.clone());
            seen.extended = devices(&node.allocatable);
            (node.name.clone(), seen)
        })
        .collect();

    let mut healthy: BTreeMap<&WorkloadId, u32> = BTreeMap::new();
    for pod in model
        .pods
        .iter()
        .filter(|pod| pod.is_healthy() && !pod.is_finished())
    {
        let Some(workload) = pod.workload.as_deref() else {
            continue;
        };
        *healthy.entry(workload).or_default() += 1;
        if pod.is_daemon() {
            let node = pod
                .node
                .as_ref()
                .and_then(|name| baseline.nodes.get_mut(name));
            if let Some(node) = node {
                node.daemons
                    .push(format!("{}/{}", workload.namespace, workload.name));
            }
        }
    }
    for node in baseline.nodes.values_mut() {
        node.daemons.sort();
    }
    baseline.workloads = model
        .workloads
        .iter()
        .filter(|workload| workload.id.kind != "Job")
        .map(|workload| {
            let healthy = healthy.get(&workload.id).copied().unwrap_or(0);
            // The status knows `minReadySeconds`; the pods know first who is gone.
            let available = workload.available.unwrap_or(healthy).min(healthy);
            let mut seen = BaselineWorkload::new(workload.id.clone(), workload.replicas, available);
            seen.observed = workload.available.is_some();
            seen
        })
        .collect();
    baseline
}

/// What device plugins and the kernel's configuration add to a node. A plugin
/// that has not registered again after a kubelet's restart offers nothing.
fn devices(allocatable: &Resources) -> BTreeMap<String, u64> {
    allocatable
        .extended
        .iter()
        .filter(|(name, _)| name.contains('/') || name.starts_with("hugepages-"))
        .map(|(name, amount)| (name.clone(), *amount))
        .collect()
}
