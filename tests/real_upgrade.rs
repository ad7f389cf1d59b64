//! The proof of the protocol: a dry run and a whole upgrade of a real control
//! plane from 1.36 to 1.37 with 31 simulated nodes, judged from outside.
//!
//! kwok nodes only change a version string: what is proven is how the tool
//! talks to the API, not that a machine survives.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kube::Client;
use migrate_core::steps::BackupReport;
use migrate_core::{Addon, BackUpData, Point, StepContext, StepError, StepInput};
use migrate_drain::Drainer;
use migrate_etcd::{Member, SnapshotBackup};
use migrate_executor::{Position, Report, RunOutcome};
use migrate_sim::Scenario;
use migrate_sim::rules::RuleSettings;
use migrate_testbed::{ControlPlane, Identity, skip_or_fail};
use serde_json::{Value, json};
use tokio::time::Instant;

use real::cluster::{self, TARGET};
use real::observer::Observer;
use real::program::{self, Bench};
use real::run::{self, Parts};
use real::{audit, figure};

const RUNNER: &str = "runner";
/// On the API's copy of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// A node that somebody had cordoned before.
const FOREIGN: &str = "general-9";
/// Where the nodes of the scenario are.
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
const POLICY: &str = r#"
waive = ["KM-BACKUP-001"]
[pools]
max-unavailable = 3
[consent]
bare-pods = true
[deadlines]
drain = 120
verify = 60
"#;

/// What is granted and this run cannot use, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("get /openid/v1/jwks", "only a backup of nodes reads it"),
    (
        "get configmaps kube-root-ca.crt kube-system",
        "only a backup of nodes reads it",
    ),
    (
        "list endpointslices.discovery.k8s.io",
        "only where a webhook must answer",
    ),
    (
        "list machinehealthchecks.cluster.x-k8s.io",
        "not served here",
    ),
    (
        "list machinehealthchecks.machine.openshift.io",
        "not served here",
    ),
    ("list nodepools.karpenter.sh", "not served here"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_control_plane_with_31_nodes_is_upgraded() {
    let began = Instant::now();
    let builder = ControlPlane::builder().minor(36).also(37).audit(true);
    let Some(plane) = skip_or_fail(builder.start().await) else {
        return;
    };
    let scenario: Scenario = include_str!("scenarios/real.toml").parse().unwrap();
    cluster::load(&plane, &scenario).await;
    load_the_rest(&plane).await;
    cluster::kubectl(&plane, &["cordon", FOREIGN]).await;
    assert_sizes(&plane.client()).await;
    figure("real.setup", began.elapsed().as_secs_f64(), "s");

    a_dry_run_changes_nothing(&plane).await;
    a_check_changes_nothing(&plane).await;
    the_upgrade_breaks_no_rule(&plane).await;
    a_second_run_has_nothing_to_do(&plane).await;
}

/// What scenarios have no words for: a ReplicationController, whose objects nobody
/// here reads, so that only its pods are counted; and static pods of two workers,
/// as their kubelets would show them.
async fn load_the_rest(plane: &ControlPlane) {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": { "name": "legacy", "namespace": "default" },
        "spec": {
            "replicas": 3,
            "selector": { "app": "legacy" },
            "template": {
                "metadata": { "labels": { "app": "legacy" } },
                "spec": { "containers": [{ "name": "main", "image": "legacy" }] },
            },
        },
    })];
    objects.extend(["general-1", "batch-1"].map(|node| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("static-{node}"),
                "namespace": "default",
                "annotations": { MIRROR: "0" },
            },
            "spec": {
                "nodeName": node,
                "containers": [{ "name": "main", "image": "static" }],
            },
        })
    }));
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), list.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    cluster::kubectl(plane, &["create", "-f", path]).await;
    let client = plane.client();
    migrate_testbed::eventually("its pods", Duration::from_secs(60), || async {
        let pods = cluster::list(&client, "/api/v1/namespaces/default/pods").await;
        let ready = |pod: &&Value| cluster::condition(pod, "Ready") == "True";
        Ok::<_, String>(pods.unwrap().iter().filter(ready).count() >= 5)
    })
    .await
    .unwrap();
}

/// The cluster is as large and as varied as the proof claims.
async fn assert_sizes(client: &Client) {
    let count = async |path| cluster::list(client, path).await.unwrap();
    let pods = count("/api/v1/pods").await;
    let owner = |pod: &Value| {
        let kind = pod.pointer("/metadata/ownerReferences/0/kind");
        kind.and_then(|kind| kind.as_str())
            .unwrap_or("none")
            .to_owned()
    };
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for pod in &pods {
        *kinds.entry(owner(pod)).or_default() += 1;
    }
    let all = [
        "DaemonSet",
        "Job",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
        "none",
    ];
    assert!(kinds.keys().eq(all), "{kinds:?}");
    let mirror = |pod: &&Value| !pod["metadata"]["annotations"][MIRROR].is_null();
    assert_eq!(pods.iter().filter(mirror).count(), 2);
    let budgets = count("/apis/policy/v1/poddisruptionbudgets").await;
    let mut workloads = count("/apis/apps/v1/deployments").await;
    workloads.extend(count("/apis/apps/v1/statefulsets").await);
    let several = workloads
        .iter()
        .filter(|workload| workload["spec"]["replicas"].as_u64() >= Some(2));
    let guarded: Vec<String> = budgets.iter().map(cluster::key).collect();
    let bare = several
        .filter(|workload| !guarded.contains(&cluster::key(workload)))
        .count();
    let nodes = count("/api/v1/nodes").await;
    let zone = |node: &Value| {
        let labels = &node["metadata"]["labels"];
        cluster::text(&labels["topology.kubernetes.io/zone"])
    };
    let zones: BTreeSet<String> = nodes.iter().map(zone).collect();
    assert!(zones.iter().eq(&ZONES), "{zones:?}");
    for (what, have, wanted) in [
        ("nodes", nodes.len(), 30),
        ("pods", pods.len(), 300),
        ("budgets", budgets.len(), 20),
        ("workloads without a budget", bare, 10),
    ] {
        assert!(have >= wanted, "{have} {what}, {wanted} wanted");
        figure(&format!("real.{}", what.replace(' ', "-")), have, "1");
    }
}

async fn a_dry_run_changes_nothing(plane: &ControlPlane) {
    // Rights to everything: what keeps it from changing anything is itself.
    let user = Identity::new("dry-runner").with_group("system:masters");
    let bench = Bench::new();
    let policy = bench.write("policy.toml", POLICY);
    let hook = bench.bookkeeping(Path::new("/bin/false"));
    let mut command = bench.program(plane.kubeconfig_for(&user).unwrap());
    command
        .args(["--to", TARGET, "--dry-run", "--policy"])
        .arg(policy);
    command.arg("--node-hook").arg(&hook);
    command.arg("--control-plane-hook").arg(&hook);
    command.args(["--etcd", &plane.etcd_endpoint()]);
    let ended = program::finish(&mut command).await;
    assert!(ended.status.success(), "{}", ended.said());

    let events = audit::all(plane);
    assert!(
        audit::of(&events, "dry-runner").len() > 10,
        "it looked at the cluster"
    );
    // Every request with a verb that changes is a review of itself or a dry run.
    let changes = audit::mutations(&events, "dry-runner");
    assert_eq!(audit::lines(changes), Vec::<String>::new());
    let mut rehearsed = audit::of(&events, "dry-runner");
    rehearsed.retain(|event| event.is_for("pods/eviction"));
    assert!(rehearsed.iter().all(|event| event.is_dry_run()));
    figure("real.rehearsed-evictions", rehearsed.len(), "1");
    assert!(rehearsed.len() > 150, "{} evictions", rehearsed.len());
    for says in ["Evictions rehearsed", "would be let go now"] {
        assert!(ended.out.contains(says), "{}", ended.said());
    }
    assert_eq!(bench.hook_calls(), [], "no hook was called");
    let mut left: Vec<_> = std::fs::read_dir(bench.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["hook", "policy.toml"], "it left nothing behind");
    // A call would have been seen.
    tokio::process::Command::new(hook).status().await.unwrap();
    assert_eq!(bench.hook_calls().len(), 1);
}

async fn a_check_changes_nothing(plane: &ControlPlane) {
    // Rights to everything: what keeps it from changing anything is itself.
    let user = Identity::new("checker").with_group("system:masters");
    let bench = Bench::new();
    let policy = bench.write("policy.toml", POLICY);
    let mut command = bench.program(plane.kubeconfig_for(&user).unwrap());
    command
        .args(["check", "--to", TARGET, "--policy"])
        .arg(policy);
    let ended = program::finish(&mut command).await;
    assert!(ended.status.success(), "{}", ended.said());
    let says = "0 of them would keep a run from starting; nothing was changed";
    assert!(ended.out.contains(says), "{}", ended.said());
    let events = audit::all(plane);
    assert!(
        audit::of(&events, "checker").len() > 10,
        "it looked at the cluster"
    );
    let changes = audit::mutations(&events, "checker");
    assert_eq!(audit::lines(changes), Vec::<String>::new());
    let mut left = std::fs::read_dir(bench.folder.path()).unwrap();
    let is_policy =
        |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name() == "policy.toml";
    assert!(left.all(is_policy), "it left something behind");
}

async fn the_upgrade_breaks_no_rule(plane: &ControlPlane) {
    let user = cluster::shipped_rights(plane, RUNNER, |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let mut policy = run::policy(POLICY);
    policy.addons = vec![addon(folder.path())];
    let client = plane.client_for(&user).await.unwrap();
    let back_up = Arc::new(WitnessedBackup::new(plane, folder.path().into()));
    let before = pods_by_workload(&plane.client()).await;
    let observer = Observer::start(plane.client()).await;

    let began = Instant::now();
    let parts = Parts {
        run: "proof".to_owned(),
        journal: Box::new(
            migrate_executor::FileJournal::open(folder.path().join("journal")).unwrap(),
        ),
        back_up: Arc::clone(&back_up) as Arc<dyn BackUpData>,
        migrate: Arc::new(Drainer::new(client.clone())),
        policy,
        client,
    };
    let report = run::upgrade(plane, parts).await;
    figure("real.upgrade", began.elapsed().as_secs_f64(), "s");
    println!("{report}");

    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(report.cordons, Vec::<String>::new(), "{report}");
    let calls = std::fs::read_to_string(folder.path().join("calls")).unwrap();
    assert_eq!(calls, "begin\nverify\nverify\n", "the addon's programs");
    let undone = report
        .targets
        .iter()
        .find(|target| target.position != Position::Done);
    assert!(undone.is_none(), "{undone:?}");
    cluster::assert_upgraded(plane, &[FOREIGN]).await;
    let version = plane.client().apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);

    let events = audit::all(plane);
    let mut settings = RuleSettings::default();
    settings.widths = BTreeMap::from([("general".to_owned(), 3), ("batch".to_owned(), 3)]);
    let verdict = observer.finish(settings, &events).await;
    figure("real.changes-seen", verdict.changes, "1");
    figure("real.evictions", verdict.evictions, "1");
    figure("real.violations", verdict.violations.len(), "1");
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    assert!(verdict.evictions > 150, "{} evictions", verdict.evictions);
    assert_eq!(
        report.evictions as usize, verdict.evictions,
        "the report counts them all"
    );
    assert_eq!(
        pods_by_workload(&plane.client()).await,
        before,
        "as many pods as before"
    );

    back_up.assert_came_first(&report, &events);
    let changes = audit::node_changes(&events);
    assert_eq!(changes.len(), 31, "{changes:?}");
    assert!(changes.values().all(|&times| times == 1), "{changes:?}");

    let rights = audit::rights(&events, RUNNER);
    assert!(
        rights.missing.is_empty(),
        "used and not granted: {:#?}",
        rights.missing
    );
    let unused: BTreeSet<&str> = rights.unused.iter().map(String::as_str).collect();
    let excused: BTreeSet<&str> = NOT_HERE.iter().map(|(right, _)| *right).collect();
    assert_eq!(
        unused, excused,
        "granted and not used (left), and what this run cannot use (right)"
    );
}

async fn a_second_run_has_nothing_to_do(plane: &ControlPlane) {
    let user = cluster::shipped_rights(plane, "second", |_| {}).await;
    let bench = Bench::new();
    let policy = bench.write("policy.toml", POLICY);
    let mut command = bench.program(plane.kubeconfig_for(&user).unwrap());
    command
        .args(["--to", TARGET, "--yes", "--policy"])
        .arg(policy);
    command.args(["--journal", "second.journal"]);
    command.arg("--node-hook").arg(plane.hook_program());
    command
        .arg("--control-plane-hook")
        .arg(plane.hook_program());
    let ended = program::finish(&mut command).await;
    assert!(ended.status.success(), "{}", ended.said());
    assert!(ended.out.contains("nothing to do"), "{}", ended.said());
    let events = audit::all(plane);
    let changes = audit::mutations(&events, "second");
    assert_eq!(audit::lines(changes), Vec::<String>::new());
}

/// An addon after the control plane, which works only when asked again.
fn addon(folder: &Path) -> Addon {
    let write = |name: &str, body: &str| {
        let path = folder.join(name);
        let call = format!("cd '{}'\n", folder.display());
        std::fs::write(&path, format!("#!/bin/sh\n{call}{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Some(path)
    };
    let mut addon = Addon::new("cni", Point::AfterControlPlane);
    addon.apply = write(
        "apply",
        "if [ $KUBE_MIGRATE_PHASE = probe ]; then [ -e calls ] && exit 0; exit 20; fi\n\
         echo begin >> calls",
    );
    addon.verify = write(
        "verify",
        "echo verify >> calls; [ $(grep -c verify calls) = 2 ] || exit 75",
    );
    addon
}

/// Live pods of each controller that replaces them, by its name.
async fn pods_by_workload(client: &Client) -> BTreeMap<String, usize> {
    let mut pods = BTreeMap::new();
    for pod in cluster::list(client, "/api/v1/pods").await.unwrap() {
        let owner = &pod["metadata"]["ownerReferences"][0];
        let live = pod["metadata"]["deletionTimestamp"].is_null();
        if live && !owner.is_null() && owner["kind"] != "Job" {
            let name = format!(
                "{} {}",
                cluster::text(&owner["kind"]),
                cluster::text(&owner["name"])
            );
            *pods.entry(name).or_default() += 1;
        }
    }
    pods
}

/// An etcd snapshot, and what had been changed when it was complete.
struct WitnessedBackup {
    inner: SnapshotBackup,
    log: Mutex<migrate_testbed::AuditLog>,
    changed_before: Mutex<Option<Vec<String>>>,
}

impl WitnessedBackup {
    fn new(plane: &ControlPlane, folder: PathBuf) -> Self {
        Self {
            inner: SnapshotBackup::new(Member::new(plane.etcd_endpoint()), folder.join("backups")),
            log: Mutex::new(plane.audit().unwrap()),
            changed_before: Mutex::default(),
        }
    }

    /// I5: nothing of ours was changed before the backup was there.
    fn assert_came_first(&self, report: &Report, events: &[migrate_testbed::AuditEvent]) {
        let before = self.changed_before.lock().unwrap().take();
        assert_eq!(before.expect("a backup was made"), Vec::<String>::new());
        let backup = report.backup.as_ref().expect("the report names the backup");
        let file = std::fs::metadata(&backup.artifacts[0].path).unwrap();
        assert_eq!(file.len(), backup.artifacts[0].bytes);
        let written = file.modified().unwrap();
        let changes = audit::mutations(events, RUNNER);
        let first = changes.first().expect("the run changed something");
        let received: SystemTime = first.request_received_timestamp.into();
        assert!(
            received >= written,
            "{} came before the backup",
            audit::line(first)
        );
        assert!(
            first.is_for("leases"),
            "the anchor comes first: {}",
            audit::line(first)
        );
        let again = report
            .second_backup
            .as_ref()
            .expect("another after the members");
        let second = std::fs::metadata(&again.artifacts[0].path).unwrap();
        assert_eq!(second.len(), again.artifacts[0].bytes);
        assert!(second.modified().unwrap() > written);
        figure("real.backup", file.len(), "B");
    }
}

#[async_trait]
impl BackUpData for WitnessedBackup {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<BackupReport, StepError> {
        let report = self.inner.run(cx, input).await;
        let events = self.log.lock().unwrap().read_new().unwrap();
        let changes = audit::lines(audit::mutations(&events, RUNNER));
        // The backup after the control plane comes later.
        self.changed_before.lock().unwrap().get_or_insert(changes);
        report
    }
}
