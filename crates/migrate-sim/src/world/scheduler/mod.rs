//! The scheduler: every pending pod gets the best node that it fits on.

mod filter;
mod nodes;
mod requirements;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use self::filter::Neighbours;
use self::nodes::Nodes;
pub(crate) use self::requirements::NodeTerm;
use self::requirements::Requirements;
use super::context::Context;
use super::index::claims_of;
use super::volumes::SELECTED_NODE;
use super::work::{Key, Timer, Work};
use crate::object::{
    Condition, at, int_at, is_finished, is_terminating, node_name, set_at, set_condition, str_at,
};
use crate::store::{Change, ChangeKind, Object, Resource};

/// Places pods on nodes.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    nodes: Nodes,
    /// Pods to place, by priority, then by age.
    pending: BTreeMap<Turn, Key>,
    /// Pods that fitted nowhere, with the moment from which they may try again.
    waiting: BTreeMap<Key, Waiting>,
    /// Something has changed that may let a waiting pod fit.
    has_news: bool,
    /// Where the search for the next pod begins, so that large clusters fill evenly.
    start: String,
}

/// A pod's place in the queue: higher priority first, then the order of creation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    priority: Reverse<i64>,
    created: String,
    uid: String,
}

#[derive(Debug)]
struct Waiting {
    not_before: u64,
    attempts: u32,
}

impl Turn {
    fn of(pod: &Object) -> Self {
        Self {
            priority: Reverse(priority(&pod.json)),
            created: str_at(&pod.json, &["metadata", "creationTimestamp"]).to_owned(),
            uid: pod.uid().to_owned(),
        }
    }
}

impl Scheduler {
    /// Takes a change in; cheap, nothing is placed yet.
    pub(crate) fn apply(&mut self, change: &Change) {
        let object = &change.object;
        let is_gone = change.kind == ChangeKind::Deleted;
        if object.resource == Resource::PODS {
            self.has_news |= self.nodes.pod_changed(object, is_gone);
            self.enqueue(object, is_gone);
        } else if object.resource == Resource::NODES {
            self.has_news |= self.nodes.node_changed(object, is_gone);
        } else if object.resource == Resource::PERSISTENT_VOLUMES
            || object.resource == Resource::PERSISTENT_VOLUME_CLAIMS
        {
            self.has_news = true;
        }
    }

    /// Waiting pods may try again: the timer for their pause is over.
    pub(crate) fn pause_is_over(&mut self) {
        self.has_news = true;
    }

    /// Places what can be placed. Returns whether anything was tried.
    pub(crate) fn run(&mut self, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.has_news) {
            self.wake(cx);
        }
        let Some((_, key)) = self.pending.pop_first() else {
            return false;
        };
        if let Some(pod) = cx.get(Resource::PODS, &key)
            && needs_place(&pod.json)
        {
            self.place(cx, pod);
        }
        true
    }

    fn enqueue(&mut self, pod: &Arc<Object>, is_gone: bool) {
        let key = Key::of(pod);
        if is_gone || !needs_place(&pod.json) {
            self.waiting.remove(&key);
            return;
        }
        if !self.waiting.contains_key(&key) {
            self.pending.insert(Turn::of(pod), key);
        }
    }

    /// Moves waiting pods back into the queue, those in their pause later.
    fn wake(&mut self, cx: &mut Context<'_>) {
        let mut next = None;
        let mut ready = Vec::new();
        for (key, waiting) in &self.waiting {
            if waiting.not_before <= cx.now {
                ready.push(key.clone());
            } else {
                next = Some(next.unwrap_or(waiting.not_before).min(waiting.not_before));
            }
        }
        if let Some(at) = next {
            cx.timers.set(at, Timer::Schedule);
        }
        for key in ready {
            let Some(pod) = cx.get(Resource::PODS, &key) else {
                continue;
            };
            self.pending.insert(Turn::of(&pod), key);
        }
    }

    fn place(&mut self, cx: &mut Context<'_>, pod: Arc<Object>) {
        let key = Key::of(&pod);
        let pod = Requirements::of(pod);
        let outcome =
            volume_terms(cx, &pod.pod.json).and_then(|volumes| self.choose(&pod, &volumes));
        match outcome {
            Ok(node) => {
                self.waiting.remove(&key);
                bind(cx, &key, &pod.pod, &node);
            }
            Err(message) => self.postpone(cx, &key, &message),
        }
    }

    /// The best node, or why there is none.
    fn choose(&mut self, pod: &Requirements, volumes: &[Vec<NodeTerm>]) -> Result<String, String> {
        let neighbours = Neighbours::of(pod, &self.nodes);
        let enough = sample_size(self.nodes.len());
        let mut misfits: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut best: Option<(i64, &str)> = None;
        let mut feasible = 0;
        let mut next = None;
        let named = pod.named_nodes();
        let candidates: Box<dyn Iterator<Item = (&str, &nodes::Node)>> = match &named {
            Some(names) => Box::new(
                names
                    .iter()
                    .filter_map(|name| Some((*name, self.nodes.get(name)?))),
            ),
            None => Box::new(self.nodes.from(&self.start)),
        };
        for (name, node) in candidates {
            if feasible == enough {
                next = Some(name.to_owned());
                break;
            }
            if let Some(reason) = filter::misfit(pod, volumes, &neighbours, node) {
                *misfits.entry(reason).or_default() += 1;
                continue;
            }
            feasible += 1;
            let score = filter::score(pod, node, &self.nodes);
            // Equal nodes: the first by name, whatever the search began with.
            if best.is_none_or(|(top, top_name)| (score, top_name) > (top, name)) {
                best = Some((score, name));
            }
        }
        let found = best.map(|(_, name)| name.to_owned());
        if let Some(next) = next {
            self.start = next;
        }
        found.ok_or_else(|| {
            let reasons: Vec<String> = misfits
                .iter()
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            format!(
                "0/{} nodes are available: {}.",
                self.nodes.len(),
                reasons.join(", ")
            )
        })
    }

    fn postpone(&mut self, cx: &mut Context<'_>, key: &Key, message: &str) {
        let attempts = self.waiting.get(key).map_or(0, |waiting| waiting.attempts) + 1;
        let pause_seconds = 1_u64 << (attempts - 1).min(3);
        self.waiting.insert(
            key.clone(),
            Waiting {
                not_before: cx.now + pause_seconds * 1000,
                attempts,
            },
        );
        let now = cx.now;
        let refused = Condition::new("PodScheduled", "False").because("Unschedulable", message);
        cx.modify(Resource::PODS, key, |pod| set_condition(pod, refused, now));
    }
}

fn needs_place(pod: &Value) -> bool {
    node_name(pod).is_empty() && !is_terminating(pod) && !is_finished(pod) && {
        let scheduler = str_at(pod, &["spec", "schedulerName"]);
        matches!(scheduler, "" | "default-scheduler")
    }
}

fn priority(pod: &Value) -> i64 {
    int_at(pod, &["spec", "priority"]).unwrap_or_else(|| {
        match str_at(pod, &["spec", "priorityClassName"]) {
            "system-node-critical" => 2_000_001_000,
            "system-cluster-critical" => 2_000_000_000,
            _ => 0,
        }
    })
}

/// How many feasible nodes are enough: all of a small cluster, a share of a large one.
fn sample_size(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(100)
}

fn bind(cx: &mut Context<'_>, key: &Key, pod: &Object, node: &str) {
    for claim in claims_of(&pod.json) {
        if cx.index.volume_of(&claim).is_none() {
            cx.modify(Resource::PERSISTENT_VOLUME_CLAIMS, &claim, |claim| {
                set_at(claim, &["metadata", "annotations", SELECTED_NODE], node);
            });
            cx.queue.insert(Work::Claim(claim));
        }
    }
    let now = cx.now;
    cx.modify(Resource::PODS, key, |pod| {
        set_at(pod, &["spec", "nodeName"], node);
        set_condition(pod, Condition::new("PodScheduled", "True"), now);
    });
}

/// Where the pod's volumes are: node terms of every bound volume.
///
/// # Errors
/// The reason why the pod cannot be placed at all yet.
fn volume_terms(cx: &Context<'_>, pod: &Value) -> Result<Vec<Vec<NodeTerm>>, String> {
    let mut all = Vec::new();
    for claim in claims_of(pod) {
        let Some(object) = cx.get(Resource::PERSISTENT_VOLUME_CLAIMS, &claim) else {
            return Err(format!("persistentvolumeclaim {:?} not found", claim.name));
        };
        let volume = cx
            .index
            .volume_of(&claim)
            .and_then(|name| cx.get_global(Resource::PERSISTENT_VOLUMES, name));
        let Some(volume) = volume else {
            if waits_for_pod(cx, &object) {
                continue;
            }
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        };
        if let Some(terms) = at(
            &volume.json,
            &["spec", "nodeAffinity", "required", "nodeSelectorTerms"],
        ) {
            all.push(NodeTerm::parse_all(terms));
        }
    }
    Ok(all)
}

fn waits_for_pod(cx: &Context<'_>, claim: &Object) -> bool {
    let class = cx.get_global(
        Resource::STORAGE_CLASSES,
        str_at(&claim.json, &["spec", "storageClassName"]),
    );
    class.is_some_and(|class| {
        str_at(&class.json, &["volumeBindingMode"]) == "WaitForFirstConsumer"
            && str_at(&class.json, &["provisioner"]) != super::volumes::NO_PROVISIONER
    })
}
