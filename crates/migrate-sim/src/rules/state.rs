//! What the checker remembers of the cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::{
    bool_at, controller_of, is_finished, is_ready, is_terminating, label, name, namespace, str_at,
};

/// Objects by kind, then `namespace/name`.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    objects: BTreeMap<String, BTreeMap<String, Value>>,
}

impl State {
    pub(super) fn put(&mut self, kind: &str, object: &Value) -> Option<Value> {
        const KINDS: &[&str] = &[
            "Deployment",
            "Node",
            "Pod",
            "PodDisruptionBudget",
            "ReplicaSet",
            "StatefulSet",
        ];
        if !KINDS.contains(&kind) {
            return None;
        }
        let objects = self.objects.entry(kind.to_owned()).or_default();
        objects.insert(key(object), object.clone())
    }

    pub(super) fn remove(&mut self, kind: &str, object: &Value) {
        if let Some(objects) = self.objects.get_mut(kind) {
            objects.remove(&key(object));
        }
    }

    pub(super) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(kind)?.get(&format!("{namespace}/{name}"))
    }

    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects
            .get(kind)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    pub(super) fn of_namespace<'a>(
        &'a self,
        kind: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        let first = format!("{namespace}/");
        self.objects.get(kind).into_iter().flat_map(move |objects| {
            objects
                .range(first.clone()..)
                .map(|(_, object)| object)
                .take_while(move |object| crate::object::namespace(object) == namespace)
        })
    }
}

pub(super) fn key(object: &Value) -> String {
    format!("{}/{}", namespace(object), name(object))
}

/// resourceVersion as a number, 0 when there is none.
pub(super) fn version(object: &Value) -> u64 {
    str_at(object, &["metadata", "resourceVersion"])
        .parse()
        .unwrap_or(0)
}

pub(super) fn is_healthy(pod: &Value) -> bool {
    is_ready(pod) && !is_terminating(pod)
}

/// Whether a drain has to move the pod before its node may change.
pub(super) fn is_evictable(pod: &Value) -> bool {
    !is_finished(pod) && !is_static(pod) && !is_step(pod) && controller_kind(pod) != "DaemonSet"
}

/// Whether the pod does a step of an upgrade on its node, or tries the node out.
fn is_step(pod: &Value) -> bool {
    let owner = controller_kind(pod);
    match label(pod, "kube-migrate.dev/step") {
        Some("canary") => owner.is_empty(),
        Some(_) => owner == "Job",
        None => false,
    }
}

pub(super) fn is_static(pod: &Value) -> bool {
    crate::object::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

pub(super) fn controller_kind(pod: &Value) -> &str {
    controller_of(pod).map_or("", |owner| str_at(owner, &["kind"]))
}

pub(super) fn is_cordoned(node: &Value) -> bool {
    bool_at(node, &["spec", "unschedulable"])
}
