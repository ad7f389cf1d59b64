//! Pods of controllers that show only in the owner references of their pods.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::object::{controller_of, is_finished, is_terminating, str_at, uid};

/// Kinds of owners without a group that are none of these: a node, and those
/// whose group was left out.
const KNOWN: [&str; 5] = ["DaemonSet", "Job", "Node", "ReplicaSet", "StatefulSet"];

/// Such pods by the uid of their owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Owned {
    owners: BTreeMap<String, Pods>,
}

#[derive(Clone, Debug, Default)]
struct Pods {
    /// Neither terminating nor finished now.
    uids: BTreeSet<String>,
    /// The most there ever were.
    most: usize,
}

impl Owned {
    pub(super) fn seen(&mut self, pod: &Value) {
        if !has_foreign_owner(pod) {
            return;
        }
        if is_terminating(pod) || is_finished(pod) {
            return self.left(pod);
        }
        let pods = self.owners.entry(owner(pod).to_owned()).or_default();
        pods.uids.insert(uid(pod).to_owned());
        pods.most = pods.most.max(pods.uids.len());
    }

    pub(super) fn left(&mut self, pod: &Value) {
        if let Some(pods) = self.owners.get_mut(owner(pod)) {
            pods.uids.remove(uid(pod));
        }
    }

    pub(super) fn most(&self, owner: &str) -> usize {
        self.owners.get(owner).map_or(0, |pods| pods.most)
    }
}

/// Whether the pod is kept running by a controller that is none of `apps` and
/// `batch`, nor its node.
pub(super) fn has_foreign_owner(pod: &Value) -> bool {
    let Some(owner) = controller_of(pod) else {
        return false;
    };
    let is_kept = matches!(str_at(pod, &["spec", "restartPolicy"]), "" | "Always");
    let group = str_at(owner, &["apiVersion"]).split_once('/');
    let is_known = match group.map_or("", |(group, _)| group) {
        "apps" | "batch" => true,
        "" => KNOWN.contains(&str_at(owner, &["kind"])),
        _ => false,
    };
    is_kept && !is_known
}

fn owner(pod: &Value) -> &str {
    controller_of(pod).map_or("", |owner| str_at(owner, &["uid"]))
}
