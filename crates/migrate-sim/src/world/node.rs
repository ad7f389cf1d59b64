//! Node lifecycle: taints that follow the node's state, pods evicted by taint.

use serde_json::{Value, json};

use super::context::Context;
use super::kubelet::Kubelets;
use super::settings::millis;
use super::work::{Key, Work};
use crate::object::{
    Condition, array_at, bool_at, condition, is_finished, is_ready, is_terminating, items_at,
    parse_timestamp, remove_at, set_condition, str_at, timestamp,
};
use crate::store::Resource;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Looks at one node.
pub(crate) fn sync(cx: &mut Context<'_>, kubelets: &Kubelets, name: &str) {
    let key = Key::global(name);
    if cx.get(Resource::NODES, &key).is_none() {
        remove_pods_of(cx, name);
        return;
    }
    mark_silent(cx, kubelets, &key);
    let now = cx.now;
    let Some(node) = cx.modify(Resource::NODES, &key, |node| set_taints(node, now)) else {
        return;
    };
    mark_pods_unready(cx, &node.json);
    evict_by_taint(cx, &node.json);
}

/// A node without heartbeat for the grace time is no longer known to be ready.
fn mark_silent(cx: &mut Context<'_>, kubelets: &Kubelets, key: &Key) {
    if kubelets.is_heard(&key.name) {
        return;
    }
    let lease = cx.get(
        Resource::LEASES,
        &Key::new("kube-node-lease", key.name.as_str()),
    );
    let heard =
        lease.and_then(|lease| parse_timestamp(str_at(&lease.json, &["spec", "renewTime"])));
    let silent_at = heard.unwrap_or_default() + millis(cx.settings.times.node_monitor_grace);
    if cx.now < silent_at {
        cx.again_at(silent_at, Work::Node(key.name.clone()));
        return;
    }
    let now = cx.now;
    let message = "Kubelet stopped posting node status.";
    let unknown = Condition::new("Ready", "Unknown").because("NodeStatusUnknown", message);
    cx.modify(Resource::NODES, key, |node| {
        set_condition(node, unknown, now)
    });
}

/// Makes the taints of the node follow its cordon and its Ready condition.
fn set_taints(node: &mut Value, now: u64) {
    let ready = condition(node, "Ready").map_or("Unknown", |ready| str_at(ready, &["status"]));
    let wanted = [
        (
            UNSCHEDULABLE,
            "NoSchedule",
            bool_at(node, &["spec", "unschedulable"]),
        ),
        (NOT_READY, "NoSchedule", ready == "False"),
        (NOT_READY, "NoExecute", ready == "False"),
        (UNREACHABLE, "NoSchedule", ready == "Unknown"),
        (UNREACHABLE, "NoExecute", ready == "Unknown"),
    ];
    let is = |taint: &Value, key: &str, effect: &str| {
        str_at(taint, &["key"]) == key && str_at(taint, &["effect"]) == effect
    };
    for (key, effect, is_wanted) in wanted {
        let there = items_at(node, &["spec", "taints"])
            .iter()
            .any(|taint| is(taint, key, effect));
        if is_wanted && !there {
            let mut taint = json!({"key": key, "effect": effect});
            if key != UNSCHEDULABLE {
                crate::object::set_at(&mut taint, &["timeAdded"], timestamp(now));
            }
            array_at(node, &["spec", "taints"]).push(taint);
        } else if !is_wanted && there {
            array_at(node, &["spec", "taints"]).retain(|taint| !is(taint, key, effect));
        }
    }
    if items_at(node, &["spec", "taints"]).is_empty() {
        remove_at(node, &["spec", "taints"]);
    }
}

/// After the grace time the pods of a node that is not ready do not count as
/// ready; they run on, and their kubelet takes the mark back.
fn mark_pods_unready(cx: &mut Context<'_>, node: &Value) {
    let name = crate::object::name(node);
    if is_ready(node) {
        return;
    }
    let Some(ready) = condition(node, "Ready") else {
        return;
    };
    let is_unknown = str_at(ready, &["status"]) == "Unknown";
    let since = parse_timestamp(str_at(ready, &["lastTransitionTime"])).unwrap_or_default();
    let mark_at = since + millis(cx.settings.times.node_monitor_grace);
    if !is_unknown && cx.now < mark_at {
        cx.again_at(mark_at, Work::Node(name.to_owned()));
        return;
    }
    let pods: Vec<Key> = cx
        .store
        .pods_on(name)
        .filter(|pod| is_ready(&pod.json))
        .map(|pod| Key::of(pod))
        .collect();
    let now = cx.now;
    let unready = Condition::new("Ready", "False").because("NodeNotReady", "the node is not ready");
    for pod in pods {
        cx.modify(Resource::PODS, &pod, |pod| set_condition(pod, unready, now));
    }
}

/// Deletes pods that do not tolerate a NoExecute taint, or no longer do.
fn evict_by_taint(cx: &mut Context<'_>, node: &Value) {
    let name = crate::object::name(node).to_owned();
    let taints: Vec<&Value> = items_at(node, &["spec", "taints"])
        .iter()
        .filter(|taint| str_at(taint, &["effect"]) == "NoExecute")
        .collect();
    if taints.is_empty() {
        return;
    }
    let mut due = Vec::new();
    let mut next = None;
    for pod in cx.store.pods_on(&name) {
        if is_terminating(&pod.json) || is_finished(&pod.json) {
            continue;
        }
        let tolerations = items_at(&pod.json, &["spec", "tolerations"]);
        match taints
            .iter()
            .filter_map(|taint| evicted_at(taint, tolerations, cx.now))
            .min()
        {
            Some(at) if at <= cx.now => due.push(Key::of(pod)),
            Some(at) => next = Some(next.unwrap_or(at).min(at)),
            None => {}
        }
    }
    if let Some(at) = next {
        cx.again_at(at, Work::Node(name));
    }
    for pod in due {
        let now = cx.now;
        let message = "Taint manager: deleting due to NoExecute taint";
        let target =
            Condition::new("DisruptionTarget", "True").because("DeletionByTaintManager", message);
        cx.modify(Resource::PODS, &pod, |pod| set_condition(pod, target, now));
        cx.delete(Resource::PODS, &pod);
    }
}

/// When a taint ends a pod with these tolerations; `None` when it never does.
fn evicted_at(taint: &Value, tolerations: &[Value], now: u64) -> Option<u64> {
    let added = parse_timestamp(str_at(taint, &["timeAdded"])).unwrap_or(now);
    let mut limits = tolerations
        .iter()
        .filter(|toleration| tolerates(toleration, taint))
        .map(|toleration| crate::object::int_at(toleration, &["tolerationSeconds"]))
        .peekable();
    if limits.peek().is_none() {
        return Some(now);
    }
    let shortest = limits.flatten().min()?;
    Some(
        added
            + u64::try_from(shortest)
                .unwrap_or_default()
                .saturating_mul(1000),
    )
}

/// Whether one toleration covers one taint.
pub(crate) fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let field = |key| str_at(toleration, &[key]);
    let effect_fits = field("effect").is_empty() || field("effect") == str_at(taint, &["effect"]);
    let key_fits = match field("key") {
        "" => field("operator") == "Exists",
        key => key == str_at(taint, &["key"]),
    };
    effect_fits
        && key_fits
        && (field("operator") == "Exists" || field("value") == str_at(taint, &["value"]))
}

/// Pods of a node that no longer exists go at once: nobody is left to end them.
fn remove_pods_of(cx: &mut Context<'_>, node: &str) {
    let pods: Vec<Key> = cx.store.pods_on(node).map(|pod| Key::of(pod)).collect();
    for pod in pods {
        cx.remove(Resource::PODS, &pod);
    }
}
