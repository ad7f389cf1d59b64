//! Which pods were moved, how often, and whether a start under way was thrown
//! away: a fold over what watches have shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::real::cluster::text;
use crate::real::observer::Change;
use crate::shop::{app, is_finished, is_ready};

/// What became of the pods of the shop.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Accepted evictions by workload.
    pub(crate) evictions: BTreeMap<String, u32>,
    /// Pods that were evicted before they had ever been Ready, but for those of
    /// Jobs, which the policy lets start anew at any time.
    pub(crate) thrown_away: Vec<String>,
    /// Nodes in the order of their cordons.
    pub(crate) cordoned: Vec<String>,
    /// Pods of each workload on the first worker when it was cordoned.
    twice: BTreeMap<String, u32>,
}

impl Moves {
    /// `changes` in the order of the API server's log.
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut moves = Self::default();
        let mut pods: BTreeMap<String, (&Value, bool)> = BTreeMap::new();
        let mut nodes: BTreeMap<String, bool> = BTreeMap::new();
        for change in changes {
            let object = &change.object;
            match (change.kind, change.deleted) {
                ("Pod", true) => {
                    if let Some((before, was_ready)) = pods.remove(&uid(object)) {
                        moves.pod_left(Some(before), object, was_ready);
                    }
                }
                ("Pod", false) => {
                    let (before, was_ready) = match pods.get(&uid(object)) {
                        Some((before, was_ready)) => (Some(*before), *was_ready),
                        None => (None, false),
                    };
                    moves.pod_left(before, object, was_ready);
                    pods.insert(uid(object), (object, was_ready || is_ready(object)));
                }
                ("Node", false) => {
                    let cordoned = object["spec"]["unschedulable"] == true;
                    if nodes.insert(text(&object["metadata"]["name"]), cordoned) == Some(false)
                        && cordoned
                    {
                        moves.cordoned(object, pods.values().map(|(pod, _)| *pod));
                    }
                }
                _ => {}
            }
        }
        moves
    }

    /// Evictions of a workload, and what they may be at most: its pods once,
    /// and those of the first worker, which move to where they have to leave
    /// again, twice.
    pub(crate) fn evictions_of(&self, workload: &str, pods: u32) -> (u32, u32) {
        let evictions = self.evictions.get(workload).copied().unwrap_or(0);
        let twice = self.twice.get(workload).copied().unwrap_or(0);
        (evictions, pods + twice)
    }

    /// The moment of an eviction: the first sight of a pod that is to go.
    fn pod_left(&mut self, before: Option<&Value>, pod: &Value, was_ready: bool) {
        let was_leaving = before.is_some_and(is_leaving);
        if was_leaving || !is_leaving(pod) || !is_evicted(pod) {
            return;
        }
        *self.evictions.entry(app(pod).to_owned()).or_default() += 1;
        if !was_ready && !is_finished(pod) && !is_of_job(pod) {
            let what = format!("{} {}", app(pod), text(&pod["metadata"]["name"]));
            self.thrown_away.push(what);
        }
    }

    fn cordoned<'a>(&mut self, node: &Value, pods: impl Iterator<Item = &'a Value>) {
        let is_member = "node-role.kubernetes.io/control-plane";
        let metadata = &node["metadata"];
        if !metadata["labels"][is_member].is_null() {
            return;
        }
        if self.cordoned.is_empty() {
            let here = pods.filter(|pod| pod["spec"]["nodeName"] == metadata["name"]);
            for pod in here.filter(|pod| is_ready(pod)) {
                *self.twice.entry(app(pod).to_owned()).or_default() += 1;
            }
        }
        self.cordoned.push(text(&metadata["name"]));
    }
}

/// The API server marks a pod whose eviction it accepts
/// (`EvictionByEvictionAPI`, pkg/registry/core/pod/storage/eviction.go).
fn is_evicted(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "DisruptionTarget" && condition["reason"] == "EvictionByEvictionAPI"
    })
}

fn is_leaving(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_of_job(pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner["kind"] == "Job")
}

fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

/// Uids of pods whose eviction was accepted.
pub(crate) fn evicted(changes: &[Change]) -> BTreeSet<String> {
    let pods = changes.iter().filter(|change| change.kind == "Pod");
    let evicted = pods.filter(|change| is_evicted(&change.object));
    evicted.map(|change| uid(&change.object)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(kind: &'static str, object: Value) -> Change {
        Change {
            at: 0,
            kind,
            object,
            deleted: false,
        }
    }

    fn pod(name: &str, node: &str, ready: bool, evicted: bool) -> Change {
        let mut conditions =
            vec![json!({"type": "Ready", "status": if ready { "True" } else { "False" }})];
        let mut metadata = json!({"name": name, "uid": name, "labels": {"app": "web"}});
        if evicted {
            conditions.push(json!({"type": "DisruptionTarget", "reason": "EvictionByEvictionAPI"}));
            metadata["deletionTimestamp"] = json!("2026-11-22T22:26:14Z");
        }
        change(
            "Pod",
            json!({
                "metadata": metadata, "spec": {"nodeName": node}, "status": {"conditions": conditions},
            }),
        )
    }

    fn node(name: &str, cordoned: bool) -> Change {
        change(
            "Node",
            json!({
                "metadata": {"name": name, "labels": {}}, "spec": {"unschedulable": cordoned},
            }),
        )
    }

    #[test]
    fn evictions_are_counted_once_and_a_start_thrown_away_is_seen() {
        let mut calm = vec![
            node("w1", false),
            node("w2", false),
            pod("a", "w1", true, false),
            pod("b", "w2", true, false),
            node("w1", true),
            pod("a", "w1", true, true),
            pod("a", "w1", false, true),
            pod("c", "w2", false, false),
            pod("c", "w2", true, false),
            node("w1", false),
            node("w2", true),
            pod("b", "w2", true, true),
            // Not Ready for a moment, but it had been.
            pod("c", "w2", false, false),
            pod("c", "w2", false, true),
        ];
        let moves = Moves::of(&calm);
        assert_eq!(moves.cordoned, ["w1", "w2"]);
        assert_eq!(moves.evictions_of("web", 2), (3, 3));
        assert!(moves.thrown_away.is_empty());

        calm.extend([pod("d", "w1", false, false), pod("d", "w1", false, true)]);
        let moves = Moves::of(&calm);
        assert_eq!(moves.evictions_of("web", 2), (4, 3));
        assert_eq!(moves.thrown_away, ["web d"]);
        assert_eq!(evicted(&calm).len(), 4);
    }
}
