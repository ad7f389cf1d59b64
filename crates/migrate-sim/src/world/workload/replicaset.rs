//! ReplicaSets and ReplicationControllers: as many pods as asked for.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Readiness, active_pods, pod_from_template, replicas_of, set_counts};
use crate::object::{is_ready, is_terminating, node_name, phase, set_at, str_at};
use crate::store::{Object, Resource};
use crate::world::context::Context;
use crate::world::work::{Key, Work};

/// Looks at one ReplicaSet or ReplicationController.
pub(crate) fn sync(cx: &mut Context<'_>, resource: &'static Resource, key: &Key) {
    let Some(set) = cx.get(resource, key) else {
        return;
    };
    if !is_terminating(&set.json) {
        scale(cx, &set);
    }
    let pods = active_pods(cx, set.uid());
    let readiness = Readiness::of(pods.iter().map(|pod| &pod.json), &set.json, cx.now);
    if let Some(at) = readiness.next_at {
        let again = match resource == Resource::REPLICA_SETS {
            true => Work::ReplicaSet(key.clone()),
            false => Work::ReplicationController(key.clone()),
        };
        cx.again_at(at, again);
    }
    let count = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    let generation = set.generation();
    cx.modify(resource, key, |set| {
        set_counts(
            set,
            &[
                ("replicas", count),
                ("fullyLabeledReplicas", count),
                ("readyReplicas", readiness.ready),
                ("availableReplicas", readiness.available),
            ],
        );
        set_at(set, &["status", "observedGeneration"], generation);
    });
}

fn scale(cx: &mut Context<'_>, set: &Object) {
    let mut pods = active_pods(cx, set.uid());
    let wanted = usize::try_from(replicas_of(&set.json)).unwrap_or_default();
    for _ in pods.len()..wanted {
        let mut pod = pod_from_template(set);
        set_at(
            &mut pod,
            &["metadata", "generateName"],
            format!("{}-", set.name),
        );
        if cx.create(Resource::PODS, pod).is_none() {
            return;
        }
    }
    if pods.len() > wanted {
        pods.sort_by_cached_key(deletion_rank);
        for pod in pods.drain(..pods.len() - wanted) {
            cx.delete(Resource::PODS, &Key::of(&pod));
        }
    }
}

/// Which pod goes first: unscheduled, pending, unready, then the youngest.
fn deletion_rank(pod: &Arc<Object>) -> (bool, bool, bool, Reverse<String>, String) {
    let created = str_at(&pod.json, &["metadata", "creationTimestamp"]).to_owned();
    (
        !node_name(&pod.json).is_empty(),
        phase(&pod.json) == "Running",
        is_ready(&pod.json),
        Reverse(created),
        pod.name.clone(),
    )
}
