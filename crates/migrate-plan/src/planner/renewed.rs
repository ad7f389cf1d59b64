//! Pods that have left control-plane nodes before these are drained.

use std::collections::BTreeSet;

use migrate_core::{Node, Pod, Role, WorkloadId};
use rustc_hash::FxHashMap;

use super::Planner;
use crate::intern::{Budget, BudgetSource, Fate};

/// What the upgrade of the members leaves for the drains of their nodes.
#[derive(Debug, Default)]
pub(super) struct Renewed<'m> {
    workloads: BTreeSet<&'m WorkloadId>,
    /// By control-plane node: how many pods of these it has.
    pods: FxHashMap<u32, u32>,
}

impl Planner<'_> {
    /// Predicts that the pods of these workloads are made anew while the last member
    /// is upgraded, as kubeadm's CoreDNS is
    /// (`Kubeadm::renews` of `migrate-upgrade`), and are elsewhere when the nodes of
    /// members are drained: these drains do not wait for them.
    ///
    /// Changes predicted times alone, never what a rollout does. Without a member to
    /// upgrade nothing is made anew; nor counts a workload that has more pods on
    /// control-plane nodes than there are workers which take its pods: some will stay.
    #[must_use]
    pub fn with_renewed(mut self, workloads: impl IntoIterator<Item = WorkloadId>) -> Self {
        self.renewed = workloads.into_iter().collect();
        self
    }

    /// Linear in pods, and in workers for each of these workloads; free where no workload is made anew.
    pub(super) fn renewed(&self) -> Renewed<'_> {
        let mut members = self.model.control_plane.iter();
        let has_members = members.any(|member| !member.version.has_reached(&self.target));
        if self.renewed.is_empty() || self.way_back.is_some() || !has_members {
            return Renewed::default();
        }
        let takes_pods =
            |node: &&Node| node.role == Role::Worker && node.ready && !node.unschedulable;
        let workers: Vec<&Node> = self.model.nodes.iter().filter(takes_pods).collect();
        let nodes = (0..).zip(&self.model.nodes);
        let nodes = nodes.filter(|(_, node)| node.role == Role::ControlPlane);
        let ids: FxHashMap<&str, u32> = nodes.map(|(id, node)| (node.name.as_str(), id)).collect();
        let mut found: FxHashMap<&WorkloadId, (&Pod, Vec<u32>)> = FxHashMap::default();
        for pod in self.model.pods.iter().filter(|pod| !pod.is_finished()) {
            let workload = pod.workload.as_deref();
            let workload = workload.and_then(|id| self.renewed.get(id));
            let node = pod.node.as_deref().and_then(|name| ids.get(name));
            if let (Some(workload), Some(&node)) = (workload, node)
                && Fate::of(pod, self.policy).leaves()
            {
                let (_, nodes) = found.entry(workload).or_insert((pod, Vec::new()));
                nodes.push(node);
            }
        }
        found.retain(|_, (pod, nodes)| {
            let taken_by = workers.iter().filter(|node| pod.placement.admits(node));
            nodes.len() <= taken_by.count()
        });
        let mut pods: FxHashMap<u32, u32> = FxHashMap::default();
        for node in found.values().flat_map(|(_, nodes)| nodes) {
            *pods.entry(*node).or_default() += 1;
        }
        let workloads = found.into_keys().collect();
        Renewed { workloads, pods }
    }
}

impl Renewed<'_> {
    /// How many pods of `node` have left before it is drained.
    pub(super) fn pods(&self, node: u32) -> u32 {
        self.pods.get(&node).copied().unwrap_or(0)
    }

    /// Whether what `budget` counts on `node` has left before that: what a real budget
    /// counts there may be of others, too.
    pub(super) fn covers(&self, budget: &Budget<'_>, node: u32) -> bool {
        match budget.source {
            BudgetSource::Assumed(workload) => {
                self.pods(node) > 0 && self.workloads.contains(&workload.id)
            }
            BudgetSource::Real(_) => false,
        }
    }
}
