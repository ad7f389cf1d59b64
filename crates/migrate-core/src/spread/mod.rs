//! How the replicas of workloads stand over nodes: what a run leaves crowded.
//!
//! The node that is drained last ends empty, for nobody moves pods back. What
//! had been over two nodes may then stand on one, and the next failure of that
//! node takes all of it.
//!
//! The unit is the workload, not the Service: a controller is what makes a pod
//! anew, what a budget is assumed for and what the model knows. A Service over
//! several workloads is as well spread as they are together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ClusterModel, Consent, Disposition, Finding, Hosts, Node, ObjectName, Pod, PodId, Severity,
    WorkloadId, disposition,
};

/// Code of the finding that all replicas of a workload stand on one node.
pub const CROWDED: &str = "KM-SPREAD-001";

/// A pod that is to leave its node, which stays in use, so that the scheduler
/// places the next one of its workload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct PodMove {
    /// The pod; no other one of its workload takes its place if it is gone.
    pub pod: PodId,
    /// Its workload, which makes the next one.
    pub workload: WorkloadId,
    /// Where it runs.
    pub node: String,
}

impl PodMove {
    /// `pod` of `workload`, which runs on `node`.
    pub fn new(pod: PodId, workload: WorkloadId, node: impl Into<String>) -> Self {
        Self {
            pod,
            workload,
            node: node.into(),
        }
    }
}

/// A workload all of whose pods stand on one node although others could host
/// them.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Crowded {
    /// Which workload.
    pub workload: WorkloadId,
    /// Where its pods stand.
    pub node: String,
    /// How many of them are healthy, at least 2.
    pub healthy: u32,
    /// Over how many nodes its healthy pods stood before.
    pub nodes_before: u32,
    /// Other nodes that are Ready, not cordoned and admit one of its pods.
    /// Whether they have room for it is not judged.
    pub others: u32,
    /// The one pod to be moved back, if one may be: it stood better before, all
    /// replicas are healthy, and nobody has to agree to anything. The pod that
    /// costs least: lowest priority, then by name.
    pub movable: Option<PodId>,
}

impl Crowded {
    /// The move that undoes it, if there is one.
    pub fn to_move(&self) -> Option<PodMove> {
        let pod = self.movable.clone()?;
        Some(PodMove::new(pod, self.workload.clone(), &self.node))
    }

    /// What there is to be said, with `more` about what was tried.
    pub fn finding(&self, more: Option<&str>) -> Finding {
        let Self {
            workload,
            node,
            healthy,
            nodes_before,
            others,
            ..
        } = self;
        let more = more.map_or_else(String::new, |more| format!("; {more}"));
        Finding::new(
            CROWDED,
            Severity::Warning,
            ObjectName::namespaced(&workload.kind, &workload.namespace, &workload.name),
            format!(
                "all {healthy} ready pods stand on node {node}, before the run they stood on \
                 {nodes_before}, and {others} more could host them{more}"
            ),
            format!(
                "evict one of its pods once nothing else is down, or let the policy do it (respread \
                 = true); topologySpreadConstraints over kubernetes.io/hostname keep {} apart",
                workload.name
            ),
        )
    }
}

/// The workloads of two and more replicas that are crowded `now`, by name. One
/// with a pod on another node is not, whatever its state: it is on its way.
///
/// Both models are sorted, as observing a cluster leaves them.
///
/// Cost: what [`Hosts`] costs, and a look at every node for each pod of a
/// crowded workload.
pub fn crowded<'a>(
    before: &ClusterModel,
    now: &'a ClusterModel,
    consent: &Consent,
) -> Vec<Crowded> {
    let mut hosts = Hosts::of(now);
    let stood = nodes_of_workloads(before);
    let by_workload = live_pods(now);
    let judged = by_workload.into_iter().filter_map(|(id, pods)| {
        let workload = now.workload(id)?;
        let first = pods.first()?.node.as_deref()?;
        let on_one = pods.iter().all(|pod| pod.node.as_deref() == Some(first));
        let healthy = pods.iter().filter(|pod| pod.is_healthy()).count();
        if !on_one || healthy < 2 || workload.replicas < 2 || !workload.replaces_pods() {
            return None;
        }
        let is_other = |node: &&Node| node.name != first && node.ready && !node.unschedulable;
        let mut others_of = |pod: &'a Pod| match hosts.only_host(pod) {
            Some(_) => 0,
            None => {
                let others = now.nodes.iter().filter(is_other);
                others.filter(|node| pod.placement.admits(node)).count()
            }
        };
        let pods: Vec<(&Pod, usize)> = pods.into_iter().map(|pod| (pod, others_of(pod))).collect();
        let others = pods.iter().map(|(_, others)| *others).max().unwrap_or(0);
        if others == 0 {
            return None;
        }
        let nodes_before = stood.get(id).map_or(0, BTreeSet::len);
        let is_whole = healthy == pods.len() && healthy >= workload.replicas as usize;
        let may_move = |(pod, others): &&(&Pod, usize)| {
            *others > 0 && disposition(pod, consent, None) == Disposition::Evict
        };
        let cheapest = pods
            .iter()
            .filter(may_move)
            .min_by_key(|(pod, _)| (pod.priority, &pod.id.name));
        Some(Crowded {
            workload: id.clone(),
            node: first.to_owned(),
            healthy: count(healthy),
            nodes_before: count(nodes_before),
            others: count(others),
            movable: cheapest
                .filter(|_| is_whole && nodes_before > 1)
                .map(|(pod, _)| pod.id.clone()),
        })
    });
    judged.collect()
}

/// Where the healthy pods of each workload stand.
fn nodes_of_workloads(model: &ClusterModel) -> BTreeMap<&WorkloadId, BTreeSet<&str>> {
    let mut nodes = BTreeMap::<_, BTreeSet<_>>::new();
    for pod in model.pods.iter().filter(|pod| pod.is_healthy()) {
        if let (Some(id), Some(node)) = (pod.workload.as_deref(), &pod.node) {
            nodes.entry(id).or_default().insert(node.as_str());
        }
    }
    nodes
}

/// The pods of each workload that run or are to run: neither finished nor going.
fn live_pods(model: &ClusterModel) -> BTreeMap<&WorkloadId, Vec<&Pod>> {
    let mut pods = BTreeMap::<_, Vec<_>>::new();
    let is_live = |pod: &&Pod| !pod.is_finished() && pod.deletion.is_none();
    for pod in model.pods.iter().filter(is_live) {
        if let Some(id) = pod.workload.as_deref() {
            pods.entry(id).or_default().push(pod);
        }
    }
    pods
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
