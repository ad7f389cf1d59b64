//! Whether pods have somewhere to go.
//!
//! Several nodes in flight may take away all the nodes on which a pod could
//! stand: by its node selector, its affinities, taints, the zone of its volume.
//! Its replacement would be pending until one of them is back, and the drain that
//! waits for it with it. So a node that is the last refuge of such a pod, one of
//! its own or of another node in flight, is not cordoned before another is back;
//! and a pod that has lost its last refuge meanwhile is not asked to go.
//!
//! Waited for are only nodes that come back: cordoned by this drain, or with the
//! mark of a run. Others that are cordoned or not Ready are nobody's to wait for:
//! then all goes on as if nothing could be known, and what only one node admits at
//! all is for [`only_host`](migrate_core::only_host). The wait ends with the
//! deadline of the drain, which then has not begun.

use migrate_core::{Blocked, Node, Pod, PodId, Taint, TaintEffect, hosts_among};

use super::Drain;
use super::io::Output;
use super::state::Stage;

/// Taints that Kubernetes itself sets and lifts as a node goes and comes.
const PASSING_TAINTS: &str = "node.kubernetes.io/";

impl Drain {
    /// Nodes may have gone or come back: whoever waits for one looks again.
    pub(super) fn place_changed(&mut self) {
        let waiting = self.nodes.iter().filter(|(_, it)| it.stage == Stage::New);
        self.dirty.extend(waiting.map(|(name, _)| name.clone()));
        self.changed_accounts.extend(self.blocked.keys().cloned());
    }

    /// Whether the node is the last refuge of a pod, so that it is not cordoned
    /// yet; tells it when that changes.
    pub(super) fn waits_for_places(&mut self, node: &str) -> bool {
        let last: Vec<(PodId, Blocked)> = self.last_refuge_of(node).into_iter().collect();
        let waits = !last.is_empty();
        let is_known = self
            .nodes
            .get(node)
            .is_none_or(|drain| drain.waiting.pods == last);
        if !is_known {
            let on = last
                .first()
                .map(|(pod, why)| format!("a place for {pod}: {why}"));
            self.say_waiting(node, on);
            if let Some(drain) = self.nodes.get_mut(node) {
                drain.waiting.pods.clone_from(&last);
            }
            self.outputs.push_back(Output::Waiting {
                node: node.to_owned(),
                pods: last,
            });
        }
        waits
    }

    /// A pod that would have nowhere to go without the node, and on what it waits.
    fn last_refuge_of(&self, node: &str) -> Option<(PodId, Blocked)> {
        // Where nobody new can go, nothing is lost by a cordon.
        let is_open = self.view.node(node).is_some_and(|it| !it.unschedulable);
        if !is_open || self.options.dry_run || !self.keeps_places() {
            return None;
        }
        let returning = self.returning(node);
        if returning.is_empty() {
            return None;
        }
        let in_flight = || self.nodes.iter().filter(|(_, drain)| drain.is_taken());
        // Pods on no node yet are under the empty name.
        let without = in_flight().map(|(name, _)| name.as_str()).chain([""]);
        let there = without.flat_map(|name| self.view.pods_on(name));
        // Between the end of a pod and the next of its name there is none to see.
        let left = in_flight().flat_map(|(_, drain)| &drain.left);
        let left = left.filter(|pod| self.is_missed(pod));
        let mut displaced = there
            .chain(left)
            .filter(|pod| self.is_replaced(pod) && self.could_go_to(pod, node));
        let own = self.view.pods_on(node);
        let mut own = own.filter(|pod| self.is_replaced(pod));
        let refuge = |pod: &Pod| {
            let away = self.nowhere_to_go(pod, node, &returning)?;
            Some((pod.id.clone(), Blocked::nowhere_to_go(away)))
        };
        let of_own = own.find_map(&refuge);
        // The node they leave is one that they can wait for.
        of_own.or_else(|| displaced.find_map(|pod| refuge(&on_no_node(pod))))
    }

    /// Whether places are looked after: in a run, as the room of pools is. Who
    /// names nodes may name all there are.
    fn keeps_places(&self) -> bool {
        self.options.guarded && self.options.pools.is_some()
    }

    /// Refuses to ask a pod to go that has nowhere to go until a node is back.
    pub(super) fn place_for(&self, pod: &Pod) -> Result<(), Blocked> {
        let Some(node) = pod.node.as_deref().filter(|_| self.keeps_places()) else {
            return Ok(());
        };
        let is_moved = self.nodes.get(node).is_some_and(|it| it.only.is_some());
        let returning = self.returning(node);
        if returning.is_empty() || is_moved || !self.is_replaced(pod) {
            return Ok(());
        }
        match self.nowhere_to_go(pod, node, &returning) {
            Some(away) => Err(Blocked::nowhere_to_go(away)),
            None => Ok(()),
        }
    }

    /// Nodes other than `node` that are away and come back, as they will be.
    fn returning(&self, node: &str) -> Vec<Node> {
        let taken = self.nodes.iter().filter(|(_, drain)| drain.is_taken());
        let mut names: Vec<&String> = taken.map(|(name, _)| name).collect();
        names.extend(self.view.marked_nodes());
        names.sort();
        names.dedup();
        let others = names.into_iter().filter(|name| *name != node);
        let nodes = others.filter_map(|name| self.view.node(name).cloned());
        nodes
            .map(|mut node| {
                node.taints
                    .retain(|taint| !taint.key.starts_with(PASSING_TAINTS));
                node
            })
            .collect()
    }

    /// Whether another pod comes in its place, and is waited for.
    pub(super) fn is_replaced(&self, pod: &Pod) -> bool {
        let stays = pod.mirror || pod.is_daemon() || pod.is_finished() || pod.is_step();
        let workload = pod.workload.as_ref().and_then(|id| self.view.workload(id));
        !stays && workload.is_some_and(|workload| workload.replaces_pods())
    }

    /// Whether the workload of a pod that has left is less ready than before.
    fn is_missed(&self, pod: &Pod) -> bool {
        let workload = pod.workload.as_ref();
        workload.is_some_and(|id| self.lacking(id, None).is_some())
    }

    fn could_go_to(&self, pod: &Pod, node: &str) -> bool {
        let candidate = self.view.node(node).into_iter();
        self.hosts(pod, candidate).next().is_some()
    }

    /// The nodes of `returning` that the pod has to wait for, if without `node`
    /// it has nowhere to go.
    fn nowhere_to_go(&self, pod: &Pod, node: &str, returning: &[Node]) -> Option<Vec<String>> {
        let in_use = self
            .view
            .all_nodes()
            .filter(|other| other.name != node && self.is_in_use(other, pod));
        if self.hosts(pod, in_use).next().is_some() {
            return None;
        }
        let hosts = self.hosts(pod, returning.iter());
        let away: Vec<String> = hosts.map(|node| node.name.clone()).collect();
        (!away.is_empty()).then_some(away)
    }

    fn hosts<'a, 'n>(
        &'a self,
        pod: &'a Pod,
        candidates: impl Iterator<Item = &'n Node>,
    ) -> impl Iterator<Item = &'n Node> {
        let neighbours = self.view.neighbours(pod);
        hosts_among(pod, candidates, self.view.all_nodes(), neighbours)
    }

    /// Whether new pods like this one may go to the node now.
    fn is_in_use(&self, node: &Node, pod: &Pod) -> bool {
        let taken = self.nodes.get(&node.name).is_some_and(|it| it.is_taken());
        let is_closed = node.unschedulable || taken;
        node.ready && (!is_closed || tolerates_cordon(pod))
    }
}

fn on_no_node(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.node = None;
    pod
}

/// Whether it may be bound to a cordoned node.
pub(super) fn tolerates_cordon(pod: &Pod) -> bool {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    };
    let mut tolerations = pod.placement.tolerations.iter();
    tolerations.any(|toleration| toleration.tolerates(&cordon))
}
