//! Pods that are made again under other names: as many as before, and the same
//! but for where they run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Objects;
use super::fields::{differing, is_within};
use crate::shop::is_finished;

/// Namespace, kind and name of what pods belong to.
type Owner = (String, String, String);

/// What kubeadm changes in pods of its own: of whom, and in which fields.
const EXPLAINED: &[(&str, &str, &str, &[&str])] = &[
    (
        "kube-system",
        "Deployment",
        "coredns",
        &["/metadata/labels/pod-template-hash", IMAGE],
    ),
    (
        "kube-system",
        "DaemonSet",
        "kube-proxy",
        &[
            "/metadata/labels/controller-revision-hash",
            "/metadata/labels/pod-template-generation",
            IMAGE,
        ],
    ),
    ("kube-system", "Mirror", "etcd-", STATIC),
    ("kube-system", "Mirror", "kube-apiserver-", STATIC),
    ("kube-system", "Mirror", "kube-controller-manager-", STATIC),
    ("kube-system", "Mirror", "kube-scheduler-", STATIC),
];
const IMAGE: &str = "/spec/containers/0/image";
/// A new manifest has another hash, which the kubelet notes with the time.
const STATIC: &[&str] = &[
    IMAGE,
    "/metadata/annotations/kubernetes.io~1config.hash",
    "/metadata/annotations/kubernetes.io~1config.mirror",
    "/metadata/annotations/kubernetes.io~1config.seen",
];
/// What is each pod's own.
const OWN: &[&str] = &[
    "name",
    "uid",
    "creationTimestamp",
    "ownerReferences",
    "generation",
];
/// The volume with the token of its service account, whose name ends by chance.
const TOKEN: &str = "kube-api-access-";

/// Whether nobody makes a pod again: it stays itself, or it is lost.
pub(super) fn is_bare(pod: &Value) -> bool {
    controller(pod).is_none() && !is_leaving(pod)
}

/// Differences of all other pods that nothing explains, one line each.
pub(super) fn unexplained(before: &Objects, after: &Objects) -> Vec<String> {
    let (before, after) = (by_owner(before), by_owner(after));
    let mut lines = Vec::new();
    for (owner, old) in &before {
        let (namespace, kind, name) = owner;
        let whose = format!("Pods of {kind} {namespace}/{name}");
        let new = after.get(owner).map_or(&[][..], Vec::as_slice);
        if old.len() != new.len() {
            lines.push(format!("{whose} are {}, were {}", new.len(), old.len()));
            continue;
        }
        for (old, new) in old.iter().zip(new) {
            for (field, old, new) in differing(old, new) {
                if !is_explained(owner, &field) {
                    lines.push(format!("{whose} have another {field}: {old} -> {new}"));
                }
            }
        }
    }
    for (namespace, kind, name) in after.keys().filter(|owner| !before.contains_key(*owner)) {
        lines.push(format!("Pods of {kind} {namespace}/{name} are new"));
    }
    lines
}

fn is_explained((namespace, kind, name): &Owner, field: &str) -> bool {
    EXPLAINED.iter().any(|(within, of, begin, fields)| {
        let is_it = match *of {
            // Their names end with their node's.
            "Mirror" => name.starts_with(begin),
            _ => name == begin,
        };
        within == namespace
            && of == kind
            && is_it
            && fields.iter().any(|place| is_within(field, place))
    })
}

/// Pods by what they belong to, without what is their own, in an order that
/// their contents make.
fn by_owner(objects: &Objects) -> BTreeMap<Owner, Vec<Value>> {
    let mut found: BTreeMap<Owner, Vec<Value>> = BTreeMap::new();
    let pods = objects.iter().filter(|(key, _)| key.0 == "Pod");
    for ((_, namespace, name), pod) in pods {
        let Some((kind, owner)) = controller(pod) else {
            continue;
        };
        let owner = match kind {
            // The kubelet's own: there under its name again.
            "Node" => (namespace.clone(), "Mirror".to_owned(), name.clone()),
            _ => root(objects, namespace, kind, owner),
        };
        // A CronJob's come and go; and what has ended well, or was evicted and
        // is kept for the Job to count, runs no more.
        let is_counted = owner.1 != "CronJob" && !is_leaving(pod) && !is_finished(pod);
        if is_counted {
            found.entry(owner).or_default().push(without_own(pod));
        }
    }
    for pods in found.values_mut() {
        pods.sort_by_key(Value::to_string);
    }
    found
}

fn is_leaving(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Kind and name of what makes a pod, or another object, again.
fn controller(object: &Value) -> Option<(&str, &str)> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((owner["kind"].as_str()?, owner["name"].as_str()?))
}

/// A ReplicaSet's Deployment, a Job's CronJob: ReplicaSets are made anew.
fn root(objects: &Objects, namespace: &str, kind: &str, name: &str) -> Owner {
    let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
    let above = objects.get(&key).and_then(controller);
    let (kind, name) = above.unwrap_or((kind, name));
    (namespace.to_owned(), kind.to_owned(), name.to_owned())
}

fn without_own(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        for field in OWN {
            metadata.remove(*field);
        }
        // Of the ReplicaSet's name.
        metadata.remove("generateName");
    }
    if let Some(fields) = pod.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("nodeName");
    }
    forget_node(&mut pod["spec"]);
    forget_token(&mut pod["spec"]);
    pod
}

/// The node that a DaemonSet has its pod bound to.
fn forget_node(spec: &mut Value) {
    let terms = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
                 /nodeSelectorTerms";
    let terms = spec.pointer_mut(terms).and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        let fields = term.get_mut("matchFields").and_then(Value::as_array_mut);
        for field in fields.into_iter().flatten() {
            if field["key"] == "metadata.name" {
                field["values"] = json!(["NODE"]);
            }
        }
    }
}

fn forget_token(spec: &mut Value) {
    let forget = |list: &mut Value| {
        for one in list.as_array_mut().into_iter().flatten() {
            if one["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(TOKEN))
            {
                one["name"] = json!(TOKEN);
            }
        }
    };
    if let Some(volumes) = spec.get_mut("volumes") {
        forget(volumes);
    }
    for kind in ["containers", "initContainers"] {
        let containers = spec.get_mut(kind).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(mounts) = container.get_mut("volumeMounts") {
                forget(mounts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Objects;
    use super::super::tests::{objects, unexplained};
    use super::*;

    /// A pod of a controller, as it is on a node.
    fn of(kind: &str, owner: &str, node: &str, image: &str) -> Value {
        let token = format!("kube-api-access-{node}");
        json!({
            "metadata": {
                "creationTimestamp": node, "generateName": format!("{owner}-"),
                "labels": {"app": "web"},
                "ownerReferences": [{"kind": kind, "name": owner, "controller": true}],
            },
            "spec": {
                "nodeName": node,
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [{
                        "key": "metadata.name", "operator": "In", "values": [node],
                    }]}],
                }}},
                "volumes": [{"name": token}],
                "containers": [{"image": image, "volumeMounts": [{"name": token}]}],
            },
            "status": {"phase": "Running"},
        })
    }

    /// A Deployment's pods, on nodes, by its ReplicaSet.
    fn deployment(name: &str, set: &str, pods: &[(&str, Value)]) -> Objects {
        let owned = json!({"metadata": {"ownerReferences": [{
            "kind": "Deployment", "name": name, "controller": true,
        }]}});
        let mut all = vec![("ReplicaSet", set, "set", owned)];
        for (pod, holds) in pods {
            all.push(("Pod", pod, pod, holds.clone()));
        }
        objects(&all)
    }

    #[test]
    fn pods_move_and_are_the_same() {
        let web = |pods: &[(&str, Value)]| deployment("web", "web-1", pods);
        let pod = |node: &str| of("ReplicaSet", "web-1", node, "web:1");
        let before = web(&[("a", pod("w1")), ("b", pod("w2"))]);
        let moved = web(&[("c", pod("w1")), ("d", pod("w1"))]);
        assert_eq!(unexplained(&before, &moved), Vec::<String>::new());
        // On its way out it is not counted, and neither is what has ended.
        let (mut leaving, mut ended) = (pod("w2"), pod("w2"));
        leaving["metadata"]["deletionTimestamp"] = json!("now");
        ended["status"]["phase"] = json!("Failed");
        let more = [("e", leaving), ("f", ended)];
        let more = [&[("c", pod("w1")), ("d", pod("w1"))][..], &more].concat();
        assert_eq!(unexplained(&before, &web(&more)), Vec::<String>::new());

        let fewer = unexplained(&before, &web(&[("c", pod("w1"))]));
        assert_eq!(fewer, ["Pods of Deployment kube-system/web are 1, were 2"]);
        let none = unexplained(&before, &web(&[]));
        assert_eq!(none, ["Pods of Deployment kube-system/web are 0, were 2"]);
        let new = unexplained(&web(&[]), &before);
        assert_eq!(new, ["Pods of Deployment kube-system/web are new"]);
    }

    #[test]
    fn a_pod_with_another_spec_or_label_is_told() {
        let pod = of("StatefulSet", "db", "w1", "db:1");
        let before = objects(&[("Pod", "db-0", "1", pod.clone())]);
        for (field, value) in [
            ("/spec/containers/0/image", json!("db:2")),
            ("/metadata/labels/app", json!("other")),
            ("/spec/volumes/0/name", json!("data")),
        ] {
            let mut other = pod.clone();
            *other.pointer_mut(field).unwrap() = value;
            let told = unexplained(&before, &objects(&[("Pod", "db-0", "2", other)]));
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(field), "{told:?}");
        }
    }

    #[test]
    fn what_kubeadm_changes_is_explained_for_its_own_pods_alone() {
        let of_set = |name: &str, image: &str| {
            let set = format!("{name}-{image}");
            let mut pod = of("ReplicaSet", &set, "w1", image);
            pod["metadata"]["labels"]["pod-template-hash"] = json!(image);
            deployment(name, &set, &[(image, pod)])
        };
        let differ = |name: &str| {
            let told = pods_told(&of_set(name, "1"), &of_set(name, "2"));
            told.len()
        };
        assert_eq!(differ("coredns"), 0);
        assert_eq!(differ("coredns-like"), 2);
        assert_eq!(differ("web"), 2);
    }

    fn pods_told(before: &Objects, after: &Objects) -> Vec<String> {
        super::unexplained(before, after)
    }

    #[test]
    fn a_static_pod_is_there_again_under_its_name() {
        let etcd = |name: &str, image: &str| {
            objects(&[("Pod", name, image, of("Node", "cp1", "cp1", image))])
        };
        let before = etcd("etcd-cp1", "1");
        assert!(unexplained(&before, &etcd("etcd-cp1", "2")).is_empty());
        let told = unexplained(&before, &etcd("etcd-cp2", "2"));
        let lost = "Pods of Mirror kube-system/etcd-cp1 are 0, were 1";
        assert_eq!(told[0], lost);
        let own = unexplained(&etcd("mine-cp1", "1"), &etcd("mine-cp1", "2"));
        assert_eq!(own.len(), 1, "{own:?}");
    }

    #[test]
    fn a_bare_pod_stays_itself() {
        let bare = |uid: &str| objects(&[("Pod", "bare", uid, json!({}))]);
        assert!(unexplained(&bare("1"), &bare("1")).is_empty());
        let told = unexplained(&bare("1"), &bare("2"));
        assert_eq!(told, ["Pod kube-system/bare is another"]);
        let told = unexplained(&bare("1"), &Objects::new());
        assert_eq!(told, ["Pod kube-system/bare is gone"]);
    }

    #[test]
    fn pods_of_a_cron_job_come_and_go() {
        let job = json!({"metadata": {"ownerReferences": [{
            "kind": "CronJob", "name": "short", "controller": true,
        }]}});
        let pod = of("Job", "short-1", "w1", "short:1");
        let there = objects(&[
            ("Job", "short-1", "1", job),
            ("Pod", "short-1-a", "2", pod.clone()),
        ]);
        assert!(pods_told(&there, &Objects::new()).is_empty());
        let by_hand = objects(&[("Pod", "short-1-a", "2", pod)]);
        assert_eq!(pods_told(&by_hand, &Objects::new()).len(), 1);
    }
}
