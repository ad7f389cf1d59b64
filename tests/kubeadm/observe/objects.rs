//! Every object of a cluster before and after: what is gone, new, another one
//! of the same name, or the same one with other contents.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client};
use serde_json::Value;

/// What differences are explained by: kind, namespace and the beginning of the
/// name, where empty is any; which differences; and why.
const EXPLAINED: &[(&str, &str, &str, Change, &str)] = &[
    ("Event", "", "", Change::Any, "events expire"),
    (
        "Pod",
        "",
        "",
        Change::Any,
        "controllers replace pods, kubelets mirror pods",
    ),
    (
        "Job",
        "default",
        "short-",
        Change::Any,
        "a CronJob makes and removes them",
    ),
    (
        "EndpointSlice",
        "",
        "",
        Change::Any,
        "made again from Services and pods",
    ),
    (
        "Endpoints",
        "",
        "",
        Change::Contents,
        "follow Services and pods",
    ),
    (
        "ReplicaSet",
        "kube-system",
        "coredns-",
        Change::Contents,
        "scaled down after a new template",
    ),
    (
        "ReplicaSet",
        "kube-system",
        "coredns-",
        Change::New,
        "a new template by kubeadm",
    ),
    (
        "ControllerRevision",
        "kube-system",
        "kube-proxy-",
        Change::New,
        "a new template by kubeadm",
    ),
    (
        "Lease",
        "kube-system",
        "apiserver-",
        Change::Any,
        "one for each start of an API server",
    ),
    (
        "Lease",
        "kube-system",
        "kube-migrate",
        Change::New,
        "the run's mark",
    ),
    (
        "Secret",
        "kube-system",
        "bootstrap-token-",
        Change::Any,
        "kubeadm's, with an end",
    ),
    (
        "ClusterRole",
        "",
        "system:",
        Change::Any,
        "the API server keeps its own",
    ),
    (
        "ClusterRoleBinding",
        "",
        "system:",
        Change::Any,
        "the API server keeps its own",
    ),
    (
        "Role",
        "",
        "system:",
        Change::Any,
        "the API server keeps its own",
    ),
    (
        "RoleBinding",
        "",
        "system:",
        Change::Any,
        "the API server keeps its own",
    ),
    (
        "APIService",
        "",
        "v",
        Change::Any,
        "what the new version serves",
    ),
    (
        "FlowSchema",
        "",
        "",
        Change::New,
        "built into the API server",
    ),
    (
        "PriorityLevelConfiguration",
        "",
        "",
        Change::New,
        "built into the API server",
    ),
    (
        "ClusterTrustBundle",
        "",
        "kubernetes.io:kube-apiserver-serving:",
        Change::New,
        "published by the new controller manager",
    ),
    (
        "ServiceAccount",
        "kube-system",
        "kube-apiserver-serving-clustertrustbundle-publisher",
        Change::New,
        "of a controller that is new",
    ),
    (
        "ServiceAccount",
        "kube-system",
        "podcertificaterequestcleaner",
        Change::New,
        "of a controller that is new",
    ),
    (
        "ServiceAccount",
        "kube-system",
        "storage-version-migrator-controller",
        Change::New,
        "of a controller that is new",
    ),
    (
        "ConfigMap",
        "kube-system",
        "kube",
        Change::Contents,
        "kubeadm's own: kubeadm-config, kubelet-config, kube-proxy",
    ),
    (
        "DaemonSet",
        "kube-system",
        "kube-proxy",
        Change::Contents,
        "kubeadm's new image",
    ),
    (
        "Deployment",
        "kube-system",
        "coredns",
        Change::Contents,
        "kubeadm's new image",
    ),
    (
        "Lease",
        "",
        "",
        Change::Contents,
        "renewed, and its holder started anew",
    ),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    New,
    Contents,
    Any,
}

/// Kind, namespace, name.
type Key = (String, String, String);

/// Every object; and its uid and all that is neither metadata nor status.
pub(crate) type Objects = BTreeMap<Key, (String, Value)>;

/// All objects that can be listed, whatever their kind.
pub(crate) async fn all(client: &Client) -> Objects {
    let mut objects = Objects::new();
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let list = api.list(&ListParams::default()).await.unwrap();
            for object in list {
                // What the server makes up for each request has no uid.
                if let (Some(name), Some(uid)) = (object.metadata.name, object.metadata.uid) {
                    let namespace = object.metadata.namespace.unwrap_or_default();
                    let key = (resource.kind.clone(), namespace, name);
                    objects.insert(key, (uid, contents(object.data)));
                }
            }
        }
    }
    objects
}

fn contents(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

/// Whether all that was there is still there. A newer API server adds fields
/// with their defaults.
fn is_kept(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().all(|(key, before)| {
            let after = after.get(key);
            after.is_some_and(|after| is_kept(before, after))
        }),
        (Value::Array(before), Value::Array(after)) => {
            let mut pairs = before.iter().zip(after);
            before.len() == after.len() && pairs.all(|(before, after)| is_kept(before, after))
        }
        _ => before == after,
    }
}

/// Differences that nothing explains, one line each.
pub(crate) fn unexplained(before: &Objects, after: &Objects) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, (uid, contents)) in before {
        let (what, change) = match after.get(key) {
            None => ("is gone", Change::Any),
            Some((other, _)) if other != uid => ("is another", Change::Any),
            Some((_, other)) if !is_kept(contents, other) => {
                ("has other contents", Change::Contents)
            }
            Some(_) => continue,
        };
        if !is_explained(key, change) {
            lines.push(line(key, what));
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(key)) {
        if !is_explained(key, Change::New) {
            lines.push(line(key, "is new"));
        }
    }
    lines
}

fn is_explained((kind, namespace, name): &Key, seen: Change) -> bool {
    EXPLAINED.iter().any(|(of, within, begin, allowed, _)| {
        of == kind
            && (within.is_empty() || within == namespace)
            && name.starts_with(begin)
            && (*allowed == Change::Any || *allowed == seen)
    })
}

fn line((kind, namespace, name): &Key, what: &str) -> String {
    format!("{kind} {namespace}/{name} {what}")
}

#[test]
fn what_nothing_explains_is_told() {
    let objects = |all: &[(&str, &str, &str)]| {
        let entry = |(kind, name, uid): &(&str, &str, &str)| {
            let key = (
                (*kind).to_owned(),
                "kube-system".to_owned(),
                (*name).to_owned(),
            );
            // Of the same uid, what follows a dot is what it holds.
            let (uid, holds) = uid.split_once('.').unwrap_or((uid, ""));
            (key, (uid.to_owned(), Value::from(holds)))
        };
        all.iter().map(entry).collect::<Objects>()
    };
    let before = objects(&[
        ("ConfigMap", "edited", "0.old"),
        ("ConfigMap", "kept", "1"),
        ("ConfigMap", "kubelet-config", "1.old"),
        ("ConfigMap", "lost", "2"),
        ("ConfigMap", "made-again", "3"),
        ("Pod", "moved", "4"),
        ("ReplicaSet", "coredns-1", "5"),
    ]);
    let after = objects(&[
        ("ConfigMap", "edited", "0.new"),
        ("ConfigMap", "kept", "1"),
        ("ConfigMap", "kubelet-config", "1.new"),
        ("ConfigMap", "made-again", "30"),
        ("Pod", "moved-too", "40"),
        ("ReplicaSet", "coredns-2", "50"),
        ("Secret", "found", "6"),
    ]);
    assert_eq!(
        unexplained(&before, &after),
        [
            "ConfigMap kube-system/edited has other contents",
            "ConfigMap kube-system/lost is gone",
            "ConfigMap kube-system/made-again is another",
            "ReplicaSet kube-system/coredns-1 is gone",
            "Secret kube-system/found is new",
        ]
    );
    assert!(unexplained(&before, &before).is_empty());
}

#[test]
fn only_what_is_new_in_an_object_is_let_pass() {
    use serde_json::json;

    let before = json!({"spec": {"ports": [{"port": 80}], "strategy": {}}});
    let defaulted =
        json!({"spec": {"ports": [{"port": 80, "to": 80}], "strategy": {"most": 1}}, "new": 1});
    assert!(is_kept(&before, &defaulted));
    for other in [
        json!({"spec": {"ports": [{"port": 81}], "strategy": {}}}),
        json!({"spec": {"ports": [{"port": 80}, {"port": 81}], "strategy": {}}}),
        json!({"spec": {"ports": [], "strategy": {}}}),
        json!({"spec": {"ports": [{"port": 80}]}}),
    ] {
        assert!(!is_kept(&before, &other), "{other}");
    }
}
