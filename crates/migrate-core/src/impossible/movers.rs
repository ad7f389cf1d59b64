//! Which pods would have to leave.

use std::collections::BTreeSet;

use crate::{ClusterModel, Disposition, Node, Pod, Policy, Wait, disposition};

/// The pods of the nodes to be drained.
pub(super) struct Movers<'a> {
    /// Pods to be evicted, once a person has agreed where that is needed.
    pub(super) leaving: Vec<&'a Pod>,
    /// Pods whose Job is waited for.
    pub(super) jobs: Vec<&'a Pod>,
}

impl<'a> Movers<'a> {
    /// Those of the namespaces that `concerns` names.
    pub(super) fn of(
        model: &'a ClusterModel,
        policy: &Policy,
        drains: impl Fn(&Node) -> bool,
        concerns: impl Fn(&str) -> bool,
    ) -> Self {
        let nodes: BTreeSet<&str> = model
            .nodes
            .iter()
            .filter(|node| drains(node))
            .map(|node| node.name.as_str())
            .collect();
        let mut movers = Self {
            leaving: Vec::new(),
            jobs: Vec::new(),
        };
        for pod in &model.pods {
            let is_there = || pod.node.as_deref().is_some_and(|node| nodes.contains(node));
            if !concerns(&pod.id.namespace) || !is_there() {
                continue;
            }
            // Whether another node can host it changes what a person has to
            // agree to, not whether it leaves.
            match disposition(pod, &policy.consent, None) {
                Disposition::Evict | Disposition::NeedsConsent(_) => movers.leaving.push(pod),
                Disposition::Wait(Wait::Job) => movers.jobs.push(pod),
                Disposition::Leave(_) | Disposition::Wait(Wait::Terminating | Wait::Trial) => {}
            }
        }
        movers
    }
}
