//! Discovery, version and health paths.

use serde_json::{Value, json};

use crate::store::{Resource, Store};

/// The answer to a path that names no resource; none for an unknown one.
pub(super) fn answer(store: &Store, path: &str, version: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(version_info(version)),
        ["api"] => Some(
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ),
        ["apis"] => Some(json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": groups(store).into_iter().map(|group| group_of(store, group)).collect::<Vec<_>>(),
        })),
        ["apis", group] => groups(store)
            .contains(group)
            .then(|| with_head(group_of(store, group), "APIGroup")),
        ["api", version] => resources(store, "", version),
        ["apis", group, version] => resources(store, group, version),
        _ => None,
    }
}

/// `/version` of a server that is `v1.37.2` or the like.
fn version_info(version: &str) -> Value {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    json!({
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "gitVersion": version,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-09-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    })
}

fn groups(store: &Store) -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for resource in store.resources().filter(|r| !r.group.is_empty()) {
        if !groups.contains(&resource.group) {
            groups.push(resource.group);
        }
    }
    groups.extend(["authentication.k8s.io", "authorization.k8s.io"]);
    groups
}

fn group_of(store: &Store, group: &str) -> Value {
    let mut versions: Vec<&str> = Vec::new();
    for resource in store.resources().filter(|r| r.group == group) {
        if !versions.contains(&resource.version) {
            versions.push(resource.version);
        }
    }
    if versions.is_empty() {
        versions.push("v1");
    }
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": versions[0], "versions": versions })
}

fn with_head(mut object: Value, kind: &str) -> Value {
    object["kind"] = kind.into();
    object["apiVersion"] = "v1".into();
    object
}

fn resources(store: &Store, group: &str, version: &str) -> Option<Value> {
    let mut entries: Vec<Value> = store
        .resources()
        .filter(|r| r.group == group && r.version == version)
        .flat_map(entries_of)
        .collect();
    let reviews: &[(&str, &str)] = match (group, version) {
        ("authentication.k8s.io", "v1") => &[("selfsubjectreviews", "SelfSubjectReview")],
        ("authorization.k8s.io", "v1") => &[
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ],
        _ => &[],
    };
    entries.extend(
        reviews
            .iter()
            .map(|(plural, kind)| entry(plural, kind, false, &["create"])),
    );
    if entries.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }))
}

fn entries_of(resource: &'static Resource) -> Vec<Value> {
    let verbs = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let (plural, namespaced) = (resource.plural, resource.namespaced);
    let mut entries = vec![entry(plural, resource.kind, namespaced, &verbs)];
    if resource.has_status {
        entries.push(entry(
            &format!("{plural}/status"),
            resource.kind,
            namespaced,
            &["get", "patch", "update"],
        ));
    }
    if resource.has_scale {
        let mut scale = entry(
            &format!("{plural}/scale"),
            "Scale",
            namespaced,
            &["get", "patch", "update"],
        );
        scale["group"] = "autoscaling".into();
        scale["version"] = "v1".into();
        entries.push(scale);
    }
    if resource == Resource::PODS {
        let mut eviction = entry("pods/eviction", "Eviction", true, &["create"]);
        eviction["group"] = "policy".into();
        eviction["version"] = "v1".into();
        entries.push(eviction);
        entries.push(entry("pods/binding", "Binding", true, &["create"]));
    }
    entries
}

fn entry(name: &str, kind: &str, namespaced: bool, verbs: &[&str]) -> Value {
    json!({
        "name": name,
        "singularName": if name.contains('/') { String::new() } else { kind.to_lowercase() },
        "namespaced": namespaced,
        "kind": kind,
        "verbs": verbs,
    })
}
