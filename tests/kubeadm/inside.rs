//! The program in a pod of the cluster that it upgrades, as `docs/in-cluster.yaml` has it.
//! It begins on the worker that would be the first of all: that one is the last, its pod
//! moves once, and the next one goes on.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use migrate_core::{Phase, Target};
use migrate_etcd::KeyRing;
use migrate_executor::{Entry, Record};
use migrate_testbed::KubeadmCluster;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::account::{apply, apply_rights, kubectl};
use crate::backup::WAIVED;
use crate::lane::is_at_the_target;
use crate::load::{CALM_RATE, Load};
use crate::observe::runner::Runner;
use crate::real::cluster::{condition, list};
use crate::real::program::{JournalTail, assert_announced_once, executable};
use crate::rig::{Rig, intents};
use crate::run::POLICY;
use crate::{TARGET, figure, job, watched};

const MANIFEST: &str = include_str!("../../docs/in-cluster.yaml");
/// Name of the Job, its pods' label, and the claim.
const NAME: &str = "kube-migrate";
const PODS: &str = "/api/v1/namespaces/kube-system/pods";
/// Who runs it, as the manifest says.
const USER: u32 = 65532;
/// Where the manifest has the journal.
const FOLDER: &str = "/var/lib/kube-migrate-runner";
const KEYS: &str = "/etc/kube-migrate-keys";
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const PAUSE: Duration = Duration::from_millis(500);
/// As far as an exit by SIGTERM goes; one by SIGKILL would be 137.
const ASKED_TO_GO: i64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes; part of cargo xtask extended"]
async fn a_runner_inside_the_cluster_goes_last_and_goes_on_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let program = stripped(folder.path());
    let builder = watched::builder().image_calling("runner", program, ["/usr/bin/ssh"]);
    let Some(mut rig) = Rig::start_on(builder).await else {
        return;
    };
    let home = first_worker(&rig).await;
    let public_key = prepare(&rig.cluster).await;
    let volume = rig.cluster.volumes().join("runner");
    rig.journal = JournalTail::new(volume.join("journal"));

    let work = upgrade(&rig.cluster, &home, &public_key);
    let load = Load::start(&rig.cluster, &rig.shop, CALM_RATE).await;
    let seen = watched::watch_under(load, "inside", &rig.cluster, &rig.shop, PATIENCE, work).await;
    rig.journal.read();
    assert!(seen.result, "the Job has failed");

    let runner = Runner::of(&seen.changes, NAME, TARGET);
    println!("{runner:#?}");
    assert_eq!(runner.broken, Vec::<String>::new());
    assert_eq!(runner.changed.last(), Some(&home));
    assert_eq!(runner.changed.len(), rig.cluster.nodes().len());
    let [first, second] = &runner.stays[..] else {
        panic!("it moves once: {runner:#?}");
    };
    assert_eq!((&first.node, first.cordoned), (&home, true));
    assert_eq!(first.exit, Some(ASKED_TO_GO));
    assert!(second.node != home && !second.cordoned, "{second:?}");
    assert_eq!(second.exit, Some(0));

    is_one_run(&rig, &home).await;
    seen.tallies.assert_unfailing(&rig.shop, seen.took);
    is_at_the_target(&rig.cluster).await;
    rig.is_given_back().await;
    rig.was_done_once().await;
    assert_eq!(rig.broken_rules().await, Vec::<String>::new());
    let backups = std::fs::read_dir(volume.join("store")).unwrap().count();
    assert!(backups > 0, "it has kept its backups");
}

/// The program without what only a debugger reads, which would make the image large.
fn stripped(folder: &Path) -> PathBuf {
    let to = folder.join("upgrade");
    let mut strip = std::process::Command::new("strip");
    // The same times make the same image.
    let strip = strip.arg("--preserve-dates").arg("-o").arg(&to);
    assert!(strip.arg(executable()).status().unwrap().success());
    to
}

/// The worker that a runner from outside would begin with.
async fn first_worker(rig: &Rig) -> String {
    let planned = rig.run(&["plan", "--to", TARGET, "--json"]).await;
    let plan = planned.plan();
    let slots = plan["slots"].as_array().unwrap().iter();
    let mut names = slots.map(|slot| slot["node"].as_str().unwrap());
    let is_worker = |name: &&str| !rig.cluster.node(name).unwrap().is_control_plane();
    names.find(is_worker).unwrap().to_owned()
}

/// Makes what the documentation asks for beside the manifest: rights, a volume that moves,
/// settings and keys. Gives the public key of backups.
async fn prepare(cluster: &KubeadmCluster) -> String {
    apply_rights(cluster).await;
    let volume = cluster.volumes().join("runner");
    std::fs::create_dir(&volume).unwrap();
    // A volume of the network would be given to the pod's group; this one is the node's.
    chown(&volume, Some(USER), Some(USER)).unwrap();
    let ssh = cluster.ssh_config();
    let beside = |name: &str| std::fs::read_to_string(ssh.with_file_name(name)).unwrap();
    let named = "pods = [\"default/ledger\"]";
    let policy = POLICY.replace(WAIVED, "");
    assert!(policy.contains(named));
    let all = format!("pods = [\"default/ledger\", \"kube-system/{NAME}\"]");
    let in_system = |kind: &str| {
        json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": {"name": NAME, "namespace": "kube-system"},
        })
    };
    let mut settings = in_system("ConfigMap");
    settings["data"] = json!({
        "policy.toml": policy.replace(named, &all),
        "ssh_config": ssh_config(cluster),
        "known_hosts": beside("known_hosts"),
    });
    let mut keys = in_system("Secret");
    keys["stringData"] = json!({"key": beside("key"), "sign.seed": "7".repeat(32)});
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": "everywhere",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
    });
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "runner"},
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": "everywhere",
            "hostPath": {"path": "/srv/volumes/runner", "type": "Directory"},
        },
    });
    let objects = json!({
        "apiVersion": "v1", "kind": "List", "items": [settings, keys, class, volume],
    });
    apply(cluster, &objects.to_string()).await;
    KeyRing::generate().1
}

/// The way of the cluster's own configuration to each node, from a pod.
fn ssh_config(cluster: &KubeadmCluster) -> String {
    let text = std::fs::read_to_string(cluster.ssh_config()).unwrap();
    let mut addresses = cluster.nodes().iter().map(|node| node.address());
    let mut config = String::new();
    for line in text.lines() {
        config += &match line.split_whitespace().next() {
            Some("Port") => continue,
            Some("HostName") => format!("  HostName {}", addresses.next().unwrap()),
            Some("IdentityFile") => format!("  IdentityFile {KEYS}/key"),
            Some("UserKnownHostsFile") => {
                "  UserKnownHostsFile /etc/kube-migrate/known_hosts".to_owned()
            }
            _ => line.to_owned(),
        };
        config.push('\n');
    }
    config
}

/// The manifest with what is this cluster's.
fn manifest(public_key: &str) -> String {
    let store = format!("{FOLDER}/store");
    let mut text = MANIFEST.to_owned();
    assert!(text.contains(&format!("--to={TARGET}\n")));
    for (example, here) in [
        (
            "registry.example/kube-migrate:0.1.0",
            "testbed.local/runner:1",
        ),
        ("registry.example/busybox:1.37", job::IMAGE),
        ("age1example", public_key),
        ("s3://backups.example/kube-migrate", store.as_str()),
        (
            "--yes",
            "--ignore-preflight-errors=SystemVerification\n            - --yes",
        ),
    ] {
        assert_eq!(text.matches(example).count(), 1, "{example}");
        text = text.replace(example, here);
    }
    text
}

/// Begins on a node of the test's choice, which nothing keeps the pod on.
/// Tells what its pods say, and gives whether the Job has ended well.
async fn upgrade(cluster: &KubeadmCluster, home: &str, public_key: &str) -> bool {
    let workers = cluster
        .nodes()
        .iter()
        .filter(|node| !node.is_control_plane());
    let others = workers.filter(|node| node.name() != home);
    let others: Vec<&str> = others.map(|node| node.name()).collect();
    taint(cluster, &others, "trial=elsewhere:PreferNoSchedule").await;
    apply(cluster, &manifest(public_key)).await;
    let (client, began) = (cluster.client(), Instant::now());
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_placed = false;
    // The API is away now and then; the patience is the caller's.
    loop {
        sleep(PAUSE).await;
        for pod in list(&client, PODS).await.unwrap_or_default() {
            if pod["metadata"]["labels"]["app"] != NAME || pod["spec"]["nodeName"].is_null() {
                continue;
            }
            if !is_placed {
                is_placed = true;
                taint(cluster, &others, "trial-").await;
                figure("inside.placed", began.elapsed().as_secs_f64(), "s");
            }
            let name = pod["metadata"]["name"].as_str().unwrap();
            let log = http::Request::get(format!("{PODS}/{name}/log")).body(Vec::new());
            if let Ok(said) = client.request_text(log.unwrap()).await {
                let told = told.entry(name.to_owned()).or_default();
                for line in said.get(*told..).unwrap_or_default().lines() {
                    println!("{name}: {line}");
                }
                *told = said.len();
            }
        }
        // kubeadm tries its Jobs there too.
        let jobs = list(&client, "/apis/batch/v1/namespaces/kube-system/jobs").await;
        let jobs = jobs.unwrap_or_default().into_iter();
        for job in jobs.filter(|job| job["metadata"]["name"] == NAME) {
            let is_well = condition(&job, "Complete") == "True";
            if is_well || condition(&job, "Failed") == "True" {
                figure("inside.job", began.elapsed().as_secs_f64(), "s");
                return is_well;
            }
        }
    }
}

async fn taint(cluster: &KubeadmCluster, nodes: &[&str], taint: &str) {
    let words = [&["taint", "node"], nodes, &[taint]].concat();
    kubectl(cluster, &words).await;
}

/// Two runners under two epochs have done one run, each action once, and the node of the
/// first was the last worker.
async fn is_one_run(rig: &Rig, home: &str) {
    let entries = &rig.journal.entries;
    let opened = |entry: &&Entry| matches!(entry.record, Record::RunOpened(_));
    assert_eq!(entries.iter().filter(opened).count(), 1);
    assert_announced_once(entries);
    let mut begun: BTreeMap<String, usize> = BTreeMap::new();
    for (phase, target) in intents(entries).filter(|(phase, _)| *phase == Phase::Upgrade) {
        *begun.entry(format!("{phase} {target}")).or_default() += 1;
    }
    assert!(begun.values().all(|times| *times == 1), "{begun:#?}");
    let drained = intents(entries).filter(|(phase, _)| *phase == Phase::Drain);
    let nodes = drained.filter_map(|(_, target)| match target {
        Target::Node { node, .. } => Some(node.as_str()),
        _ => None,
    });
    assert_eq!(nodes.last(), Some(home));

    let taken: Vec<(usize, u64)> = entries
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| match entry.record {
            Record::EpochTaken { epoch } => Some((index, epoch)),
            _ => None,
        })
        .collect();
    println!("epochs, by the number of the record: {taken:?}");
    let [(_, first), (index, second)] = taken[..] else {
        panic!("two runners take two epochs: {taken:?}");
    };
    assert!(second > first);
    let gap = entries[index].at.since(entries[index - 1].at);
    figure("inside.gap", gap.as_secs_f64(), "s");
    for node in rig.cluster.nodes() {
        let said = node.run(&["cat", "/var/lib/kube-migrate/fence"]).await;
        let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
        let epoch = if node.name() == home { second } else { first };
        let is_held = said.starts_with(&format!("{epoch} "));
        assert!(is_held, "{}: {said}", node.name());
    }
}
