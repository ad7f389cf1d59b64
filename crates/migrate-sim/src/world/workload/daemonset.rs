//! DaemonSets: one pod on every node that wants it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Readiness, available_at, pod_from_template, recorded, set_counts, template_hash};
use crate::object::{
    at, bool_at, int_at, int_or_percent, is_finished, is_terminating, items_at, label, labels,
    set_at, str_at,
};
use crate::selector::Selector;
use crate::store::{Object, Resource};
use crate::world::context::Context;
use crate::world::node::tolerates;
use crate::world::scheduler::NodeTerm;
use crate::world::work::{Key, Work};

const HASH_LABEL: &str = "controller-revision-hash";

/// Looks at one DaemonSet.
pub(crate) fn sync(cx: &mut Context<'_>, key: &Key) {
    let Some(set) = cx.get(Resource::DAEMON_SETS, key) else {
        return;
    };
    let recorded = recorded(cx, &set);
    let hash = recorded.and_then(|revision| revision.label(HASH_LABEL).map(str::to_owned));
    let hash = hash.unwrap_or_else(|| template_hash(&set));
    let nodes: Vec<Arc<Object>> = cx.store.list(Resource::NODES, None).cloned().collect();
    let wishes = Wishes::of(&set);
    if !is_terminating(&set.json) {
        place(cx, &set, &wishes, &nodes, &hash);
        update(
            cx,
            &set,
            &hash,
            nodes.iter().filter(|node| wishes.fits(node)).count(),
        );
    }
    write_status(cx, &set, &wishes, &nodes, &hash);
}

/// Which nodes a DaemonSet wants a pod on.
struct Wishes {
    selector: Option<Selector>,
    terms: Option<Vec<NodeTerm>>,
    tolerations: Vec<Value>,
}

impl Wishes {
    fn of(set: &Object) -> Self {
        let spec = &set.json["spec"]["template"]["spec"];
        let selector = at(spec, &["nodeSelector"])
            .filter(|map| map.as_object().is_some_and(|map| !map.is_empty()));
        let path = [
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
            "nodeSelectorTerms",
        ];
        Self {
            selector: selector.map(|map| Selector::from_map(Some(map))),
            terms: at(spec, &path).map(NodeTerm::parse_all),
            tolerations: tolerations(spec),
        }
    }

    /// Whether the node is meant at all, whatever its taints.
    fn fits(&self, node: &Object) -> bool {
        self.selector
            .as_ref()
            .is_none_or(|selector| selector.matches(labels(&node.json)))
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(&node.json)))
            && self.tolerates(node, &["NoExecute"])
    }

    /// Whether a new pod may be placed there now.
    fn may_start(&self, node: &Object) -> bool {
        self.fits(node) && self.tolerates(node, &["NoSchedule", "NoExecute"])
    }

    fn tolerates(&self, node: &Object, effects: &[&str]) -> bool {
        items_at(&node.json, &["spec", "taints"])
            .iter()
            .filter(|taint| effects.contains(&str_at(taint, &["effect"])))
            .all(|taint| {
                self.tolerations
                    .iter()
                    .any(|toleration| tolerates(toleration, taint))
            })
    }
}

fn place(cx: &mut Context<'_>, set: &Object, wishes: &Wishes, nodes: &[Arc<Object>], hash: &str) {
    let mut by_node = pods_by_node(cx, set);
    for node in nodes {
        let mut pods = by_node.remove(&node.name).unwrap_or_default();
        pods.sort_by(|a, b| creation(a).cmp(&creation(b)));
        for pod in pods
            .iter()
            .filter(|pod| is_finished(&pod.json) && !is_terminating(&pod.json))
        {
            cx.delete(Resource::PODS, &Key::of(pod));
        }
        let mut live = pods
            .iter()
            .filter(|pod| !is_terminating(&pod.json) && !is_finished(&pod.json));
        let keeper = live.next();
        let surplus: Vec<Key> = match keeper {
            Some(pod) if !wishes.fits(node) => vec![Key::of(pod)],
            _ => Vec::new(),
        };
        let surplus = surplus
            .into_iter()
            .chain(live.map(|pod| Key::of(pod)))
            .collect::<Vec<_>>();
        for pod in surplus {
            cx.delete(Resource::PODS, &pod);
        }
        // The old pod must be gone before its successor starts on the node.
        if pods.is_empty() && wishes.may_start(node) {
            create_pod(cx, set, &node.name, hash);
        }
    }
    for pod in by_node
        .into_values()
        .flatten()
        .filter(|pod| !is_terminating(&pod.json))
    {
        cx.delete(Resource::PODS, &Key::of(&pod));
    }
}

/// Replaces pods of an older template, a few at a time.
fn update(cx: &mut Context<'_>, set: &Object, hash: &str, desired: usize) {
    if str_at(&set.json, &["spec", "updateStrategy", "type"]) == "OnDelete" {
        return;
    }
    let desired = i64::try_from(desired).unwrap_or(i64::MAX);
    let limit = at(
        &set.json,
        &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"],
    )
    .and_then(|value| int_or_percent(value, desired, true))
    .unwrap_or(1)
    .max(1);
    let min_ready = int_at(&set.json, &["spec", "minReadySeconds"]).unwrap_or_default();
    let is_available =
        |pod: &Object| available_at(&pod.json, min_ready).is_some_and(|at| at <= cx.now);
    let pods: Vec<Arc<Object>> = cx
        .pods_of(set.uid())
        .into_iter()
        .filter(|pod| !is_terminating(&pod.json))
        .collect();
    let available = pods.iter().filter(|pod| is_available(pod)).count();
    let mut room = limit - (desired - i64::try_from(available).unwrap_or(i64::MAX));
    let mut going = Vec::new();
    for pod in pods
        .iter()
        .filter(|pod| label(&pod.json, HASH_LABEL) != Some(hash))
    {
        if !is_available(pod) {
            going.push(Key::of(pod));
        } else if room > 0 {
            room -= 1;
            going.push(Key::of(pod));
        }
    }
    for pod in going {
        cx.delete(Resource::PODS, &pod);
    }
}

fn create_pod(cx: &mut Context<'_>, set: &Object, node: &str, hash: &str) {
    let mut pod = pod_from_template(set);
    set_at(
        &mut pod,
        &["metadata", "generateName"],
        format!("{}-", set.name),
    );
    set_at(&mut pod, &["metadata", "labels", HASH_LABEL], hash);
    let tolerations = tolerations(&pod["spec"]);
    set_at(&mut pod, &["spec", "tolerations"], tolerations);
    let only =
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    let path = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    set_at(&mut pod, &path, only);
    cx.create(Resource::PODS, pod);
}

/// Tolerations of the template and those that every DaemonSet pod has.
fn tolerations(spec: &Value) -> Vec<Value> {
    let mut all = items_at(spec, &["tolerations"]).to_vec();
    let mut add = |key: &str, effect: &str| {
        all.push(json!({"key": key, "operator": "Exists", "effect": effect}))
    };
    add("node.kubernetes.io/not-ready", "NoExecute");
    add("node.kubernetes.io/unreachable", "NoExecute");
    for pressure in ["disk-pressure", "memory-pressure", "pid-pressure"] {
        add(&format!("node.kubernetes.io/{pressure}"), "NoSchedule");
    }
    add("node.kubernetes.io/unschedulable", "NoSchedule");
    if bool_at(spec, &["hostNetwork"]) {
        add("node.kubernetes.io/network-unavailable", "NoSchedule");
    }
    all
}

fn write_status(
    cx: &mut Context<'_>,
    set: &Object,
    wishes: &Wishes,
    nodes: &[Arc<Object>],
    hash: &str,
) {
    let by_node = pods_by_node(cx, set);
    let (mut desired, mut current, mut misplaced, mut updated) = (0, 0, 0, 0);
    let mut placed = Vec::new();
    for node in nodes {
        let live = by_node
            .get(&node.name)
            .into_iter()
            .flatten()
            .find(|pod| !is_terminating(&pod.json));
        match (wishes.fits(node), live) {
            (true, Some(pod)) => {
                desired += 1;
                current += 1;
                updated += i64::from(label(&pod.json, HASH_LABEL) == Some(hash));
                placed.push(&pod.json);
            }
            (true, None) => desired += 1,
            (false, Some(_)) => misplaced += 1,
            (false, None) => {}
        }
    }
    let readiness = Readiness::of(placed, &set.json, cx.now);
    if let Some(at) = readiness.next_at {
        cx.again_at(at, Work::DaemonSet(Key::of(set)));
    }
    let generation = set.generation();
    cx.modify(Resource::DAEMON_SETS, &Key::of(set), |set| {
        set_counts(
            set,
            &[
                ("desiredNumberScheduled", desired),
                ("currentNumberScheduled", current),
                ("numberMisscheduled", misplaced),
                ("numberReady", readiness.ready),
                ("numberAvailable", readiness.available),
                ("numberUnavailable", desired - readiness.available),
                ("updatedNumberScheduled", updated),
            ],
        );
        set_at(set, &["status", "observedGeneration"], generation);
    });
}

/// Pods by the node that they are on or meant for.
fn pods_by_node(cx: &Context<'_>, set: &Object) -> BTreeMap<String, Vec<Arc<Object>>> {
    let mut by_node: BTreeMap<String, Vec<Arc<Object>>> = BTreeMap::new();
    for pod in cx.pods_of(set.uid()) {
        let node = match pod.node_name() {
            "" => target(&pod.json),
            node => node,
        };
        by_node.entry(node.to_owned()).or_default().push(pod);
    }
    by_node
}

/// The node that an unscheduled pod is meant for.
fn target(pod: &Value) -> &str {
    pod.pointer(
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0",
    )
    .and_then(Value::as_str)
    .unwrap_or_default()
}

fn creation(pod: &Object) -> (&str, &str) {
    (
        str_at(&pod.json, &["metadata", "creationTimestamp"]),
        pod.name.as_str(),
    )
}
