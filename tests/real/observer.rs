//! Looks at a cluster from outside, as anybody can: by watches and by the audit
//! log. What it saw goes to the rule checker in the order in which the API
//! server did it: resourceVersions are positions in one log of all kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use migrate_sim::rules::{RuleChecker, RuleSettings, Violation};
use migrate_testbed::{AuditEvent, eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::cluster::{key, list, text};

/// The kinds that rules speak of, each with the path of its list.
const KINDS: [(&str, &str, &str); 6] = [
    ("Pod", "v1", "/api/v1/pods"),
    ("Node", "v1", "/api/v1/nodes"),
    ("ReplicaSet", "apps/v1", "/apis/apps/v1/replicasets"),
    ("StatefulSet", "apps/v1", "/apis/apps/v1/statefulsets"),
    ("Deployment", "apps/v1", "/apis/apps/v1/deployments"),
    (
        "PodDisruptionBudget",
        "policy/v1",
        "/apis/policy/v1/poddisruptionbudgets",
    ),
];
/// Between two looks, or after a watch broke off.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a watch is kept, in seconds, and an answer is waited for. A server whose
/// machine loses its power ends no connection: who waits there would wait for ever.
const WATCH: u32 = 30;
const ANSWER: Duration = Duration::from_secs(10);

/// Watches a cluster from its start until [`finish`](Self::finish).
pub(crate) struct Observer {
    client: Client,
    record: Arc<Mutex<Record>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What an observer concluded.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// Changes it saw.
    pub(crate) changes: usize,
    /// Evictions that the API server accepted.
    pub(crate) evictions: usize,
}

#[derive(Default)]
struct Record {
    changes: Vec<Change>,
    /// What there is now, by kind and key.
    current: BTreeMap<&'static str, BTreeMap<String, Value>>,
}

/// An object as it was after a change, or before it was deleted.
pub(crate) struct Change {
    /// Position in the API server's log.
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) object: Value,
    pub(crate) deleted: bool,
}

impl Observer {
    /// Begins to look. Returns when everything that is there has been seen.
    pub(crate) async fn start(client: Client) -> Self {
        let record = Arc::<Mutex<Record>>::default();
        let mut tasks = Vec::new();
        for (kind, version, path) in KINDS {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let plural = path.rsplit('/').next().unwrap();
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            let api = Api::all_with(client.clone(), &resource);
            tasks.push(tokio::spawn(follow(api, kind, Arc::clone(&record))));
        }
        tasks.push(tokio::spawn(follow_version(
            client.clone(),
            Arc::clone(&record),
        )));
        let observer = Self {
            client,
            record,
            tasks,
        };
        observer.catch_up().await;
        observer
    }

    /// Looks until all that has happened so far is seen; in its order.
    pub(crate) async fn changes(self) -> Vec<Change> {
        self.catch_up().await;
        for task in &self.tasks {
            task.abort();
        }
        let mut changes = std::mem::take(&mut lock(&self.record).changes);
        // Stable: a list brings what belongs to one position in its order.
        changes.sort_by_key(|change| change.at);
        changes
    }

    /// Looks until all that has happened so far is seen, then judges it.
    pub(crate) async fn finish(self, settings: RuleSettings, audit: &[AuditEvent]) -> Verdict {
        let changes = self.changes().await;
        let mut checker = RuleChecker::new(settings);
        let accepted = audit.iter().filter(|event| event.is_accepted_eviction());
        let evictions = accepted.clone().count();
        // Of a runner that was killed while it asked: its pod may be gone.
        let unsettled = audit.iter().filter(|event| event.is_unsettled_eviction());
        // An eviction that names no uid excuses no pod.
        let named = accepted.chain(unsettled);
        let evicted: BTreeSet<&str> = named.filter_map(|event| event.evicted_uid()).collect();
        for uid in &evicted {
            checker.eviction_accepted(uid);
        }
        for uid in struck_by_kwok(&changes, audit, &evicted) {
            checker.eviction_accepted(uid);
        }
        show(&mut checker, &changes);
        Verdict {
            violations: checker.finish(),
            changes: changes.len(),
            evictions,
        }
    }

    /// Waits until everything that is there now, or newer, has been seen.
    async fn catch_up(&self) {
        eventually("the observer to catch up", Duration::from_secs(30), || {
            self.is_up_to_date()
        })
        .await
        .unwrap();
    }

    async fn is_up_to_date(&self) -> Result<bool, String> {
        if !lock(&self.record).current.contains_key(API_SERVER) {
            return Err("the API server's version is not known".to_owned());
        }
        for (kind, _, path) in KINDS {
            let there = list(&self.client, path).await?;
            let record = lock(&self.record);
            let Some(seen) = record.current.get(kind) else {
                return Err(format!("no {kind} seen"));
            };
            for object in &there {
                let name = key(object);
                if seen
                    .get(&name)
                    .is_none_or(|seen| version(seen) < version(object))
                {
                    return Err(format!("{kind} {name} is newer than seen"));
                }
            }
            if seen.len() > there.len() {
                return Err(format!(
                    "{} {kind} are there and {} seen",
                    there.len(),
                    seen.len()
                ));
            }
        }
        Ok(true)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Record {
    fn applied(&mut self, kind: &'static str, object: Value) {
        let seen = self.current.entry(kind).or_default();
        let before = seen.insert(key(&object), object.clone());
        if before.is_some_and(|before| version(&before) >= version(&object)) {
            return;
        }
        let at = version(&object);
        self.changes.push(Change {
            at,
            kind,
            object,
            deleted: false,
        });
    }

    fn deleted(&mut self, kind: &'static str, object: Value, at: u64) {
        self.current.entry(kind).or_default().remove(&key(&object));
        self.changes.push(Change {
            at,
            kind,
            object,
            deleted: true,
        });
    }

    /// These are all there are: what is not among them is gone, at the time of
    /// the newest of them at the latest.
    fn listed(&mut self, kind: &'static str, objects: Vec<Value>) {
        let newest = objects.iter().map(version).max().unwrap_or(0);
        let mut gone = self.current.entry(kind).or_default().clone();
        for object in &objects {
            gone.remove(&key(object));
        }
        for object in gone.into_values() {
            let at = newest.max(version(&object));
            self.deleted(kind, object, at);
        }
        for object in objects {
            self.applied(kind, object);
        }
    }
}

/// Uids of pods that nobody asked to go: kwok removes a pod that has ended by its
/// name, often twice, and the second time hits the next pod of a StatefulSet.
///
/// Those are as many of a name as kwok has removed pods of it beyond the ones
/// that were evicted or that somebody had told to go, and they were never seen
/// terminating with a grace, as a pod deleted by anybody else is.
fn struck_by_kwok<'a>(
    changes: &'a [Change],
    audit: &[AuditEvent],
    evicted: &BTreeSet<&str>,
) -> Vec<&'a str> {
    let uid = |change: &'a Change| change.object["metadata"]["uid"].as_str().unwrap_or("");
    let mut removed: BTreeMap<String, usize> = BTreeMap::new();
    for event in audit {
        let by_kwok = event.user.username == "testbed:kwok" && event.verb == "delete";
        if let Some(object) = &event.object_ref
            && by_kwok
            && event.is_for("pods")
            && event.code() == 200
        {
            let name = format!("{}/{}", object.namespace, object.name);
            *removed.entry(name).or_default() += 1;
        }
    }
    let mut told: BTreeSet<&str> = evicted.clone();
    let mut ended: BTreeMap<&str, String> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.kind == "Pod") {
        if change.deleted {
            ended.insert(uid(change), key(&change.object));
        } else if change.object["metadata"]["deletionGracePeriodSeconds"].as_u64() > Some(0) {
            told.insert(uid(change));
        }
    }
    for (_, name) in ended.iter().filter(|(uid, _)| told.contains(*uid)) {
        if let Some(left) = removed.get_mut(name) {
            *left = left.saturating_sub(1);
        }
    }
    ended.retain(|uid, name| {
        let left = removed.get_mut(name).filter(|left| **left > 0);
        let struck = !told.contains(uid) && left.is_some();
        if let Some(left) = left.filter(|_| struck) {
            *left -= 1;
        }
        struck
    });
    ended.into_keys().collect()
}

/// Shows changes to a checker.
pub(crate) fn show(checker: &mut RuleChecker, changes: &[Change]) {
    for change in changes {
        if change.deleted {
            checker.deleted(change.kind, &change.object);
        } else {
            checker.applied(change.kind, &change.object);
        }
    }
}

/// Follows one kind for ever. A watch that breaks off goes on where it was.
async fn follow(api: Api<DynamicObject>, kind: &'static str, record: Arc<Mutex<Record>>) {
    let mut events = pin!(watcher(api, watcher::Config::default().timeout(WATCH)));
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(object)) => listing.push(value(object)),
            Ok(Event::InitDone) => lock(&record).listed(kind, std::mem::take(&mut listing)),
            Ok(Event::Apply(object)) => lock(&record).applied(kind, value(object)),
            Ok(Event::Delete(object)) => {
                let object = value(object);
                let at = version(&object);
                lock(&record).deleted(kind, object, at);
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Key of the API server's version in the record; no real kind.
const API_SERVER: &str = "API server";

/// Shows the API server's version to the checker as clusters show it: as the
/// image of a static pod. A version counts from the first look that saw it, so
/// whatever used it before that look is reported rather than missed.
async fn follow_version(client: Client, record: Arc<Mutex<Record>>) {
    let mut last = String::new();
    loop {
        let looks = async { (client.apiserver_version().await, position(&client).await) };
        if let Ok((Ok(version), Ok(at))) = tokio::time::timeout(ANSWER, looks).await
            && version.git_version != last
        {
            last = version.git_version;
            let pod = json!({
                "metadata": {
                    "namespace": "kube-system", "name": "kube-apiserver", "uid": "kube-apiserver",
                    "labels": {"component": "kube-apiserver"},
                    "annotations": {"kubernetes.io/config.mirror": "seen from outside"},
                    "resourceVersion": at.to_string(),
                },
                "spec": {"containers": [{"image": format!("kube-apiserver:{last}")}]},
            });
            let mut record = lock(&record);
            record.current.entry(API_SERVER).or_default();
            record.changes.push(Change {
                at,
                kind: "Pod",
                object: pod,
                deleted: false,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The newest position in the API server's log.
async fn position(client: &Client) -> Result<u64, kube::Error> {
    let gvk = GroupVersionKind::gvk("", "v1", "Namespace");
    let namespaces: Api<DynamicObject> =
        Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk));
    let list = namespaces
        .list(&kube::api::ListParams::default().limit(1))
        .await?;
    Ok(list
        .metadata
        .resource_version
        .and_then(|at| at.parse().ok())
        .unwrap_or(0))
}

fn value(mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    serde_json::to_value(object).unwrap()
}

fn version(object: &Value) -> u64 {
    text(&object["metadata"]["resourceVersion"])
        .parse()
        .unwrap_or(0)
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
