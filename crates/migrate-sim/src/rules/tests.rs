use serde_json::json;

use super::*;

fn pod(name: &str, node: &str, rv: u64) -> Value {
    json!({
        "metadata": {
            "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": rv.to_string(),
            "labels": { "app": "web" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true }],
        },
        "spec": { "nodeName": node },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

fn terminating(mut pod: Value, rv: u64) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    pod["metadata"]["resourceVersion"] = json!(rv.to_string());
    pod
}

fn node(name: &str, kubelet: &str, cordoned: bool) -> Value {
    let annotations = if cordoned {
        json!({ CORDON: "run" })
    } else {
        json!({})
    };
    json!({
        "metadata": { "name": name, "uid": name, "resourceVersion": "9", "annotations": annotations },
        "spec": { "unschedulable": cordoned },
        "status": { "nodeInfo": { "kubeletVersion": kubelet }, "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

const CORDON: &str = "kube-migrate.dev/cordoned-by";

fn cluster() -> RuleChecker {
    let mut checker = RuleChecker::new(RuleSettings::default());
    checker.applied("ReplicaSet", &json!({ "metadata": { "namespace": "shop", "name": "web", "uid": "rs" }, "spec": { "replicas": 3 } }));
    for (index, name) in ["web-1", "web-2", "web-3"].iter().enumerate() {
        checker.applied("Pod", &pod(name, "a", index as u64 + 1));
    }
    checker.applied("Node", &node("a", "v1.36.3", false));
    checker.applied("Node", &node("b", "v1.36.3", false));
    checker
}

fn rules(checker: RuleChecker) -> Vec<&'static str> {
    checker
        .finish()
        .into_iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn one_eviction_is_fine_a_second_one_breaks_the_assumed_budget() {
    let mut checker = cluster();
    checker.eviction_accepted("shop", "web-1");
    checker.applied("Pod", &terminating(pod("web-1", "a", 1), 10));
    assert!(rules(checker.clone()).is_empty());
    checker.eviction_accepted("shop", "web-2");
    checker.applied("Pod", &terminating(pod("web-2", "a", 2), 11));
    assert_eq!(rules(checker), ["I1"]);
}

#[test]
fn a_real_budget_decides_where_there_is_one() {
    let mut checker = cluster();
    checker.applied(
        "PodDisruptionBudget",
        &json!({
            "metadata": { "namespace": "shop", "name": "web" },
            "spec": { "minAvailable": "100%", "selector": { "matchLabels": { "app": "web" } } },
        }),
    );
    checker.applied("Pod", &terminating(pod("web-1", "a", 1), 10));
    assert_eq!(rules(checker), ["I1"]);
}

#[test]
fn a_pod_that_goes_without_an_eviction_is_reported_at_the_end() {
    let mut checker = cluster();
    checker.applied("Pod", &terminating(pod("web-1", "a", 1), 10));
    checker.deleted("Pod", &terminating(pod("web-1", "a", 1), 12));
    assert!(checker.violations().is_empty());
    assert_eq!(rules(checker), ["I1"]);
}

#[test]
fn a_kubelet_changes_only_on_a_drained_and_cordoned_node() {
    let mut checker = cluster();
    checker.applied("Node", &node("a", "v1.37.2", false));
    assert_eq!(rules(checker), ["I3", "I3"]);
    let mut checker = cluster();
    checker.applied("Node", &node("b", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.37.2", true));
    assert!(rules(checker).is_empty());
}

#[test]
fn a_pool_is_never_wider_than_allowed() {
    let mut checker = cluster();
    checker.applied("Node", &node("a", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.36.3", true));
    assert_eq!(rules(checker), ["I2"]);
}

#[test]
fn a_foreign_cordon_stays() {
    let mut checker = cluster();
    let mut foreign = node("b", "v1.36.3", true);
    foreign["metadata"]["annotations"] = json!({});
    checker.applied("Node", &foreign);
    checker.applied("Node", &node("b", "v1.36.3", false));
    assert_eq!(rules(checker), ["I3"]);
}

#[test]
fn a_kubelet_is_never_newer_than_an_api_server() {
    let mut checker = cluster();
    checker.applied("Pod", &json!({
        "metadata": { "namespace": "kube-system", "name": "kube-apiserver-a", "uid": "api", "labels": { "component": "kube-apiserver" },
            "annotations": { "kubernetes.io/config.mirror": "x" } },
        "spec": { "nodeName": "cp", "containers": [{ "image": "registry.example/kube-apiserver:v1.36.3" }] },
    }));
    checker.applied("Node", &node("b", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.37.2", true));
    assert_eq!(rules(checker), ["I4"]);
}

#[test]
fn a_kubelet_changes_once() {
    let mut checker = cluster();
    checker.applied("Node", &node("b", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.37.1", true));
    checker.applied("Node", &node("b", "v1.37.2", true));
    assert_eq!(rules(checker), ["I6"]);
}
