//! The embedded cluster as a snapshot of etcd, and made of one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_etcd::{Membership, NewSnapshot, PartFile, ReadError, inspect, object_key};
use migrate_sim::store::{ApiError, Resource, Store};
use migrate_sim::{
    Budget, NodeFault, Pool, Scenario, SimCluster, SimError, Snapshot, Why, Workload, is_settled,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);

async fn saved(cluster: &SimCluster, folder: &Path) -> PathBuf {
    let file = PartFile::replace(folder, "sim.db").await.unwrap();
    cluster.snapshot().unwrap().write(file).await.unwrap().path
}

/// Every object by its key. Kubelets renew their Leases when a cluster begins, whatever
/// was there.
fn objects(store: &Store) -> BTreeMap<String, Value> {
    let all = store
        .resources()
        .filter(|resource| **resource != *Resource::LEASES)
        .flat_map(|resource| store.list(resource, None));
    let keyed = all.map(|object| {
        let resource = object.resource;
        let (group, plural) = (resource.group, resource.plural);
        let key = object_key(group, plural, &object.namespace, &object.name);
        (key, object.json.clone())
    });
    keyed.collect()
}

fn widget(name: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"size": 3},
    })
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true}],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_cluster_goes_on_from_its_snapshot_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 1..4 {
        let cluster = SimCluster::builder()
            .seed(seed)
            .scenario(Scenario::demo().unwrap())
            .object(definition())
            .object(widget("a"));
        let cluster = cluster.start().await.unwrap();
        cluster.wait_until_settled(LIMIT).await.unwrap();
        // The last change leaves no object.
        let deleted = {
            let mut store = cluster.store();
            let object = json!({"metadata": {"name": "late", "namespace": "default"}});
            store.create(Resource::CONFIG_MAPS, object).unwrap();
            let options = migrate_sim::store::DeleteOptions::default();
            store.delete(Resource::CONFIG_MAPS, "default", "late", &options)
        };
        deleted.unwrap();
        let path = saved(&cluster, folder.path()).await;
        let found = inspect(&path).unwrap();
        let before = objects(&cluster.store());
        let revision = cluster.store().resource_version();
        assert_eq!(u64::try_from(found.revision).unwrap(), revision);
        let leases = cluster.store().count(Resource::LEASES);
        assert_eq!(found.keys.alive, (before.len() + leases) as u64);

        let (copy, left_out) = SimCluster::load(&path).await.unwrap();
        assert_eq!(left_out, []);
        let after = objects(&copy.store());
        let differing: Vec<_> = before
            .keys()
            .chain(after.keys())
            .filter(|key| before.get(*key) != after.get(*key))
            .collect();
        assert!(differing.is_empty(), "seed {seed}: {differing:?}");
        assert_eq!(copy.api().version(), cluster.api().version());
        // Who saw the other one is told to list anew.
        let early = copy.store().changes_since(revision - 1).map(|_| ());
        assert!(matches!(early, Err(ApiError::Expired { .. })), "{early:?}");
        let store = copy.store();
        let early = store.changes_of(Resource::PODS, revision - 1).map(|_| ());
        assert!(matches!(early, Err(ApiError::Expired { .. })), "{early:?}");
    }
}

/// Its controllers act on it, and nothing that it makes is taken for what was there.
#[tokio::test(start_paused = true)]
async fn a_copy_lives() {
    let folder = tempfile::tempdir().unwrap();
    let cart = Workload::deployment("shop", "cart", 3).with_budget(Budget::min_available(2));
    let cluster = SimCluster::builder()
        .nodes(Pool::new("general", 3))
        .workload(cart);
    let cluster = cluster.start().await.unwrap();
    cluster.wait_until_settled(LIMIT).await.unwrap();
    let path = saved(&cluster, folder.path()).await;
    let (copy, _) = SimCluster::load(&path).await.unwrap();
    let scale = |spec: &mut Value| spec["spec"]["replicas"] = json!(9);
    copy.store()
        .modify(Resource::DEPLOYMENTS, "shop", "cart", scale)
        .unwrap();
    let has_scaled = |store: &Store| is_settled(store) && store.count(Resource::PODS) == 9;
    copy.wait_until(LIMIT, has_scaled).await.unwrap();
    let store = copy.store();
    let own = |field: &str| {
        let values = store
            .list(Resource::PODS, None)
            .map(|pod| pod.json.pointer(field).unwrap().to_string());
        values.collect::<BTreeSet<_>>().len()
    };
    for field in ["/metadata/uid", "/metadata/name", "/status/podIP"] {
        assert_eq!(own(field), 9, "{field}");
    }
    let uids: Vec<_> = store
        .list(Resource::PODS, None)
        .map(|pod| pod.uid())
        .collect();
    let kept = cluster.store();
    let kept = kept.list(Resource::PODS, None);
    assert!(kept.into_iter().all(|pod| uids.contains(&pod.uid())));
}

/// Names of versions are those of another control plane, which has recorded them.
#[tokio::test(start_paused = true)]
async fn what_another_control_plane_has_made_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = SimCluster::builder()
        .nodes(Pool::new("general", 3))
        .workload(Workload::deployment("shop", "cart", 3).with_service())
        .workload(Workload::stateful_set("shop", "queue", 2))
        .workload(Workload::daemon_set("shop", "logs"));
    let cluster = cluster.start().await.unwrap();
    cluster.wait_until_settled(LIMIT).await.unwrap();

    let mut snapshot = NewSnapshot::new(Membership::parse("m1=http://127.0.0.1:1", "").unwrap());
    let mut revision = 0;
    let mut put = |key: &str, object: &Value| {
        revision += 1;
        snapshot.put(key, object.to_string(), revision);
    };
    let mut hashes = Vec::new();
    for pod in cluster.store().list(Resource::PODS, None) {
        for label in ["pod-template-hash", "controller-revision-hash"] {
            let hash = pod
                .label(label)
                .map(|hash| hash.rsplit('-').next().unwrap().to_owned());
            hashes.extend(hash);
        }
    }
    let renamed = |text: String| {
        hashes
            .iter()
            .fold(text, |text, hash| text.replace(hash, "other"))
    };
    for (key, object) in objects(&cluster.store()) {
        let object = serde_json::from_str(&renamed(object.to_string())).unwrap();
        put(&renamed(key), &object);
    }
    for (resource, name) in [
        (Resource::STATEFUL_SETS, "queue"),
        (Resource::DAEMON_SETS, "logs"),
    ] {
        let set = cluster.store().get(resource, "shop", name).unwrap().clone();
        let mut template = set.json["spec"]["template"].clone();
        template["$patch"] = json!("replace");
        template["metadata"]["creationTimestamp"] = Value::Null;
        let key = format!("/registry/controllerrevisions/shop/{name}-other");
        put(
            &key,
            &json!({
                "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1,
                "metadata": {
                    "name": format!("{name}-other"), "namespace": "shop", "uid": format!("uid-{name}"),
                    "labels": {"controller-revision-hash": "other"},
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": resource.kind, "name": name, "uid": set.uid(), "controller": true,
                    }],
                },
                "data": {"spec": {"template": template}},
            }),
        );
    }
    let file = PartFile::create(folder.path(), "other.db").await.unwrap();
    let path = snapshot.write(file).await.unwrap().path;

    let (copy, left_out) = SimCluster::load(&path).await.unwrap();
    assert_eq!(left_out, []);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let store = copy.store();
    assert!(is_settled(&store));
    let uids = |store: &Store| -> BTreeMap<String, String> {
        let pods = store.list(Resource::PODS, None);
        let named = pods.map(|pod| (pod.uid().to_owned(), renamed(pod.name.clone())));
        named.collect()
    };
    assert_eq!(uids(&store), uids(&cluster.store()));
    for resource in [Resource::REPLICA_SETS, Resource::ENDPOINT_SLICES] {
        assert_eq!(store.count(resource), cluster.store().count(resource));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_silent_is_silent_in_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = SimCluster::builder().nodes(Pool::new("general", 2));
    let cluster = cluster.start().await.unwrap();
    let name = cluster
        .store()
        .list(Resource::NODES, None)
        .next()
        .unwrap()
        .name
        .clone();
    cluster.set_node_fault(&name, NodeFault::Dead);
    let unknown = |store: &Store| {
        let node = store.get(Resource::NODES, "", &name).unwrap();
        let conditions = node.json["status"]["conditions"].as_array().unwrap();
        conditions
            .iter()
            .any(|it| it["type"] == "Ready" && it["status"] == "Unknown")
    };
    cluster.wait_until(LIMIT, &unknown).await.unwrap();
    let path = saved(&cluster, folder.path()).await;
    let (copy, _) = SimCluster::load(&path).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(unknown(&copy.store()));
    copy.set_node_fault(&name, NodeFault::None);
    copy.wait_until(LIMIT, |store| !unknown(store))
        .await
        .unwrap();
}

/// A snapshot with what the cluster cannot have.
#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_told_by_kind_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = SimCluster::builder().nodes(Pool::new("general", 1));
    let cluster = cluster.start().await.unwrap();
    let mut snapshot = cluster.snapshot().unwrap();
    let mut revision = i64::try_from(cluster.store().resource_version()).unwrap();
    let mut put = |key: &str, value: &[u8]| {
        revision += 1;
        snapshot.put(key, value, revision);
    };
    let value = |object: Value| serde_json::to_vec(&object).unwrap();
    // Nobody has defined it.
    for name in ["a", "b"] {
        let key = format!("/registry/example.com/widgets/default/{name}");
        put(&key, &value(widget(name)));
    }
    let other = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                       "metadata": {"name": "marker"}, "handler": "x"});
    put("/registry/runtimeclasses/marker", &value(other));
    put(
        "/registry/secrets/default/marker",
        b"k8s:enc:aescbc:v1:key1:\xff",
    );
    put("/registry/pods/default/marker", b"\xd9\xd9\xf7\xa0");
    put("/registry/pods/default/marker2", b"{\"kind\":");
    put("/registry/ranges/serviceips", b"k8s\0");
    put("compact_rev_key", b"7");
    let file = PartFile::create(folder.path(), "more.db").await.unwrap();
    let path = snapshot.write(file).await.unwrap().path;
    let (copy, left_out) = SimCluster::load(&path).await.unwrap();
    let told: Vec<_> = left_out.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "2 keys: no objects",
            "2 pods: neither JSON nor protobuf that can be read",
            "1 runtimeclasses: the embedded cluster does not serve node.k8s.io/v1 RuntimeClass",
            "1 secrets: encrypted at rest",
            "2 widgets.example.com: the embedded cluster does not serve example.com/v1 Widget",
        ]
    );
    assert!(left_out.iter().any(|it| it.why == Why::Encrypted));
    assert_eq!(copy.store().count(Resource::NODES), 1);
    let snapshot = Snapshot::read(&path).unwrap();
    assert_eq!(
        i64::try_from(snapshot.revision()).unwrap(),
        inspect(&path).unwrap().revision
    );
    assert!(!format!("{snapshot:?} {left_out:?}").contains("marker"));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = SimCluster::builder().nodes(Pool::new("general", 1));
    let cluster = cluster.start().await.unwrap();
    let path = saved(&cluster, folder.path()).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Snapshot::read(&path).unwrap_err();
    assert!(
        matches!(error, SimError::Unreadable(ReadError::Checksum { .. })),
        "{error}"
    );
}
