//! Kubernetes strategic merge patch: maps merge, and those lists that have a
//! key merge element by element.

use serde_json::{Map, Value};

/// How a list field merges.
enum ListRule {
    /// The patch's list replaces the old one.
    Replace,
    /// Elements with the same value of this field are one.
    ByField(&'static str),
    /// Values that are not there yet are added.
    AsSet,
}

/// Merges `patch` into `target`.
pub(super) fn apply(target: &mut Value, patch: &Value) {
    merge_value(target, patch);
}

fn merge_value(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() || patch.get("$patch").is_some_and(|how| how == "replace") {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    merge_map(target, patch);
}

fn merge_map(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        target.retain(|key, _| kept.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(old)), Value::Array(gone)) = (target.get_mut(field), value) {
                old.retain(|element| !gone.contains(element));
            }
        } else if key.starts_with('$') {
            // `$setElementOrder/...` only orders what the merge already orders;
            // `$patch` and `$retainKeys` are done.
        } else if value.is_null() || value["$patch"] == "delete" {
            target.remove(key);
        } else {
            let old = target.entry(key.clone()).or_insert(Value::Null);
            match value {
                Value::Array(elements) => merge_list(old, key, elements),
                _ => merge_value(old, value),
            }
            if old.as_array().is_some_and(Vec::is_empty)
                && !value.as_array().is_some_and(Vec::is_empty)
            {
                target.remove(key);
            }
        }
    }
}

fn merge_list(target: &mut Value, field: &str, patch: &[Value]) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(old) = target else { return };
    let key = match rule(field, old, patch) {
        _ if patch.iter().any(|element| {
            element["$patch"] == "replace" && element.as_object().is_some_and(|m| m.len() == 1)
        }) =>
        {
            *old = patch
                .iter()
                .filter(|element| element.get("$patch").is_none())
                .cloned()
                .collect();
            return;
        }
        ListRule::Replace => {
            *old = patch.to_vec();
            return;
        }
        ListRule::AsSet => {
            for element in patch {
                if !old.contains(element) {
                    old.push(element.clone());
                }
            }
            return;
        }
        ListRule::ByField(key) => key,
    };
    for element in patch {
        let position = old
            .iter()
            .position(|candidate| candidate[key] == element[key]);
        match (position, element["$patch"] == "delete") {
            (Some(position), true) => {
                old.remove(position);
            }
            (None, true) => {}
            (Some(position), false) => merge_value(&mut old[position], element),
            (None, false) => {
                let mut added = Value::Null;
                merge_value(&mut added, element);
                old.push(added);
            }
        }
    }
}

/// The merge keys of the built-in types, by the name of the field.
///
/// Taints and tolerations are atomic lists in the real API, too.
fn rule(field: &str, old: &[Value], patch: &[Value]) -> ListRule {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets"
        | "resourceClaims"
        | "schedulingGates" => ListRule::ByField("name"),
        "webhooks" => ListRule::ByField("name"),
        "conditions" | "addresses" if old.iter().chain(patch).all(|e| e.get("type").is_some()) => {
            ListRule::ByField("type")
        }
        "ports" if patch.iter().any(|port| port.get("containerPort").is_some()) => {
            ListRule::ByField("containerPort")
        }
        "ports" if patch.iter().any(|port| port.get("port").is_some()) => ListRule::ByField("port"),
        "volumeMounts" => ListRule::ByField("mountPath"),
        "volumeDevices" => ListRule::ByField("devicePath"),
        "topologySpreadConstraints" => ListRule::ByField("topologyKey"),
        "hostAliases" | "podIPs" | "hostIPs" => ListRule::ByField("ip"),
        "ownerReferences" => ListRule::ByField("uid"),
        "volumesAttached" => ListRule::Replace,
        "finalizers" | "podCIDRs" => ListRule::AsSet,
        _ => ListRule::Replace,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut target: Value, patch: Value) -> Value {
        apply(&mut target, &patch);
        target
    }

    #[test]
    fn conditions_merge_by_type_and_containers_by_name() {
        let node = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "x" }, { "type": "Disk", "status": "False" }] } });
        let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }, { "type": "New", "status": "True" }] } });
        assert_eq!(
            patched(node, patch)["status"]["conditions"],
            json!([{ "type": "Ready", "status": "False", "reason": "x" }, { "type": "Disk", "status": "False" }, { "type": "New", "status": "True" }]),
        );
        let pod =
            json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }] });
        let patch = json!({ "containers": [{ "name": "a", "image": "2" }, { "name": "b", "$patch": "delete" }] });
        assert_eq!(
            patched(pod, patch),
            json!({ "containers": [{ "name": "a", "image": "2" }] })
        );
    }

    #[test]
    fn taints_are_replaced_and_null_removes() {
        let node = json!({ "spec": { "unschedulable": true, "taints": [{ "key": "a", "effect": "NoSchedule" }] } });
        let patch = json!({ "spec": { "unschedulable": null, "taints": [{ "key": "b", "effect": "NoSchedule" }] } });
        assert_eq!(
            patched(node, patch),
            json!({ "spec": { "taints": [{ "key": "b", "effect": "NoSchedule" }] } })
        );
    }

    #[test]
    fn directives_replace_and_take_out() {
        let object =
            json!({ "metadata": { "finalizers": ["a", "b"], "labels": { "x": "1", "y": "2" } } });
        let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a"], "labels": { "$patch": "replace", "z": "3" } } });
        assert_eq!(
            patched(object, patch),
            json!({ "metadata": { "finalizers": ["b"], "labels": { "z": "3" } } })
        );
    }
}
