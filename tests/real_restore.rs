//! The etcd of a real control plane is lost, and a backup restored in its place, while
//! informers and controllers of this process and others live on: all of them are told, and
//! converge. The negative control is the same without a raised revision.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::Client as Etcd;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, reflector};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use migrate_core::Cancellation;
use migrate_etcd::{Member, Membership, Restore, SnapshotBackup, inspect};
use migrate_sim::{Pool, Scenario, Workload};
use migrate_testbed::{ControlPlane, skip_or_fail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use real::cluster::{self, ORIGIN, condition, key, kubectl, list};
use real::figure;

const NODES: usize = 3;
const NAMESPACE: &str = "shop";
/// Writes between backup and loss, of an ordinary test.
const WRITES: u64 = 5_000;
const MANY_WRITES: u64 = 2_000_000;
/// Under which nothing is an object.
const PREFIX: &str = "/no-registry/";
/// Connections that write, and requests under way on each.
const WRITERS: u64 = 4;
const AT_ONCE: usize = 64;
/// How long an informer may take to hold what the API has: it waits up to half a minute
/// between two attempts while nobody answers.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is watched: kind, version, path of the list, and an object of it that is changed.
const KINDS: [(&str, &str, &str, &str); 4] = [
    ("ConfigMap", "v1", "/api/v1/configmaps", "configmap/kept"),
    (
        "Deployment",
        "apps/v1",
        "/apis/apps/v1/deployments",
        "deployment/stays",
    ),
    ("Service", "v1", "/api/v1/services", "service/stays"),
    ("Node", "v1", "/api/v1/nodes", "nodes"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_frozen_when_the_older_minor_is_restored() {
    survives(36, Some(37), WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_frozen_where_controllers_live_on() {
    survives(37, None, WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; part of cargo xtask extended"]
async fn nobody_is_frozen_after_two_million_writes_on_1_36() {
    survives(36, None, MANY_WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; part of cargo xtask extended"]
async fn nobody_is_frozen_after_two_million_writes_on_1_37() {
    survives(37, None, MANY_WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_restores_without_raising_the_revision_is_not_heard_on_1_37() {
    misses(37).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute; part of cargo xtask extended"]
async fn who_restores_without_raising_the_revision_is_not_heard_on_1_36() {
    misses(36).await;
}

/// A backup at one minor version, much that comes after it, also another version, and
/// the backup restored at the first one.
async fn survives(minor: u32, then: Option<u32>, writes: u64) {
    let Some(shop) = Shop::open(minor, then).await else {
        return;
    };
    let name = format!(
        "restore.{minor}{}.{writes}",
        then.map_or(String::new(), |_| "-again".to_owned())
    );
    if let Some(then) = then {
        shop.plane.swap_to(then).await.unwrap();
    }
    // Informers have seen what comes after all of them.
    let took = shop.write(writes).await;
    figure(&format!("{name}.writes"), took.as_secs_f64(), "s");
    shop.goes_on().await;
    let lists = shop.lists();

    let began = Instant::now();
    shop.restore(minor, |restore| restore).await;
    figure(
        &format!("{name}.api-away"),
        began.elapsed().as_secs_f64(),
        "s",
    );
    shop.informers_are_right().await;
    figure(
        &format!("{name}.informers"),
        began.elapsed().as_secs_f64(),
        "s",
    );
    for (.., object) in KINDS {
        let mut words = vec!["annotate", "-n", NAMESPACE, object, "after=the-restore"];
        words.extend((object == "nodes").then_some("--all"));
        kubectl(&shop.plane, &words).await;
    }
    shop.informers_are_right().await;
    let relisted = shop
        .lists()
        .iter()
        .zip(&lists)
        .filter(|(now, before)| now > before)
        .count();
    figure(&format!("{name}.relisted"), relisted, "informers");

    // Everything is as at the backup, and goes on from there.
    cluster::settle(&shop.plane, NODES).await;
    let of_each = ["gone", "scaled", "stays"].map(|name| (name.to_owned(), 2));
    assert_eq!(shop.replicas().await, BTreeMap::from(of_each));
    shop.delete_pods_of("gone").await;
    let scale = ["scale", "-n", NAMESPACE, "deployment/stays", "--replicas=3"];
    kubectl(&shop.plane, &scale).await;
    shop.await_pods("gone", 2).await;
    shop.await_pods("stays", 3).await;
    figure(
        &format!("{name}.converged"),
        began.elapsed().as_secs_f64(),
        "s",
    );
    shop.informers_are_right().await;
    shop.plane.stop().await.unwrap();
}

/// The same, and the revision stays what it was.
async fn misses(minor: u32) {
    let Some(shop) = Shop::open(minor, None).await else {
        return;
    };
    // Informers have to be further than an API server gets by what it writes at its start.
    shop.write(1_000).await;
    shop.goes_on().await;
    let seen = shop.revision().await;
    shop.restore(minor, Restore::keeping_revision).await;
    let early = ["create", "configmap", "early", "-n", NAMESPACE];
    kubectl(&shop.plane, &early).await;

    // Once there is more than they have seen they hear again, of what comes then.
    let now = shop.revision().await;
    assert!(
        now < seen,
        "{now} of {seen}: nothing was left to be waited for"
    );
    shop.write(u64::try_from(seen - now).unwrap() + 1_000).await;
    shop.delete_pods_of("gone").await;
    for words in [
        &["configmap", "marker"][..],
        &["service", "clusterip", "marker", "--tcp=80"],
        &["deployment", "marker", "--image=main"],
    ] {
        kubectl(&shop.plane, &[&["create", "-n", NAMESPACE], words].concat()).await;
    }
    shop.await_pods("marker", 1).await;
    let marker = format!("{NAMESPACE}/marker");
    let [configs, _, services, _] = &shop.informers[..] else {
        panic!("an informer of each kind");
    };
    // One that came, and two that came back.
    for (informer, missed) in [(configs, "early"), (configs, "kept"), (services, "gone")] {
        let what = format!("{} to hear of the marker", informer.path);
        let hears = || async { Ok::<_, String>(informer.held().contains_key(&marker)) };
        shop.plane.wait_until(&what, PATIENCE, hears).await.unwrap();
        let missed = format!("{NAMESPACE}/{missed}");
        let there = informer.there(&shop.plane.client()).await.unwrap();
        assert!(there.contains_key(&missed), "{missed} is there");
        assert!(!informer.held().contains_key(&missed), "{missed}: heard");
    }
    // A controller may have listed anew: that depends on the first error it met.
    let made_again = shop.pods_of("gone").await.unwrap().len();
    figure(
        &format!("restore.{minor}.not-raised.made-again"),
        made_again,
        "pods of 2",
    );
    shop.plane.stop().await.unwrap();
}

/// A control plane with Deployments `stays`, `gone` and `scaled`, informers that have
/// seen all of it, and a backup.
struct Shop {
    plane: ControlPlane,
    informers: Vec<Informer>,
    backup: PathBuf,
    folder: TempDir,
}

impl Shop {
    async fn open(minor: u32, also: Option<u32>) -> Option<Self> {
        let builder = ControlPlane::builder().minor(minor);
        let builder = also
            .into_iter()
            .fold(builder, |builder, minor| builder.also(minor));
        let plane = skip_or_fail(builder.start().await)?;
        let mut scenario = Scenario::new(ORIGIN).with_pool(Pool::new("general", NODES as u32));
        for name in ["stays", "gone", "scaled"] {
            let mut workload = Workload::deployment(NAMESPACE, name, 2).with_service();
            workload.stop_seconds = Some(1);
            scenario = scenario.with_workload(workload);
        }
        cluster::load(&plane, &scenario).await;
        kubectl(&plane, &["create", "configmap", "kept", "-n", NAMESPACE]).await;
        let folder = tempfile::tempdir().unwrap();
        let informers = KINDS
            .map(|(kind, version, path, _)| Informer::start(plane.client(), kind, version, path));
        let mut shop = Self {
            plane,
            informers: informers.into(),
            backup: PathBuf::new(),
            folder,
        };
        shop.informers_are_right().await;
        let member = Member::new(shop.plane.etcd_endpoint());
        let snapshots = SnapshotBackup::new(member, shop.folder.path());
        let cancel = Cancellation::new();
        let saved = snapshots.save("etcd.db", &cancel, |_, _| {}).await;
        shop.backup = saved.unwrap().path;
        Some(shop)
    }

    /// What the backup does not have, seen by informers and controllers.
    async fn goes_on(&self) {
        kubectl(
            &self.plane,
            &["delete", "deployment", "gone", "-n", NAMESPACE],
        )
        .await;
        for object in ["configmap/kept", "service/gone"] {
            kubectl(&self.plane, &["delete", object, "-n", NAMESPACE]).await;
        }
        let create = [
            "create",
            "deployment",
            "late",
            "-n",
            NAMESPACE,
            "--image=main",
        ];
        kubectl(&self.plane, &create).await;
        kubectl(
            &self.plane,
            &[
                "scale",
                "-n",
                NAMESPACE,
                "deployment/scaled",
                "--replicas=4",
            ],
        )
        .await;
        for (app, pods) in [("gone", 0), ("late", 1), ("scaled", 4)] {
            self.await_pods(app, pods).await;
        }
        self.informers_are_right().await;
    }

    /// Writes to etcd, each a revision of its own.
    async fn write(&self, count: u64) -> Duration {
        let began = Instant::now();
        let writer = async |first: u64| {
            let client = Etcd::connect([self.plane.etcd_endpoint()], None).await?;
            let puts = (first..count).step_by(WRITERS as usize).map(|number| {
                let mut client = client.kv_client();
                async move {
                    client
                        .put(format!("{PREFIX}{}", number % 1000), "x", None)
                        .await
                }
            });
            let puts = futures::stream::iter(puts).buffer_unordered(AT_ONCE);
            puts.try_for_each(|_| async { Ok(()) }).await
        };
        let writers = (0..WRITERS).map(writer);
        futures::future::try_join_all(writers).await.unwrap();
        began.elapsed()
    }

    async fn revision(&self) -> i64 {
        let mut client = Etcd::connect([self.plane.etcd_endpoint()], None)
            .await
            .unwrap();
        let got = client.get(PREFIX, None).await.unwrap();
        got.header().unwrap().revision()
    }

    /// etcd is lost, and the backup takes its place.
    async fn restore(&self, minor: u32, how: impl FnOnce(Restore) -> Restore) {
        let found = inspect(&self.backup).unwrap();
        let [member] = &found.members[..] else {
            panic!("{:?}", found.members);
        };
        let members = format!("{}={}", member.name, member.peer_urls[0]);
        let members = Membership::parse(&members, "restored").unwrap();
        let target = found.storage_version.unwrap().parse().unwrap();
        let restore = async |data: &Path| {
            let restore = how(Restore::new(
                &self.backup,
                data,
                members,
                &member.name,
                target,
            ));
            let restored = tokio::task::spawn_blocking(move || restore.run());
            restored
                .await
                .unwrap()
                .map(|restored| println!("{restored:?}"))
        };
        self.plane.lose_etcd(minor, restore).await.unwrap();
    }

    fn lists(&self) -> Vec<u64> {
        let lists = self.informers.iter().map(|informer| &informer.lists);
        lists.map(|lists| lists.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every informer holds what the API has.
    async fn informers_are_right(&self) {
        let client = self.plane.client();
        for informer in &self.informers {
            let what = format!("the informer of {} to be right", informer.path);
            let is_right = || async {
                let (held, there) = (informer.held(), informer.there(&client).await?);
                match held == there {
                    true => Ok(true),
                    false => Err(format!("it holds {held:?}, there are {there:?}")),
                }
            };
            self.plane
                .wait_until(&what, PATIENCE, is_right)
                .await
                .unwrap();
        }
    }

    /// Replicas by Deployment, as the API has them.
    async fn replicas(&self) -> BTreeMap<String, u64> {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        let deployments = list(&self.plane.client(), &path).await.unwrap();
        let replicas = deployments.iter().map(|it| {
            let name = it["metadata"]["name"].as_str().unwrap();
            (name.to_owned(), it["spec"]["replicas"].as_u64().unwrap())
        });
        replicas.collect()
    }

    async fn pods_of(&self, app: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let mut pods = list(&self.plane.client(), &path).await?;
        pods.retain(|pod| pod["metadata"]["labels"]["app"] == app);
        Ok(pods)
    }

    /// Waits for so many pods, all of them Ready, and none more.
    async fn await_pods(&self, app: &str, count: usize) {
        let what = format!("{count} pods of {app}");
        let are_there = || async {
            let pods = self.pods_of(app).await?;
            let ready = pods
                .iter()
                .filter(|pod| condition(pod, "Ready") == "True")
                .count();
            match (pods.len(), ready) == (count, count) {
                true => Ok(true),
                false => Err(format!("{ready} of {} are ready", pods.len())),
            }
        };
        self.plane
            .wait_until(&what, PATIENCE, are_there)
            .await
            .unwrap();
    }

    /// Takes them out of the API, whatever their kubelets have heard.
    async fn delete_pods_of(&self, app: &str) {
        let app = format!("app={app}");
        let delete = ["delete", "pods", "-n", NAMESPACE, "-l", &app, "--force"];
        kubectl(&self.plane, &delete).await;
    }
}

/// What every client of the API has: a cache of a kind that is listed once and then watched.
struct Informer {
    path: &'static str,
    store: Store<DynamicObject>,
    /// How often it has listed.
    lists: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Informer {
    fn start(client: Client, kind: &str, version: &str, path: &'static str) -> Self {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let writer = Writer::new(kind.clone());
        let store = writer.as_reader();
        let lists = Arc::<AtomicU64>::default();
        let api = Api::<DynamicObject>::all_with(client, &kind);
        let counted = Arc::clone(&lists);
        let task = tokio::spawn(async move {
            let watch = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = pin!(reflector(writer, watch));
            while let Some(event) = events.next().await {
                if matches!(event, Ok(watcher::Event::InitDone)) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self {
            path,
            store,
            lists,
            task,
        }
    }

    /// Versions of the objects that it holds.
    fn held(&self) -> BTreeMap<String, String> {
        let objects = self.store.state();
        let entry = |object: &Arc<DynamicObject>| {
            let name = match (object.namespace(), object.name_any()) {
                (Some(namespace), name) => format!("{namespace}/{name}"),
                (None, name) => name,
            };
            (name, object.resource_version().unwrap_or_default())
        };
        objects.iter().map(entry).collect()
    }

    /// Versions of the objects that there are.
    async fn there(&self, client: &Client) -> Result<BTreeMap<String, String>, String> {
        let objects = list(client, self.path).await?;
        let entry = |object: &Value| {
            (
                key(object),
                cluster::text(&object["metadata"]["resourceVersion"]),
            )
        };
        Ok(objects.iter().map(entry).collect())
    }
}

impl Drop for Informer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
