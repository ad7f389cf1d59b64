//! Snapshots of real clusters made into embedded ones, and the other way round: what the
//! file says is what the API server says.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use kube::Client;
use migrate_core::{Cancellation, ClusterModel, Moment};
use migrate_etcd::{
    Content, Member, Membership, PartFile, Restore, SnapshotBackup, inspect, objects,
};
use migrate_sim::store::Resource;
use migrate_sim::{Budget, Pool, Scenario, SimCluster, Snapshot, Why, Workload};
use migrate_testbed::{ControlPlane, skip_or_fail};
use serde_json::{Value, json};

use real::cluster::{self, ORIGIN, apply, key, kubectl, list};
use real::figure;
use real::kinds::of_every_kind;

const PATIENCE: Duration = Duration::from_secs(90);

/// Kinds that somebody writes all the time.
const RESTLESS: [&str; 2] = ["Event", "Lease"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_1_36_is_what_its_api_shows() {
    is_what_the_api_shows(36).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_1_37_is_what_its_api_shows() {
    is_what_the_api_shows(37).await;
}

/// Object by object, and as the model that a plan is made of.
async fn is_what_the_api_shows(minor: u32) {
    let Some(plane) = skip_or_fail(ControlPlane::builder().minor(minor).start().await) else {
        return;
    };
    let scenario = scenario();
    cluster::load(&plane, &scenario).await;
    let folder = tempfile::tempdir().unwrap();
    apply(&plane, &of_every_kind()).await;

    // Controllers look at what is new, so that a snapshot may be too old at once.
    let found: Mutex<Option<_>> = Mutex::default();
    let compare = || async {
        let model = model(&plane.client()).await;
        let path = saved(&plane, folder.path()).await;
        let compared = compare_objects(&plane, &path).await?;
        *found.lock().unwrap() = Some((path, model, compared));
        Ok::<_, String>(true)
    };
    let what = "a snapshot that nobody writes after";
    plane.wait_until(what, PATIENCE, compare).await.unwrap();
    let (path, model, compared) = found.into_inner().unwrap().unwrap();
    let shown: Vec<_> = compared
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    println!("equal as JSON: {}", shown.join(", "));
    let all = Resource::ALL.iter().map(|resource| resource.kind);
    let missing: BTreeSet<_> = all
        .filter(|kind| !RESTLESS.contains(kind) && !compared.contains_key(*kind))
        .collect();
    assert!(missing.is_empty(), "none of {missing:?} was compared");
    figure(
        &format!("snapshot.1-{minor}.equal-objects"),
        compared.values().sum::<usize>(),
        "objects",
    );

    let snapshot = Snapshot::read(&path).unwrap();
    for left_out in snapshot.left_out() {
        println!("left out: {left_out}");
        let is_known = matches!(left_out.why, Why::NotServed { .. } | Why::NoObject);
        assert!(is_known, "{left_out}");
    }
    let version = plane
        .client()
        .apiserver_version()
        .await
        .unwrap()
        .git_version;
    let copy = SimCluster::builder().snapshot(snapshot).version(version);
    let copy = copy.start().await.unwrap();
    assert_eq!(differences(&model, &self::model(&copy.client()).await), "");
    // Its controllers find nothing to do either.
    copy.wait_until_settled(Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(differences(&model, &self::model(&copy.client()).await), "");
    plane.stop().await.unwrap();
}

/// The snapshot of an embedded cluster, restored where a real one was: its API server shows
/// the same cluster, and its controllers, which have never heard of it, leave its pods as they
/// are. (Those of StatefulSets and DaemonSets name revisions by what they would have written.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_cluster_goes_on_as_a_real_one() {
    let started = ControlPlane::builder().minor(37).also(36).start().await;
    let Some(plane) = skip_or_fail(started) else {
        return;
    };
    let scenario = deployments();
    let nodes = scenario.node_names().count();
    let cluster = SimCluster::builder()
        .scenario(scenario)
        .start()
        .await
        .unwrap();
    cluster
        .wait_until_settled(Duration::from_secs(300))
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = PartFile::create(folder.path(), "sim.db").await.unwrap();
    let path = cluster.snapshot().unwrap().write(file).await.unwrap().path;
    let embedded = model(&cluster.client()).await;

    let target = inspect(&path).unwrap().storage_version.unwrap();
    let (name, peer) = member_of(&saved(&plane, folder.path()).await);
    let restored = async |data: &Path| {
        let members = Membership::parse(&format!("{name}={peer}"), "embedded").unwrap();
        let restore = Restore::new(&path, data, members, name, target.parse().unwrap());
        let run = tokio::task::spawn_blocking(move || restore.run());
        run.await.unwrap().map(|restored| println!("{restored:?}"))
    };
    plane.lose_etcd(36, restored).await.unwrap();
    assert_eq!(differences(&embedded, &model(&plane.client()).await), "");
    for resource in Resource::ALL
        .iter()
        .filter(|it| !RESTLESS.contains(&it.kind))
    {
        let there: BTreeMap<_, _> = live(&plane, resource).await.into_iter().collect();
        let store = cluster.store();
        for object in store.list(resource, None) {
            let shown = there
                .get(&key(&object.json))
                .unwrap_or_else(|| panic!("{object:?}"));
            assert_eq!(shown["metadata"]["uid"], object.json["metadata"]["uid"]);
        }
    }
    // Its controllers have looked at it once they have done what is new.
    kubectl(
        &plane,
        &["scale", "-n", "shop", "deployment/cart", "--replicas=4"],
    )
    .await;
    cluster::settle(&plane, nodes).await;
    let pods = live(&plane, Resource::PODS).await;
    let uids: BTreeSet<_> = pods
        .iter()
        .map(|(_, pod)| cluster::text(&pod["metadata"]["uid"]))
        .collect();
    let before: BTreeSet<_> = cluster
        .store()
        .list(Resource::PODS, None)
        .map(|pod| pod.uid().to_owned())
        .collect();
    assert!(before.is_subset(&uids), "pods were made anew");
    assert_eq!(uids.len(), before.len() + 1);
    plane.stop().await.unwrap();
}

/// With a workload of each controller that names versions of templates.
fn scenario() -> Scenario {
    deployments()
        .with_workload(Workload::stateful_set("shop", "queue", 2))
        .with_workload(Workload::daemon_set("shop", "logs"))
}

fn deployments() -> Scenario {
    let cart = Workload::deployment("shop", "cart", 3)
        .with_budget(Budget::min_available(2))
        .with_service();
    Scenario::new(ORIGIN)
        .with_pool(Pool::new("general", 3))
        .with_workload(cart)
}

/// Name and peer address of the etcd that a snapshot is of.
fn member_of(path: &Path) -> (String, String) {
    let found = inspect(path).unwrap();
    let [member] = &found.members[..] else {
        panic!("{:?}", found.members);
    };
    (member.name.clone(), member.peer_urls[0].clone())
}

async fn saved(plane: &ControlPlane, folder: &Path) -> PathBuf {
    let path = folder.join("etcd.db");
    let _ = std::fs::remove_file(&path);
    let snapshots = SnapshotBackup::new(Member::new(plane.etcd_endpoint()), folder);
    let saved = snapshots
        .save("etcd.db", &Cancellation::new(), |_, _| {})
        .await;
    saved.unwrap().path
}

async fn model(client: &Client) -> ClusterModel {
    migrate_kube::observe(client, Moment::EPOCH).await.unwrap()
}

/// What the models differ in, by line of their JSON.
fn differences(one: &ClusterModel, other: &ClusterModel) -> String {
    let lines = |model| {
        let text = serde_json::to_string_pretty(model).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, other) = (lines(one), lines(other));
    let differing = one.iter().zip(&other).filter(|(one, other)| one != other);
    let differing = differing.map(|(one, other)| format!("{one} | {other}\n"));
    let mut told: String = differing.take(20).collect();
    if one.len() != other.len() {
        told.push_str(&format!("{} lines | {} lines", one.len(), other.len()));
    }
    told
}

/// The objects of a resource by `namespace/name`, as the API shows them.
async fn live(plane: &ControlPlane, resource: &Resource) -> Vec<(String, Value)> {
    let path = match resource.group {
        "" => format!("/api/v1/{}", resource.plural),
        group => format!("/apis/{group}/{}/{}", resource.version, resource.plural),
    };
    let objects = list(&plane.client(), &path).await.unwrap();
    objects
        .into_iter()
        .map(|object| (key(&object), object))
        .collect()
}

/// Compares every object of the snapshot with the one of the same resourceVersion at the
/// API, as JSON; how many of each kind were. An error if anything was written meanwhile.
async fn compare_objects(
    plane: &ControlPlane,
    path: &Path,
) -> Result<BTreeMap<String, usize>, String> {
    let mut stored = BTreeMap::new();
    let told = objects(path, |object| {
        if let Content::Object {
            object: json,
            unknown,
        } = object.content
        {
            assert!(unknown.is_empty(), "{unknown:?}");
            let kind = cluster::text(&json["kind"]);
            stored.insert((kind, key(&json)), (object.revision, json));
        }
    });
    told.unwrap();
    let mut compared = BTreeMap::new();
    let mut differing = Vec::new();
    for resource in Resource::ALL
        .iter()
        .filter(|it| **it != Resource::EVENTS_V1)
    {
        for (name, mut shown) in live(plane, resource).await {
            let kind = resource.kind.to_owned();
            let Some((revision, json)) = stored.get(&(kind.clone(), name.clone())) else {
                if RESTLESS.contains(&resource.kind) {
                    continue;
                }
                return Err(format!("{kind} {name} is new"));
            };
            let metadata = shown["metadata"].as_object_mut().unwrap();
            let version = metadata.remove("resourceVersion").unwrap();
            if version != json!(revision.to_string()) {
                if RESTLESS.contains(&resource.kind) {
                    continue;
                }
                return Err(format!("{kind} {name} has changed"));
            }
            let mut json = json.clone();
            // A list says both once.
            for field in ["apiVersion", "kind"] {
                json.as_object_mut().unwrap().remove(field);
            }
            without_nulls(&mut shown);
            without_nulls(&mut json);
            if kind == "PersistentVolumeClaim" && json["status"]["phase"].is_null() {
                // An API server fills this in when it reads.
                json["status"]["phase"] = json!("Pending");
            }
            if json != shown {
                differing.push(format!("{kind} {name}: {json} | {shown}"));
            }
            *compared.entry(kind).or_default() += 1;
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    Ok(compared)
}

/// JSON without a field is the same as with `null` in it.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
