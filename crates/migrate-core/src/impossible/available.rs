//! Pods that are available too late for a verification.

use std::collections::BTreeSet;

use super::codes;
use crate::{ClusterModel, Finding, Node, ObjectName, Policy, Severity, WorkloadId};

/// Workloads with pods on the nodes to be changed whose `minReadySeconds` are no
/// less than `deadlines.verify`.
///
/// No proof, so no blocker: replacements may have been Ready for a while when
/// the verification of their old node begins, as long as its upgrade took.
pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    changes: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let allowed = policy.deadlines.verify.as_secs();
    let mut late = model.workloads.iter();
    let is_late = |seconds: u32| seconds > 0 && u64::from(seconds) >= allowed;
    if !late.any(|workload| is_late(workload.min_ready_seconds)) {
        return Vec::new();
    }
    let nodes = model.nodes.iter().filter(|node| changes(node));
    let nodes: BTreeSet<&str> = nodes.map(|node| node.name.as_str()).collect();
    let is_there = |node: Option<&str>| node.is_some_and(|node| nodes.contains(node));
    let pods = model.pods.iter();
    let pods = pods.filter(|pod| !pod.is_finished() && is_there(pod.node.as_deref()));
    let concerned: BTreeSet<&WorkloadId> = pods.filter_map(|pod| pod.workload.as_deref()).collect();
    let workloads = model.workloads.iter();
    workloads
        .filter(|workload| is_late(workload.min_ready_seconds) && concerned.contains(&workload.id))
        .map(|workload| {
            let (id, seconds) = (&workload.id, workload.min_ready_seconds);
            Finding::new(
                codes::LATE,
                Severity::Warning,
                ObjectName::namespaced(&id.kind, &id.namespace, &id.name),
                format!(
                    "its pods are available {seconds} s after they are Ready (minReadySeconds), and \
                     the verification of a node waits for {allowed} s at most (deadlines.verify)"
                ),
                format!("raise deadlines.verify above {seconds} s, by what pods need to be Ready"),
            )
        })
        .collect()
}
