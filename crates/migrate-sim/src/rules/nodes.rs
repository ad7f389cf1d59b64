//! I2, I3, I4 and I6: what nodes may go through.

use serde_json::Value;

use super::RuleChecker;
use super::state::{is_cordoned, is_evictable, key, version};
use crate::object::{annotation, at, is_ready, items_at, label, name, str_at};

/// The annotation that names the run a cordon belongs to.
const CORDONED_BY: &str = "kube-migrate.dev/cordoned-by";
/// The annotation that keeps what `spec.unschedulable` was before.
const UNSCHEDULABLE_BEFORE: &str = "kube-migrate.dev/unschedulable-before";

impl RuleChecker {
    pub(super) fn node_applied(&mut self, node: &Value) {
        let before = self.state.put("Node", node);
        let Some(before) = before else {
            return;
        };
        if ours(node) && !ours(&before) {
            self.check_width(node);
        }
        if kubelet(&before) != kubelet(node) {
            self.check_change(&before, node);
        }
        self.check_foreign_cordon(&before, node);
    }

    /// I2: a node was taken; are more away now than its pool allows?
    fn check_width(&mut self, node: &Value) {
        let pool = self.pool(node);
        let width = self.settings.widths.get(&pool).copied().unwrap_or(1);
        let away: Vec<String> = self
            .state
            .all("Node")
            .filter(|other| self.pool(other) == pool && (ours(other) || !is_ready(other)))
            .map(|other| name(other).to_owned())
            .collect();
        if away.len() > width {
            let what = format!(
                "{} nodes of pool {pool} are away, {width} may be: {away:?}",
                away.len()
            );
            self.broken("I2", version(node), what);
        }
    }

    /// I3, I4, I6: a kubelet has changed.
    fn check_change(&mut self, before: &Value, node: &Value) {
        let at = version(node);
        let node_name = name(node).to_owned();
        if !is_cordoned(before) {
            self.broken(
                "I3",
                at,
                format!("node {node_name} changed its kubelet while schedulable"),
            );
        }
        let changes = self.kubelet_changes.entry(node_name.clone()).or_default();
        *changes += 1;
        if *changes > 1 {
            let what = format!("node {node_name} changed its kubelet {changes} times");
            self.broken("I6", at, what);
        }
        let left: Vec<String> = self
            .state
            .all("Pod")
            .filter(|pod| str_at(pod, &["spec", "nodeName"]) == node_name)
            // What tolerates a cordon comes straight back, whoever evicts it.
            .filter(|pod| is_evictable(pod) && !tolerates_cordon(pod))
            .map(key)
            .collect();
        if !left.is_empty() {
            self.broken(
                "I3",
                at,
                format!("node {node_name} changed its kubelet under {left:?}"),
            );
        }
        if minor(kubelet(node)) < minor(kubelet(before)) {
            let what = format!("node {node_name} went back to {}", kubelet(node));
            self.broken("I6", at, what);
        }
        let ahead: Vec<String> = self
            .state
            .all("Pod")
            .filter(|pod| label(pod, "component") == Some("kube-apiserver"))
            .filter(|pod| {
                let containers = items_at(pod, &["spec", "containers"]);
                let image = containers.first().map_or("", |c| str_at(c, &["image"]));
                let tag = image.rsplit(':').next().unwrap_or("");
                minor(tag).is_some_and(|api| minor(kubelet(node)).is_some_and(|own| own > api))
            })
            .map(key)
            .collect();
        if !ahead.is_empty() {
            let what = format!(
                "node {node_name} is {} and newer than {ahead:?}",
                kubelet(node)
            );
            self.broken("I4", at, what);
        }
    }

    /// I3: who had cordoned a node before us still wants it so.
    fn check_foreign_cordon(&mut self, before: &Value, node: &Value) {
        let foreign = is_cordoned(before)
            && (!ours(before) || annotation(before, UNSCHEDULABLE_BEFORE) == Some("true"));
        if foreign && !is_cordoned(node) {
            let what = format!(
                "the cordon someone else set on node {} was lifted",
                name(node)
            );
            self.broken("I3", version(node), what);
        }
    }

    fn pool(&self, node: &Value) -> String {
        let control_plane = at(node, &["metadata", "labels"])
            .and_then(|labels| labels.get("node-role.kubernetes.io/control-plane"))
            .is_some();
        if control_plane {
            return "control-plane".to_owned();
        }
        label(node, &self.settings.pool_label)
            .unwrap_or("default")
            .to_owned()
    }
}

fn tolerates_cordon(pod: &Value) -> bool {
    items_at(pod, &["spec", "tolerations"])
        .iter()
        .any(|toleration| {
            let key = str_at(toleration, &["key"]);
            let exists = str_at(toleration, &["operator"]) == "Exists";
            key == "node.kubernetes.io/unschedulable" || (key.is_empty() && exists)
        })
}

fn ours(node: &Value) -> bool {
    annotation(node, CORDONED_BY).is_some()
}

fn kubelet(node: &Value) -> &str {
    str_at(node, &["status", "nodeInfo", "kubeletVersion"])
}

/// Major and minor of `v1.37.2`.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
