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
    cluster_with(RuleSettings::default())
}

fn cluster_with(settings: RuleSettings) -> RuleChecker {
    let mut checker = RuleChecker::new(settings);
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
fn what_is_assumed_is_what_the_settings_say() {
    let broken = |max: Value, without: &str| {
        let mut settings = RuleSettings {
            assumed_max_unavailable: max,
            ..RuleSettings::default()
        };
        settings.nothing_assumed_in.insert(without.to_owned());
        let mut checker = cluster_with(settings);
        for name in ["web-1", "web-2"] {
            checker.eviction_accepted(&format!("uid-{name}"));
            checker.applied("Pod", &terminating(pod(name, "a", 10), 11));
        }
        rules(checker)
    };
    assert_eq!(broken(json!(1), ""), ["I1"]);
    assert_eq!(broken(json!("33%"), ""), ["I1"]);
    assert!(broken(json!(2), "").is_empty());
    // Two of three, rounded up.
    assert!(broken(json!("34%"), "").is_empty());
    assert!(broken(json!(1), "shop").is_empty());
}

#[test]
fn one_eviction_is_fine_a_second_one_breaks_the_assumed_budget() {
    let mut checker = cluster();
    checker.eviction_accepted("uid-web-1");
    checker.applied("Pod", &terminating(pod("web-1", "a", 1), 10));
    assert!(rules(checker.clone()).is_empty());
    checker.eviction_accepted("uid-web-2");
    checker.applied("Pod", &terminating(pod("web-2", "a", 2), 11));
    assert_eq!(rules(checker), ["I1"]);
}

/// A pod of a CloneSet, of which the checker sees nothing.
fn cloned(name: &str, rv: u64) -> Value {
    let mut pod = pod(name, "a", rv);
    pod["metadata"]["ownerReferences"][0] = json!({
        "apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet", "name": "shop", "uid": "clones", "controller": true,
    });
    pod
}

#[test]
fn a_controller_that_is_not_seen_wants_the_pods_that_it_had() {
    let gone = |how_many: u64, replaced: bool, restart: &str| {
        let mut checker = cluster();
        for name in ["c-1", "c-2", "c-3"] {
            let mut pod = cloned(name, 5);
            pod["spec"]["restartPolicy"] = json!(restart);
            checker.applied("Pod", &pod);
        }
        for index in 1..=how_many {
            let name = format!("c-{index}");
            let mut pod = cloned(&name, 10 + 10 * index);
            pod["spec"]["restartPolicy"] = json!(restart);
            checker.eviction_accepted(&format!("uid-{name}"));
            checker.applied("Pod", &terminating(pod, 11 + 10 * index));
            if replaced {
                checker.applied("Pod", &cloned(&format!("d-{index}"), 12 + 10 * index));
            }
        }
        rules(checker)
    };
    assert!(gone(1, false, "Always").is_empty());
    assert_eq!(gone(2, false, "Always"), ["I1"]);
    assert!(gone(3, true, "Always").is_empty());
    // What runs to an end needs no other in its place.
    assert!(gone(3, false, "Never").is_empty());
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

/// Pod `db-0` of a StatefulSet, whose pods have one name after the other.
fn db(uid: &str, rv: u64) -> Value {
    let mut pod = pod("db-0", "a", rv);
    pod["metadata"]["uid"] = json!(uid);
    pod["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
    pod
}

#[test]
fn an_eviction_does_not_excuse_the_next_pod_of_the_same_name() {
    let mut checker = cluster();
    checker.applied("Pod", &db("first", 10));
    checker.eviction_accepted("first");
    checker.deleted("Pod", &terminating(db("first", 10), 12));
    checker.applied("Pod", &db("second", 13));
    assert!(rules(checker.clone()).is_empty());
    checker.deleted("Pod", &terminating(db("second", 13), 15));
    let said = checker.clone().finish();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].what.contains("shop/db-0 (second)"), "{said:?}");
    checker.eviction_accepted("second");
    assert!(rules(checker).is_empty());
}

#[test]
fn an_end_that_is_seen_twice_is_one_end() {
    let mut checker = cluster();
    checker.applied("Pod", &db("first", 10));
    checker.applied("Pod", &db("second", 13));
    checker.deleted("Pod", &terminating(db("first", 10), 12));
    assert_eq!(rules(checker.clone()), ["I1"]);
    checker.eviction_accepted("first");
    assert!(rules(checker).is_empty());
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
fn a_step_of_the_upgrade_may_run_while_a_kubelet_changes() {
    let changed_under = |labels: Value| {
        let mut checker = cluster();
        let mut job = pod("step-1", "b", 4);
        job["metadata"]["labels"] = labels;
        job["metadata"]["ownerReferences"] =
            json!([{ "kind": "Job", "name": "step", "uid": "job", "controller": true }]);
        checker.applied("Pod", &job);
        checker.applied("Node", &node("b", "v1.36.3", true));
        checker.applied("Node", &node("b", "v1.37.2", true));
        rules(checker)
    };
    let step = json!({ "kube-migrate.dev/step": "shell" });
    assert_eq!(changed_under(step), Vec::<&str>::new());
    assert_eq!(changed_under(json!({})), ["I3"]);
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

/// A pod that shows a version: of a static component, or of kube-proxy.
fn component(kind: &str, node: &str, version: &str) -> Value {
    let mut pod = json!({
        "metadata": { "namespace": "kube-system", "name": format!("{kind}-{node}"), "uid": format!("{kind}-{node}-{version}"),
            "labels": { "component": kind }, "annotations": { "kubernetes.io/config.mirror": "x" } },
        "spec": { "nodeName": node, "containers": [{ "image": format!("registry.example/{kind}:{version}") }] },
    });
    if kind == "kube-proxy" {
        pod["metadata"]["labels"] = json!({});
        pod["metadata"]["ownerReferences"] =
            json!([{ "kind": "DaemonSet", "name": "kube-proxy", "uid": "ds", "controller": true }]);
    }
    pod
}

/// What is broken after these components were seen one after the other.
fn skew(seen: &[(&str, &str, &str)]) -> Vec<&'static str> {
    let mut checker = cluster();
    for (kind, node, version) in seen {
        checker.applied("Pod", &component(kind, node, version));
    }
    rules(checker)
}

#[test]
fn a_kubelet_is_never_newer_than_an_api_server() {
    let mut checker = cluster();
    checker.applied("Pod", &component("kube-apiserver", "cp", "v1.36.3"));
    checker.applied("Node", &node("b", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.37.2", true));
    assert_eq!(rules(checker), ["I4"]);
}

#[test]
fn api_servers_are_at_most_one_minor_apart() {
    let apart = |version| {
        skew(&[
            ("kube-apiserver", "a", "v1.36.3"),
            ("kube-apiserver", "b", version),
        ])
    };
    assert!(apart("v1.37.2").is_empty());
    // Both are named: either may be the one that is wrong.
    assert_eq!(apart("v1.38.0"), ["I4", "I4"]);
}

#[test]
fn controllers_are_judged_by_the_api_server_of_their_node() {
    for kind in ["kube-controller-manager", "kube-scheduler"] {
        let old = ("kube-apiserver", "a", "v1.36.3");
        let new = ("kube-apiserver", "b", "v1.37.2");
        assert!(
            skew(&[old, new, (kind, "b", "v1.37.2")]).is_empty(),
            "{kind}"
        );
        assert_eq!(skew(&[old, new, (kind, "a", "v1.37.2")]), ["I4"], "{kind}");
        assert_eq!(
            skew(&[old, new, (kind, "elsewhere", "v1.37.2")]),
            ["I4"],
            "{kind}"
        );
        assert_eq!(skew(&[new, (kind, "b", "v1.35.4")]), ["I4"], "{kind}");
        // It was legal until its API server changed.
        let later = ("kube-apiserver", "a", "v1.38.0");
        assert_eq!(
            skew(&[old, (kind, "a", "v1.36.3"), later]),
            ["I4"],
            "{kind}"
        );
    }
}

#[test]
fn kube_proxy_is_judged_by_every_api_server_and_by_its_kubelet() {
    let api = ("kube-apiserver", "cp", "v1.36.3");
    assert!(skew(&[api, ("kube-proxy", "a", "v1.36.3")]).is_empty());
    assert_eq!(skew(&[api, ("kube-proxy", "a", "v1.37.2")]), ["I4"]);
    assert_eq!(skew(&[api, ("kube-proxy", "a", "v1.32.9")]), ["I4"]);
    let mut checker = cluster();
    checker.applied("Node", &node("c", "v1.33.1", false));
    checker.applied("Pod", &component("kube-apiserver", "cp", "v1.37.2"));
    checker.applied("Pod", &component("kube-proxy", "c", "v1.37.2"));
    let said = checker.finish();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0]
            .what
            .starts_with("kubelet of c is 1.33 beside API servers")
    );
    assert!(said[1].what.ends_with("beside a kubelet of 1.33"));
}

#[test]
fn a_pod_that_tolerates_a_cordon_has_to_go_too() {
    let tolerant = |name: &str, rv| {
        let mut pod = pod(name, "b", rv);
        pod["spec"]["tolerations"] = json!([{ "operator": "Exists" }]);
        pod
    };
    let at = |rv: u64, version: &str| {
        let mut node = node("b", version, true);
        node["metadata"]["resourceVersion"] = json!(rv.to_string());
        node
    };
    let mut checker = cluster();
    checker.applied("Pod", &tolerant("operator-1", 5));
    checker.applied("Node", &at(10, "v1.36.3"));
    checker.applied("Node", &at(20, "v1.37.2"));
    assert_eq!(rules(checker), ["I3"]);
    // Moved once, and another one came by the same toleration.
    let mut checker = cluster();
    checker.applied("Node", &at(10, "v1.36.3"));
    checker.applied("Pod", &tolerant("operator-2", 15));
    checker.applied("Node", &at(20, "v1.37.2"));
    assert!(rules(checker).is_empty());
    // Without the toleration nothing excuses it.
    let mut checker = cluster();
    checker.applied("Node", &at(10, "v1.36.3"));
    checker.applied("Pod", &pod("web-4", "b", 15));
    checker.applied("Node", &at(20, "v1.37.2"));
    assert_eq!(rules(checker), ["I3"]);
}

/// Node `a` stops being Ready at 5 s; the cordon of `b` takes effect at 9 s, by
/// a request of `sent_ms`.
fn taken_beside_a_dead_node(sent_ms: Option<u64>) -> Vec<&'static str> {
    let mut checker = cluster();
    checker.at_ms(5_000);
    let mut dead = node("a", "v1.36.3", false);
    dead["status"]["conditions"][0]["status"] = json!("Unknown");
    checker.applied("Node", &dead);
    checker.at_ms(9_000);
    checker.applied("Node", &node("b", "v1.36.3", true));
    if let Some(sent_ms) = sent_ms {
        checker.node_written("b", 9, sent_ms);
    }
    rules(checker)
}

#[test]
fn a_node_that_is_not_ready_counts_from_when_it_could_be_known() {
    assert_eq!(taken_beside_a_dead_node(None), ["I2"]);
    assert_eq!(taken_beside_a_dead_node(Some(8_990)), ["I2"]);
    assert_eq!(taken_beside_a_dead_node(Some(5_003)), ["I2"]);
    // It died while the request was on its way, or the last answer before it.
    assert!(taken_beside_a_dead_node(Some(5_002)).is_empty());
    assert!(taken_beside_a_dead_node(Some(4_000)).is_empty());
}

#[test]
fn what_the_run_has_taken_counts_whenever_it_asked() {
    let mut checker = cluster();
    checker.at_ms(9_000);
    checker.applied("Node", &node("a", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.36.3", true));
    checker.node_written("a", 9, 8_000);
    checker.node_written("b", 9, 8_000);
    assert_eq!(rules(checker), ["I2"]);
}

#[test]
fn a_kubelet_changes_once() {
    let mut checker = cluster();
    checker.applied("Node", &node("b", "v1.36.3", true));
    checker.applied("Node", &node("b", "v1.37.1", true));
    checker.applied("Node", &node("b", "v1.37.2", true));
    assert_eq!(rules(checker), ["I6"]);
}
