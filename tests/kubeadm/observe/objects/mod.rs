//! Every object of a cluster before and after: what is gone, new, another one
//! of the same name, or the same one with other contents or other metadata.

mod explained;
mod fields;
mod pods;

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, VersionMatch};
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client};
use serde_json::Value;

use explained::reason;
use fields::differing;

/// What the server itself counts in an object with every write, whoever made it.
const COUNTED: [&str; 2] = ["resourceVersion", "managedFields"];

/// Kind, namespace, name.
type Key = (String, String, String);

/// Every object as the API has it, without what counts its writes.
pub(crate) type Objects = BTreeMap<Key, Value>;

/// How an object differs from what it was.
#[derive(Clone, Copy, Debug)]
enum Seen<'a> {
    New,
    Gone,
    /// Its name is borne by another one.
    Another,
    /// The same one, where this field was another one.
    Field(&'a str, &'a Value, &'a Value),
}

/// All objects that can be listed, whatever their kind, as they are at one moment:
/// read one kind after the other, a Job could begin between its kind and its pods.
pub(crate) async fn all(client: &Client) -> Objects {
    let mut objects = Objects::new();
    let one = ListParams::default().limit(1);
    let namespace = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
    let namespaces = Api::<DynamicObject>::all_with(client.clone(), &namespace);
    let namespaces = namespaces.list(&one).await;
    let moment = namespaces.unwrap().metadata.resource_version.unwrap();
    // All kinds are in one etcd, so that its revisions are common to them.
    let at_moment = ListParams::default()
        .at(&moment)
        .matching(VersionMatch::Exact);
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let list = api.list(&at_moment).await.unwrap();
            for object in list {
                // What the server makes up for each request has no uid.
                if object.metadata.uid.is_some() {
                    let object = serde_json::to_value(object).unwrap();
                    add(&mut objects, &resource.kind, object);
                }
            }
        }
    }
    objects
}

fn add(objects: &mut Objects, kind: &str, mut object: Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in COUNTED {
            metadata.remove(field);
        }
    }
    let named = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
    let key = (kind.to_owned(), named("namespace"), named("name"));
    objects.insert(key, object);
}

/// How a cluster differs from what it was.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// What nothing explains, one line each.
    pub(crate) unexplained: Vec<String>,
    /// How many there are of a kind for a reason.
    explained: BTreeMap<(String, &'static str), usize>,
}

impl Differences {
    /// Of one object; what it is is told only if nothing explains it.
    fn add(&mut self, key: &Key, seen: Seen<'_>, what: impl FnOnce() -> String) {
        let (kind, namespace, name) = key;
        match reason(key, seen) {
            Some(why) => *self.explained.entry((kind.clone(), why)).or_default() += 1,
            None => {
                let what = what();
                self.unexplained
                    .push(format!("{kind} {namespace}/{name} {what}"));
            }
        }
    }

    /// The table of those that are explained, a line for each kind and reason. Those
    /// of pods are not counted.
    pub(crate) fn table(&self) -> Vec<String> {
        let lines = self.explained.iter();
        lines
            .map(|((kind, why), count)| format!("{count:>6} {kind}: {why}"))
            .collect()
    }
}

/// Pods that a controller or a kubelet makes again are compared by whose they are,
/// all others by name.
pub(crate) fn compare(before: &Objects, after: &Objects) -> Differences {
    let mut found = Differences::default();
    let named = |objects: &Objects| {
        let named = objects.iter();
        let named = named.filter(|(key, object)| key.0 != "Pod" || pods::is_bare(object));
        named
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect::<Objects>()
    };
    let (old, new) = (named(before), named(after));
    for (key, object) in &old {
        match new.get(key) {
            None => found.add(key, Seen::Gone, || "is gone".to_owned()),
            Some(other) if other["metadata"]["uid"] != object["metadata"]["uid"] => {
                found.add(key, Seen::Another, || "is another".to_owned());
            }
            Some(other) => {
                for (field, old, new) in differing(object, other) {
                    found.add(key, Seen::Field(&field, &old, &new), || {
                        format!("has another {field}: {old} -> {new}")
                    });
                }
            }
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        found.add(key, Seen::New, || "is new".to_owned());
    }
    let of_pods = pods::unexplained(before, after);
    found.unexplained.extend(of_pods);
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn unexplained(before: &Objects, after: &Objects) -> Vec<String> {
        compare(before, after).unexplained
    }

    #[test]
    fn what_is_explained_is_counted_with_its_reason() {
        let map = |text: &str| json!({"data": {"kubelet": text}});
        let before = objects(&[
            ("ConfigMap", "kubelet-config", "1", map("old")),
            ("Event", "a", "2", json!({})),
            ("Event", "b", "3", json!({})),
        ]);
        let after = objects(&[("ConfigMap", "kubelet-config", "1", map("new"))]);
        let table = [
            "     1 ConfigMap: kubeadm writes it anew, with the fields of its version",
            "     2 Event: events expire",
        ];
        assert_eq!(compare(&before, &after).table(), table);
        assert_eq!(compare(&before, &before).table(), [""; 0]);
    }

    /// What a cluster has, from its kind, name, uid and what it holds.
    pub(super) fn objects(all: &[(&str, &str, &str, Value)]) -> Objects {
        let mut objects = Objects::new();
        for (kind, name, uid, holds) in all {
            let mut object = holds.clone();
            object["metadata"]["name"] = json!(name);
            object["metadata"]["namespace"] = json!("kube-system");
            object["metadata"]["uid"] = json!(uid);
            add(&mut objects, kind, object);
        }
        objects
    }

    fn one(kind: &str, name: &str, holds: Value) -> Objects {
        objects(&[(kind, name, "1", holds)])
    }

    #[test]
    fn what_nothing_explains_is_told() {
        let data = |text: &str| json!({"data": {"kubelet": text}});
        let before = objects(&[
            ("ConfigMap", "edited", "0", data("old")),
            ("ConfigMap", "kept", "1", data("")),
            ("ConfigMap", "kubelet-config", "1", data("old")),
            ("ConfigMap", "lost", "2", data("")),
            ("ConfigMap", "made-again", "3", data("")),
            ("ReplicaSet", "coredns-1", "5", json!({})),
        ]);
        let after = objects(&[
            ("ConfigMap", "edited", "0", data("new")),
            ("ConfigMap", "kept", "1", data("")),
            ("ConfigMap", "kubelet-config", "1", data("new")),
            ("ConfigMap", "made-again", "30", data("")),
            ("ReplicaSet", "coredns-2", "50", json!({})),
            ("Secret", "found", "6", json!({})),
        ]);
        assert_eq!(
            unexplained(&before, &after),
            [
                r#"ConfigMap kube-system/edited has another /data/kubelet: "old" -> "new""#,
                "ConfigMap kube-system/lost is gone",
                "ConfigMap kube-system/made-again is another",
                "ReplicaSet kube-system/coredns-1 is gone",
                "Secret kube-system/found is new",
            ]
        );
        assert!(unexplained(&before, &before).is_empty());
    }

    #[test]
    fn what_counts_writes_is_no_difference_and_all_other_metadata_is() {
        let was = json!({"metadata": {
            "labels": {"a": "1"}, "annotations": {"b": "2"}, "finalizers": ["c"],
            "ownerReferences": [{"uid": "d"}], "creationTimestamp": "e",
            "resourceVersion": "1", "managedFields": [1],
        }});
        let before = one("Service", "web", was.clone());
        let mut written = was.clone();
        written["metadata"]["resourceVersion"] = json!("2");
        written["metadata"]["managedFields"] = json!([2]);
        assert!(unexplained(&before, &one("Service", "web", written)).is_empty());
        for field in [
            "labels",
            "annotations",
            "finalizers",
            "ownerReferences",
            "creationTimestamp",
        ] {
            let mut other = was.clone();
            other["metadata"].as_object_mut().unwrap().remove(field);
            let told = unexplained(&before, &one("Service", "web", other));
            assert!(told[0].contains(&format!("/metadata/{field}")), "{told:?}");
        }
        let mut more = was;
        more["metadata"]["labels"]["new"] = json!("3");
        let told = unexplained(&before, &one("Service", "web", more));
        assert!(told[0].contains("/metadata/labels/new"), "{told:?}");
    }

    #[test]
    fn only_named_maps_of_kubeadm_may_change_and_only_in_their_keys() {
        let map = |key: &str, text: &str| json!({"data": {key: text}});
        let differ = |name: &str, key: &str| {
            let before = one("ConfigMap", name, map(key, "old"));
            unexplained(&before, &one("ConfigMap", name, map(key, "new"))).len()
        };
        assert_eq!(differ("kubeadm-config", "ClusterConfiguration"), 0);
        assert_eq!(differ("kubeadm-config", "ClusterStatus"), 1);
        assert_eq!(differ("kubelet-config", "kubelet"), 0);
        assert_eq!(differ("kube-proxy", "kubeconfig.conf"), 1);
        assert_eq!(differ("kube-root-ca.crt", "ca.crt"), 1);
        assert_eq!(differ("kubernetes", "kubelet"), 1);
    }

    #[test]
    fn an_endpoint_comes_and_goes_and_its_slice_stays_what_it_was() {
        let slice = |address: &str, generation: u64, port: u16| {
            let object = json!({
                "metadata": {"generation": generation},
                "endpoints": [{"addresses": [address]}], "ports": [{"port": port}],
            });
            one("EndpointSlice", "web-1", object)
        };
        let before = slice("10.0.0.1", 1, 80);
        assert!(unexplained(&before, &slice("10.0.0.2", 2, 80)).is_empty());
        assert!(unexplained(&before, &slice("10.0.0.1", 3, 80)).is_empty());
        assert_eq!(unexplained(&before, &slice("10.0.0.1", 2, 81)).len(), 1);
        assert_eq!(unexplained(&before, &Objects::new()).len(), 1);
    }

    #[test]
    fn roles_of_the_server_may_grow_and_nothing_else() {
        let role = |rules: &[&str]| json!({"rules": rules, "metadata": {"labels": {"a": "b"}}});
        let before = one("ClusterRole", "system:node", role(&["get", "list"]));
        let differ =
            |holds: Value| unexplained(&before, &one("ClusterRole", "system:node", holds)).len();
        assert_eq!(differ(role(&["get", "watch", "list"])), 0);
        assert_eq!(differ(role(&["get", "watch"])), 1);
        assert_eq!(differ(role(&["get"])), 1);
        let rule = json!([{"verbs": ["get"]}]);
        let narrowed = json!([{"verbs": ["get"], "resourceNames": ["one"]}]);
        let [wide, narrow] = [rule, narrowed]
            .map(|rules| one("ClusterRole", "system:node", json!({"rules": rules})));
        assert_eq!(unexplained(&wide, &narrow).len(), 1);
        let mut relabelled = role(&["get", "list"]);
        relabelled["metadata"]["labels"]["a"] = json!("c");
        assert_eq!(differ(relabelled), 1);

        let gone = unexplained(&before, &objects(&[]));
        assert_eq!(gone, ["ClusterRole kube-system/system:node is gone"]);
        let again = objects(&[("ClusterRole", "system:node", "2", role(&["get", "list"]))]);
        assert_eq!(unexplained(&before, &again).len(), 1);
        assert!(unexplained(&objects(&[]), &before).is_empty());
        let own = one("ClusterRole", "mine", role(&["get"]));
        let grown = one("ClusterRole", "mine", role(&["get", "list"]));
        assert_eq!(unexplained(&own, &grown).len(), 1);
    }
}
