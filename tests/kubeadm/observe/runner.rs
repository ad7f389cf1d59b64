//! Where the pods of a runner inside the cluster were, and what became of their nodes
//! meanwhile: a fold over what watches have shown.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::real::cluster::text;
use crate::real::observer::Change;
use crate::shop::{app, is_finished};

/// What was seen of a runner.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    /// Its pods, in the order in which they came to a node.
    pub(crate) stays: Vec<Stay>,
    /// Nodes in the order in which their kubelets became others.
    pub(crate) changed: Vec<String>,
    /// What was not to happen.
    pub(crate) broken: Vec<String>,
}

/// A pod of the runner on a node.
#[derive(Debug, PartialEq)]
pub(crate) struct Stay {
    pub(crate) pod: String,
    pub(crate) node: String,
    /// Its node was cordoned while it ran there.
    pub(crate) cordoned: bool,
    /// With what it ended, once it has.
    pub(crate) exit: Option<i64>,
    /// Whether it still runs.
    runs: bool,
    uid: String,
}

/// What a node shows.
#[derive(Clone)]
struct Seen {
    cordoned: bool,
    kubelet: String,
}

impl Runner {
    /// `changes` in the order of the API server's log; the runner's pods are those of
    /// `label`, and kubelets are to come to `target`.
    pub(crate) fn of(changes: &[Change], label: &str, target: &str) -> Self {
        let (mut runner, mut nodes) = (Self::default(), BTreeMap::new());
        for Change {
            kind,
            object,
            deleted,
            ..
        } in changes
        {
            match *kind {
                "Node" if !deleted => runner.node(object, &mut nodes, target),
                "Pod" if app(object) == label => runner.pod(object, *deleted, &nodes),
                _ => {}
            }
        }
        runner
    }

    fn pod(&mut self, pod: &Value, deleted: bool, nodes: &BTreeMap<String, Seen>) {
        let Some(node) = pod["spec"]["nodeName"].as_str() else {
            return;
        };
        let uid = text(&pod["metadata"]["uid"]);
        if !self.stays.iter().any(|stay| stay.uid == uid) {
            if nodes.get(node).is_some_and(|seen| seen.cordoned) {
                let broken = format!("it came to {node}, which was cordoned");
                self.broken.push(broken);
            }
            if let Some(other) = self.stays.iter().find(|stay| stay.runs) {
                self.broken.push(format!("{} still ran", other.pod));
            }
            self.stays.push(Stay {
                pod: text(&pod["metadata"]["name"]),
                node: node.to_owned(),
                cordoned: false,
                exit: None,
                runs: true,
                uid: uid.clone(),
            });
        }
        let Some(stay) = self.stays.iter_mut().find(|stay| stay.uid == uid) else {
            return;
        };
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        stay.exit = ended["exitCode"].as_i64().or(stay.exit);
        stay.runs &= !deleted && !is_finished(pod);
    }

    fn node(&mut self, node: &Value, nodes: &mut BTreeMap<String, Seen>, target: &str) {
        let name = text(&node["metadata"]["name"]);
        let now = Seen {
            cordoned: node["spec"]["unschedulable"] == true,
            kubelet: text(&node["status"]["nodeInfo"]["kubeletVersion"]),
        };
        let before = nodes.insert(name.clone(), now.clone());
        let Some(before) = before else {
            return;
        };
        let becomes_another = before.kubelet != now.kubelet;
        if becomes_another {
            self.changed.push(name.clone());
        }
        let runs_here = |stay: &&mut Stay| stay.runs && stay.node == name;
        let Some(stay) = self.stays.iter_mut().find(runs_here) else {
            return;
        };
        if becomes_another {
            let broken = format!("{} ran on {name} when its kubelet changed", stay.pod);
            self.broken.push(broken);
        }
        if now.cordoned && !before.cordoned {
            stay.cordoned = true;
            // Every other one is done, and in use.
            let others = nodes.iter().filter(|(other, _)| **other != name);
            let left = others.filter(|(_, seen)| seen.cordoned || seen.kubelet != target);
            for (other, _) in left {
                let broken = format!("{name}, where it ran, was cordoned before {other} was done");
                self.broken.push(broken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(kind: &'static str, object: Value, deleted: bool) -> Change {
        Change {
            at: 0,
            kind,
            object,
            deleted,
        }
    }

    fn node(name: &str, kubelet: &str, cordoned: bool) -> Change {
        let object = json!({
            "metadata": {"name": name}, "spec": {"unschedulable": cordoned},
            "status": {"nodeInfo": {"kubeletVersion": kubelet}},
        });
        change("Node", object, false)
    }

    fn pod(name: &str, node: &str, exit: Option<i64>) -> Change {
        let (phase, state) = match exit {
            Some(code) => ("Failed", json!({"terminated": {"exitCode": code}})),
            None => ("Running", json!({"running": {}})),
        };
        let object = json!({
            "metadata": {"name": name, "uid": name, "labels": {"app": "runner"}},
            "spec": {"nodeName": node},
            "status": {"phase": phase, "containerStatuses": [{"state": state}]},
        });
        change("Pod", object, false)
    }

    fn seen(changes: &[Change]) -> Runner {
        Runner::of(changes, "runner", "new")
    }

    #[test]
    fn a_runner_that_moves_once_from_the_last_node_is_no_concern() {
        let runner = seen(&[
            node("a", "old", false),
            node("b", "old", false),
            pod("r-1", "a", None),
            node("b", "old", true),
            node("b", "new", true),
            node("b", "new", false),
            node("a", "old", true),
            pod("r-1", "a", Some(1)),
            pod("r-2", "b", None),
            node("a", "new", true),
            node("a", "new", false),
        ]);
        assert_eq!(runner.broken, Vec::<String>::new());
        assert_eq!(runner.changed, ["b", "a"]);
        let stays: Vec<_> = runner
            .stays
            .iter()
            .map(|stay| (&*stay.pod, &*stay.node, stay.cordoned, stay.exit))
            .collect();
        assert_eq!(
            stays,
            [("r-1", "a", true, Some(1)), ("r-2", "b", false, None)]
        );
    }

    #[test]
    fn one_on_a_node_in_flight_is_seen() {
        let first = || vec![node("a", "old", false), node("b", "old", false)];
        for (then, says) in [
            (
                vec![pod("r", "a", None), node("a", "new", false)],
                "changed",
            ),
            (
                vec![node("a", "old", true), pod("r", "a", None)],
                "it came to a",
            ),
            (
                vec![pod("r", "a", None), node("a", "old", true)],
                "before b was done",
            ),
            (
                vec![pod("r", "a", None), pod("s", "b", None)],
                "r still ran",
            ),
        ] {
            let runner = seen(&first().into_iter().chain(then).collect::<Vec<_>>());
            assert_eq!(runner.broken.len(), 1, "{:?}", runner.broken);
            assert!(runner.broken[0].contains(says), "{:?}", runner.broken);
        }
    }
}
