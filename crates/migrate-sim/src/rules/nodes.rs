//! I2, I3 and I6: what nodes may go through.

use serde_json::Value;

use super::RuleChecker;
use super::skew::{kubelet, minor};
use super::state::{is_cordoned, is_evictable, key, version};
use crate::object::{annotation, at, is_ready, items_at, label, name, str_at, uid};

/// The annotation that names the run a cordon belongs to.
const CORDONED_BY: &str = "kube-migrate.dev/cordoned-by";
/// The annotation that keeps what `spec.unschedulable` was before.
const UNSCHEDULABLE_BEFORE: &str = "kube-migrate.dev/unschedulable-before";

/// The pool of control-plane nodes.
const CONTROL_PLANE: &str = "control-plane";

/// A node was taken while its pool looked full.
#[derive(Clone, Debug)]
pub(super) struct Taking {
    node: String,
    version: u64,
    pool: String,
    width: usize,
    /// The run has them, that node included.
    ours: Vec<String>,
    /// The others that are not Ready, and since when.
    not_ready: Vec<(String, u64)>,
}

/// A request that changed a node.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) node: String,
    pub(super) version: u64,
    pub(super) sent_ms: u64,
}

impl RuleChecker {
    pub(super) fn node_applied(&mut self, node: &Value) {
        let before = self.state.put("Node", node);
        if is_ready(node) {
            self.not_ready.remove(name(node));
        } else {
            let since = self.not_ready.entry(name(node).to_owned());
            since.or_insert(self.now_ms);
        }
        let is_new = |test: fn(&Value) -> bool| test(node) && !before.as_ref().is_some_and(test);
        if is_new(ours) || (is_new(is_cordoned) && !ours(node)) {
            self.taken.insert(name(node).to_owned(), version(node));
        } else if !is_cordoned(node) && !ours(node) {
            self.taken.remove(name(node));
        }
        let Some(before) = before else {
            self.kubelet_seen(node);
            return;
        };
        if ours(node) && !ours(&before) {
            self.check_width(node);
            self.check_control_plane_first(node);
        }
        if kubelet(&before) != kubelet(node) {
            self.check_change(&before, node);
            self.kubelet_seen(node);
        }
        self.check_foreign_cordon(&before, node);
    }

    pub(super) fn node_left(&mut self, node: &Value) {
        self.not_ready.remove(name(node));
        self.taken.remove(name(node));
        self.kubelet_gone(node);
    }

    /// I2: a node was taken; are more away now than its pool allows?
    fn check_width(&mut self, node: &Value) {
        let pool = self.pool(node);
        let width = self.settings.widths.get(&pool).copied().unwrap_or(1);
        let of_pool = self
            .state
            .all("Node")
            .filter(|other| self.pool(other) == pool);
        let (ours, others): (Vec<&Value>, Vec<&Value>) = of_pool.partition(|other| ours(other));
        let ours: Vec<String> = ours
            .into_iter()
            .map(|other| name(other).to_owned())
            .collect();
        let not_ready: Vec<(String, u64)> = others
            .into_iter()
            .filter_map(|other| Some((name(other).to_owned(), *self.not_ready.get(name(other))?)))
            .collect();
        if ours.len() + not_ready.len() > width {
            self.takings.push(Taking {
                node: name(node).to_owned(),
                version: version(node),
                pool,
                width,
                ours,
                not_ready,
            });
        }
    }

    /// I2: a worker was taken; is every control-plane node through?
    fn check_control_plane_first(&mut self, node: &Value) {
        let is_worker = self.pool(node) != CONTROL_PLANE;
        if !self.settings.control_plane_nodes_first || !is_worker {
            return;
        }
        let Some(newest) = self.newest_api_server() else {
            return;
        };
        let is_left = |other: &&Value| {
            let is_behind = minor(kubelet(other)).is_some_and(|minor| minor < newest);
            self.pool(other) == CONTROL_PLANE && (is_behind || ours(other))
        };
        let left: Vec<&str> = self.state.all("Node").filter(is_left).map(name).collect();
        if !left.is_empty() {
            let worker = name(node);
            let what = format!("worker {worker} was taken before control-plane nodes {left:?}");
            self.broken("I2", version(node), what);
        }
    }

    /// I2, once it is known when the cordons were asked for.
    pub(super) fn judge_takings(&mut self) {
        let notice = u64::try_from(self.settings.notice.as_millis()).unwrap_or(u64::MAX);
        for taking in std::mem::take(&mut self.takings) {
            let Taking {
                node,
                version,
                pool,
                width,
                ours,
                not_ready,
            } = taking;
            let is_it = |written: &&Written| written.node == node && written.version >= version;
            let sent = self
                .written
                .iter()
                .find(is_it)
                .map(|written| written.sent_ms);
            let known = not_ready
                .into_iter()
                .filter(|(_, since)| sent.is_none_or(|sent| since.saturating_add(notice) <= sent));
            let away: Vec<String> = ours
                .into_iter()
                .chain(known.map(|(name, _)| name))
                .collect();
            if away.len() > width {
                let what = format!(
                    "{node} was taken with {} nodes of pool {pool} away, {width} may be: {away:?}",
                    away.len()
                );
                self.broken("I2", version, what);
            }
        }
    }

    /// I3, I6: a kubelet has changed.
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
        let taken = self.taken.get(&node_name).copied().unwrap_or(u64::MAX);
        let came_back = |pod: &Value| {
            let arrived = self.arrived.get(uid(pod)).copied().unwrap_or(0);
            tolerates_cordon(pod) && arrived > taken
        };
        let left: Vec<String> = self
            .state
            .all("Pod")
            .filter(|pod| crate::object::node_name(pod) == node_name)
            .filter(|pod| is_evictable(pod) && !came_back(pod))
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
            return CONTROL_PLANE.to_owned();
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
