//! A node at the target, before its cordon is lifted.

use migrate_core::steps::BaselineNode;
use migrate_core::{Finding, ObjectName, Severity, TaintEffect};

use super::Comparison;

/// Taint of a cordon, whoever made it; cordons are judged by themselves.
const CORDON: &str = "node.kubernetes.io/unschedulable";
/// Taints of nodes that are starting up, for nodes whose taints nobody knows
/// from before.
const START_UP: [&str; 3] = [
    "node.kubernetes.io/not-ready",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cilium.io/agent-not-ready",
];

impl Comparison<'_> {
    pub(super) fn node(&mut self, name: &str) {
        let cure = "the driver says it is done: look at the kubelet's unit on the node";
        self.node_or_newcomer(name, "its kubelet is", cure);
    }

    /// A node that came meanwhile, as from an autoscaler: the plan does not have it, and
    /// no run of it upgrades it.
    pub(super) fn newcomer(&mut self, name: &str) {
        let cure = "delete it, with its autoscaler making nodes of the new version by now, or \
                    abort this run: the plan of a new one has it";
        let words = "it came after the plan was made, and its kubelet is";
        self.node_or_newcomer(name, words, cure);
    }

    /// `words` come before the version that it is at, if that is not the target.
    fn node_or_newcomer(&mut self, name: &str, words: &str, cure: &str) {
        let object = || ObjectName::cluster("Node", name);
        let Some(node) = self.now.nodes.get(name) else {
            self.lost.push(Finding::new(
                "KM-VERIFY-008",
                Severity::Blocker,
                object(),
                "the node is gone",
                "find out who deleted it; a plan made anew leaves it out",
            ));
            return;
        };
        let target = self.input.target_of_named(name, node.pool.as_deref());
        // One that goes back is newer until it is there.
        let has_arrived = match &self.input.way_back {
            Some(back) if back == name => node.kubelet_version.satisfies(target),
            _ => node.kubelet_version.has_reached(target),
        };
        if !has_arrived {
            let evidence = format!("{words} {}, not {target}", node.kubelet_version);
            self.miss("KM-VERIFY-001", object(), evidence, cure);
        }
        let before = self.before.nodes.get(name);
        if !node.ready && before.is_none_or(|before| before.ready) {
            let evidence = "it is not Ready".to_owned();
            self.miss(
                "KM-VERIFY-002",
                object(),
                evidence,
                "look at its conditions and kubelet log",
            );
        }
        self.taints(name, before, node);
        if let Some(before) = before {
            self.daemons(name, before, node, |_| true);
            self.devices(name, before, node);
            self.storage(name, before, node);
        }
    }

    /// DaemonSets among `asked` that still exist and were Ready on the node
    /// before.
    pub(super) fn daemons(
        &mut self,
        name: &str,
        before: &BaselineNode,
        node: &BaselineNode,
        asked: impl Fn(&str) -> bool,
    ) {
        let missing: Vec<&String> = before
            .daemons
            .iter()
            .filter(|daemon| asked(daemon) && !node.daemons.contains(daemon))
            .filter(|daemon| self.daemon_sets.contains(*daemon))
            .collect();
        for daemon in missing {
            let evidence = format!("its pod of DaemonSet {daemon} was Ready before and is not");
            self.miss(
                "KM-VERIFY-003",
                ObjectName::cluster("Node", name),
                evidence,
                "look at that pod on the node",
            );
        }
    }

    /// Extended resources: their plugins register again after the kubelet.
    fn devices(&mut self, name: &str, before: &BaselineNode, node: &BaselineNode) {
        for (resource, wanted) in &before.extended {
            let offered = node.extended.get(resource).copied().unwrap_or(0);
            if offered < *wanted {
                let evidence = format!("it offers {offered} {resource}, {wanted} before");
                self.miss(
                    "KM-VERIFY-014",
                    ObjectName::cluster("Node", name),
                    evidence,
                    "look at the device plugin's pod on the node",
                );
            }
        }
    }

    /// CSI drivers: pods with their volumes cannot start without them.
    fn storage(&mut self, name: &str, before: &BaselineNode, node: &BaselineNode) {
        for driver in before.csi_drivers.difference(&node.csi_drivers) {
            let evidence = format!("CSI driver {driver} was registered before and is not");
            self.miss(
                "KM-VERIFY-013",
                ObjectName::cluster("CSINode", name),
                evidence,
                "look at the driver's pod on the node",
            );
        }
    }

    /// Taints that keep pods away and were not there before. A cluster
    /// autoscaler marks idle nodes, as a drained one is, by taints that only
    /// make the scheduler prefer others: those are no loss.
    fn taints(&mut self, name: &str, before: Option<&BaselineNode>, node: &BaselineNode) {
        let known = before.and_then(|before| before.taints.as_deref());
        for taint in node.taints.iter().flatten() {
            let is_new = match known {
                Some(known) => !known
                    .iter()
                    .any(|old| old.key == taint.key && old.effect == taint.effect),
                None => START_UP.contains(&taint.key.as_str()),
            };
            let keeps_away = taint.effect != TaintEffect::PreferNoSchedule && taint.key != CORDON;
            if is_new && keeps_away {
                let evidence = format!(
                    "it has the taint {}:{:?}, and had not before",
                    taint.key, taint.effect
                );
                self.miss(
                    "KM-VERIFY-015",
                    ObjectName::cluster("Node", name),
                    evidence,
                    "whoever set it removes it when the node is set up: look at that agent's pod",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
