//! Deployments: one ReplicaSet per version of the template, replaced step by step.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{is_same_template, pod_from_template, replicas_of, set_counts, template_hash};
use crate::object::{
    Condition, annotation, at, bool_at, int_at, int_or_percent, is_terminating, label,
    owner_reference, set_at, set_condition, str_at,
};
use crate::store::{Object, Resource};
use crate::world::context::Context;
use crate::world::work::Key;

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Looks at one Deployment.
pub(crate) fn sync(cx: &mut Context<'_>, key: &Key) {
    let Some(deployment) = cx.get(Resource::DEPLOYMENTS, key) else {
        return;
    };
    if is_terminating(&deployment.json) {
        return;
    }
    let hash = template_hash(&deployment);
    if !bool_at(&deployment.json, &["spec", "paused"]) {
        ensure_current(cx, &deployment, &hash);
    }
    let (current, old) = sets_of(cx, &deployment, &hash);
    if let Some(current) = &current {
        if str_at(&deployment.json, &["spec", "strategy", "type"]) == "Recreate" {
            recreate(cx, &deployment, current, &old);
        } else {
            roll(cx, &deployment, current, &old);
        }
    }
    clean_up(cx, &deployment, &old);
    write_status(cx, &deployment, &hash);
}

/// The ReplicaSet of the current template and those of older ones, oldest first.
fn sets_of(
    cx: &Context<'_>,
    deployment: &Object,
    hash: &str,
) -> (Option<Arc<Object>>, Vec<Arc<Object>>) {
    let mut sets: Vec<Arc<Object>> = cx
        .store
        .dependents(deployment.uid())
        .filter(|set| set.resource == Resource::REPLICA_SETS && !is_terminating(&set.json))
        .cloned()
        .collect();
    sets.sort_by_key(|set| (revision(&set.json), set.name.clone()));
    let wanted = &deployment.json["spec"]["template"];
    let current = sets
        .iter()
        .position(|set| label(&set.json, HASH_LABEL) == Some(hash))
        // The cluster may have been built with one that has another name.
        .or_else(|| {
            let mut sets = sets.iter();
            sets.rposition(|set| is_same_template(&set.json["spec"]["template"], wanted))
        });
    (current.map(|index| sets.remove(index)), sets)
}

fn ensure_current(cx: &mut Context<'_>, deployment: &Object, hash: &str) {
    let (current, old) = sets_of(cx, deployment, hash);
    let newest = old.last().map_or(0, |set| revision(&set.json));
    match current {
        // A template that was used before becomes the newest again.
        Some(set) if revision(&set.json) < newest => {
            cx.modify(Resource::REPLICA_SETS, &Key::of(&set), |set| {
                set_revision(set, newest + 1)
            });
        }
        Some(_) => {}
        None => create_set(cx, deployment, hash, newest + 1),
    }
}

fn create_set(cx: &mut Context<'_>, deployment: &Object, hash: &str, revision: i64) {
    let pod = pod_from_template(deployment);
    let mut labels = pod["metadata"]["labels"].clone();
    set_at(&mut labels, &[HASH_LABEL], hash);
    let mut selector = at(&deployment.json, &["spec", "selector"])
        .cloned()
        .unwrap_or_else(|| json!({}));
    set_at(&mut selector, &["matchLabels", HASH_LABEL], hash);
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "namespace": deployment.namespace, "name": format!("{}-{hash}", deployment.name), "labels": labels,
            "ownerReferences": [owner_reference("apps/v1", "Deployment", &deployment.json)],
        },
        "spec": {
            "replicas": 0, "selector": selector,
            "template": {
                "metadata": {"labels": labels, "annotations": pod["metadata"]["annotations"]},
                "spec": pod["spec"],
            },
        },
    });
    if let Some(seconds) = at(&deployment.json, &["spec", "minReadySeconds"]) {
        set_at(&mut set, &["spec", "minReadySeconds"], seconds.clone());
    }
    set_revision(&mut set, revision);
    cx.create(Resource::REPLICA_SETS, set);
}

/// One step of a rolling update; without older ReplicaSets just the scale.
fn roll(cx: &mut Context<'_>, deployment: &Object, current: &Object, old: &[Arc<Object>]) {
    let desired = replicas_of(&deployment.json);
    let limits = Limits::of(&deployment.json, desired);
    let old_replicas: i64 = old.iter().map(|set| replicas_of(&set.json)).sum();
    let own = replicas_of(&current.json);
    let room = (desired + limits.surge - own - old_replicas).max(0);
    let wanted = if own > desired {
        desired
    } else {
        own + room.min(desired - own)
    };
    set_scale(cx, current, wanted);

    let available =
        |set: &Object| int_at(&set.json, &["status", "availableReplicas"]).unwrap_or_default();
    let unavailable_of_current = (wanted - available(current)).max(0);
    let mut may_go =
        wanted + old_replicas - (desired - limits.unavailable) - unavailable_of_current;
    // Pods that serve nobody go first; they cost no availability.
    let mut sizes: Vec<i64> = old.iter().map(|set| replicas_of(&set.json)).collect();
    for (set, size) in old.iter().zip(&mut sizes) {
        let broken = (*size - available(set)).clamp(0, may_go.max(0));
        *size -= broken;
        may_go -= broken;
    }
    let all_available: i64 = available(current) + old.iter().map(|set| available(set)).sum::<i64>();
    let mut may_go = may_go.min(all_available - (desired - limits.unavailable));
    for size in &mut sizes {
        let going = (*size).clamp(0, may_go.max(0));
        *size -= going;
        may_go -= going;
    }
    for (set, size) in old.iter().zip(sizes) {
        set_scale(cx, set, size);
    }
}

fn recreate(cx: &mut Context<'_>, deployment: &Object, current: &Object, old: &[Arc<Object>]) {
    for set in old {
        set_scale(cx, set, 0);
    }
    let is_empty = old.iter().all(|set| cx.pods_of(set.uid()).is_empty());
    if is_empty {
        set_scale(cx, current, replicas_of(&deployment.json));
    }
}

/// Removes ReplicaSets beyond the history limit.
fn clean_up(cx: &mut Context<'_>, deployment: &Object, old: &[Arc<Object>]) {
    let limit = int_at(&deployment.json, &["spec", "revisionHistoryLimit"]).unwrap_or(10);
    let excess = old
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or_default());
    for set in old.iter().take(excess) {
        let is_empty = replicas_of(&set.json) == 0
            && int_at(&set.json, &["status", "replicas"]).unwrap_or(1) == 0;
        if is_empty {
            cx.delete(Resource::REPLICA_SETS, &Key::of(set));
        }
    }
}

fn write_status(cx: &mut Context<'_>, deployment: &Object, hash: &str) {
    let (current, old) = sets_of(cx, deployment, hash);
    let sum = |field: &str| -> i64 {
        let sets = current.iter().chain(&old);
        sets.map(|set| int_at(&set.json, &["status", field]).unwrap_or_default())
            .sum()
    };
    let desired = replicas_of(&deployment.json);
    let (total, available) = (sum("replicas"), sum("availableReplicas"));
    let updated = current
        .as_ref()
        .and_then(|set| int_at(&set.json, &["status", "replicas"]))
        .unwrap_or_default();
    let is_available = available >= desired - Limits::of(&deployment.json, desired).unavailable;
    let is_complete = updated == desired && total == desired && available == desired;
    let current_name = current
        .as_ref()
        .map(|set| set.name.clone())
        .unwrap_or_default();
    let current_revision = current.as_ref().map_or(1, |set| revision(&set.json));
    let (ready, generation, now) = (sum("readyReplicas"), deployment.generation(), cx.now);
    cx.modify(Resource::DEPLOYMENTS, &Key::of(deployment), |deployment| {
        set_revision(deployment, current_revision);
        set_counts(
            deployment,
            &[
                ("replicas", total),
                ("updatedReplicas", updated),
                ("readyReplicas", ready),
                ("availableReplicas", available),
                ("unavailableReplicas", (desired - available).max(0)),
            ],
        );
        set_at(deployment, &["status", "observedGeneration"], generation);
        let availability = if is_available {
            Condition::new("Available", "True").because(
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            Condition::new("Available", "False").because(
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        set_condition(deployment, availability, now);
        // A rollout that has once been completed stays so, whatever its pods do later.
        let message = format!("ReplicaSet {current_name:?} has successfully progressed.");
        let was_complete =
            crate::object::condition(deployment, "Progressing").is_some_and(|progress| {
                str_at(progress, &["reason"]) == "NewReplicaSetAvailable"
                    && str_at(progress, &["message"]) == message
            });
        let progress = if is_complete || was_complete {
            Condition::new("Progressing", "True").because("NewReplicaSetAvailable", &message)
        } else {
            Condition::new("Progressing", "True")
                .because("ReplicaSetUpdated", "ReplicaSet is progressing.")
        };
        set_condition(deployment, progress, now);
    });
}

fn set_scale(cx: &mut Context<'_>, set: &Object, replicas: i64) {
    if replicas_of(&set.json) != replicas {
        cx.modify(Resource::REPLICA_SETS, &Key::of(set), |set| {
            set_at(set, &["spec", "replicas"], replicas)
        });
    }
}

/// How far a rolling update may go above and below the desired number.
struct Limits {
    surge: i64,
    unavailable: i64,
}

impl Limits {
    fn of(deployment: &Value, desired: i64) -> Self {
        let read = |field: &str, round_up: bool| {
            let value = at(deployment, &["spec", "strategy", "rollingUpdate", field]);
            value
                .and_then(|value| int_or_percent(value, desired, round_up))
                .unwrap_or_default()
        };
        let (surge, unavailable) = (read("maxSurge", true), read("maxUnavailable", false));
        // Without any room nothing could ever move.
        let unavailable = if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable
        };
        Self {
            surge,
            unavailable: unavailable.min(desired),
        }
    }
}

fn revision(object: &Value) -> i64 {
    annotation(object, REVISION)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn set_revision(object: &mut Value, revision: i64) {
    set_at(
        object,
        &["metadata", "annotations", REVISION],
        revision.to_string(),
    );
}
