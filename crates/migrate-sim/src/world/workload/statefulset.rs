//! StatefulSets: pods with a name and volumes of their own, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Readiness, pod_from_template, recorded, replicas_of, set_counts, template_hash};
use crate::object::{
    array_at, int_at, is_finished, is_ready, is_terminating, items_at, label, set_at, str_at,
};
use crate::store::{Object, Resource};
use crate::world::context::Context;
use crate::world::work::{Key, Work};

const REVISION_LABEL: &str = "controller-revision-hash";

/// Looks at one StatefulSet.
pub(crate) fn sync(cx: &mut Context<'_>, key: &Key) {
    let Some(set) = cx.get(Resource::STATEFUL_SETS, key) else {
        return;
    };
    let revision = match recorded(cx, &set) {
        Some(revision) => revision.name.clone(),
        None => format!("{}-{}", set.name, template_hash(&set)),
    };
    if !is_terminating(&set.json) {
        advance(cx, &set, &revision);
    }
    write_status(cx, &set, &revision);
}

/// The next step; in order, each one waits for the one before.
fn advance(cx: &mut Context<'_>, set: &Object, revision: &str) {
    let pods = pods_by_ordinal(cx, set);
    let first = int_at(&set.json, &["spec", "ordinals", "start"]).unwrap_or_default();
    let end = first + replicas_of(&set.json);
    let is_ordered = str_at(&set.json, &["spec", "podManagementPolicy"]) != "Parallel";
    let mut is_settled = true;
    for ordinal in first..end {
        let key = Key::new(set.namespace.as_str(), format!("{}-{ordinal}", set.name));
        // Whatever has the name keeps it: there are never two pods of one identity.
        let is_healthy = match cx.get(Resource::PODS, &key) {
            None => {
                create_pod(cx, set, ordinal, revision);
                false
            }
            Some(pod) if is_finished(&pod.json) && !is_terminating(&pod.json) => {
                cx.delete(Resource::PODS, &key);
                false
            }
            Some(pod) => is_ready(&pod.json) && !is_terminating(&pod.json),
        };
        is_settled &= is_healthy;
        if is_ordered && !is_healthy {
            return;
        }
    }
    let surplus = pods.range(end..).rev().chain(pods.range(..first));
    for (_, pod) in surplus {
        if !is_terminating(&pod.json) {
            cx.delete(Resource::PODS, &Key::of(pod));
        }
        if is_ordered {
            return;
        }
    }
    if is_settled && str_at(&set.json, &["spec", "updateStrategy", "type"]) != "OnDelete" {
        let partition = int_at(
            &set.json,
            &["spec", "updateStrategy", "rollingUpdate", "partition"],
        );
        let from = partition.unwrap_or_default().max(first);
        let outdated = pods
            .range(from..)
            .rev()
            .find(|(_, pod)| label(&pod.json, REVISION_LABEL) != Some(revision));
        if let Some((_, pod)) = outdated {
            cx.delete(Resource::PODS, &Key::of(pod));
        }
    }
}

fn create_pod(cx: &mut Context<'_>, set: &Object, ordinal: i64, revision: &str) {
    let name = format!("{}-{ordinal}", set.name);
    let mut pod = pod_from_template(set);
    set_at(&mut pod, &["metadata", "name"], name.as_str());
    set_at(&mut pod, &["metadata", "labels", REVISION_LABEL], revision);
    set_at(
        &mut pod,
        &["metadata", "labels", "statefulset.kubernetes.io/pod-name"],
        name.as_str(),
    );
    set_at(
        &mut pod,
        &["metadata", "labels", "apps.kubernetes.io/pod-index"],
        ordinal.to_string(),
    );
    set_at(&mut pod, &["spec", "hostname"], name.as_str());
    set_at(
        &mut pod,
        &["spec", "subdomain"],
        str_at(&set.json, &["spec", "serviceName"]),
    );
    for template in items_at(&set.json, &["spec", "volumeClaimTemplates"]) {
        let volume = crate::object::name(template);
        let claim = Key::new(set.namespace.as_str(), format!("{volume}-{name}"));
        if cx.get(Resource::PERSISTENT_VOLUME_CLAIMS, &claim).is_none() {
            let labels = &set.json["spec"]["selector"]["matchLabels"];
            cx.create(Resource::PERSISTENT_VOLUME_CLAIMS, json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"namespace": claim.namespace, "name": claim.name, "labels": labels},
                "spec": template["spec"],
            }));
        }
        array_at(&mut pod, &["spec", "volumes"])
            .push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim.name}}));
    }
    cx.create(Resource::PODS, pod);
}

fn write_status(cx: &mut Context<'_>, set: &Object, revision: &str) {
    let pods = pods_by_ordinal(cx, set);
    let live = || {
        pods.values()
            .map(|pod| &pod.json)
            .filter(|pod| !is_terminating(pod) && !is_finished(pod))
    };
    let readiness = Readiness::of(live(), &set.json, cx.now);
    if let Some(at) = readiness.next_at {
        cx.again_at(at, Work::StatefulSet(Key::of(set)));
    }
    let total = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    let is_updated = |pod: &&Value| label(pod, REVISION_LABEL) == Some(revision);
    let updated = i64::try_from(live().filter(is_updated).count()).unwrap_or(i64::MAX);
    let is_complete = updated == replicas_of(&set.json) && readiness.available == updated;
    let generation = set.generation();
    cx.modify(Resource::STATEFUL_SETS, &Key::of(set), |set| {
        let before = str_at(set, &["status", "currentRevision"]).to_owned();
        let current = if is_complete || before.is_empty() {
            revision.to_owned()
        } else {
            before
        };
        let of_current = if current == revision {
            updated
        } else {
            total - updated
        };
        set_counts(
            set,
            &[
                ("replicas", total),
                ("readyReplicas", readiness.ready),
                ("availableReplicas", readiness.available),
                ("currentReplicas", of_current),
                ("updatedReplicas", updated),
            ],
        );
        set_at(set, &["status", "currentRevision"], current);
        set_at(set, &["status", "updateRevision"], revision);
        set_at(set, &["status", "observedGeneration"], generation);
    });
}

fn pods_by_ordinal(cx: &Context<'_>, set: &Object) -> BTreeMap<i64, Arc<Object>> {
    let pods = cx.pods_of(set.uid()).into_iter();
    pods.filter_map(|pod| {
        let ordinal = pod
            .name
            .strip_prefix(&set.name)?
            .strip_prefix('-')?
            .parse()
            .ok()?;
        Some((ordinal, pod))
    })
    .collect()
}
