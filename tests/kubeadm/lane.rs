//! The claim, as a measured fact: upgraded, and nobody noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use migrate_executor::{Report, RunOutcome};
use migrate_sim::rules::{RuleChecker, RuleSettings};
use migrate_testbed::{KubeadmCluster, Node};
use migrate_upgrade::{JobShell, PerNode};
use migrate_verify::SETTLE;
use tokio::time::Instant;

use crate::account::Account;
use crate::backup::Backups;
use crate::observe::{cordons, moves, objects};
use crate::real::cluster::key;
use crate::real::observer::{Change, show};
use crate::run::{Way, upgrade};
use crate::shop::{self, WORKLOADS, app, ledger};
use crate::{TARGET, canary, change, figure, job, watched};

/// The upgrade ends within this. The whole test is to take twelve minutes at most,
/// starting the cluster included: a figure, since it is of the machine as well.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubeadm_cluster_is_upgraded_and_nobody_notices() {
    let began = Instant::now();
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let client = cluster.client();
    let account = Account::open(&cluster).await;
    let backups = Backups::new(&cluster);
    let uids_before = uids(&client).await;
    let way = one_by_job(&cluster, &account).with_backups(&cluster, &backups);
    let reached = Arc::clone(&way.reached);
    let work = async {
        let before = (objects::all(&client).await, ledger::read(&cluster).await);
        let report = upgrade(&cluster, way).await;
        (before, report, objects::all(&client).await)
    };
    let seen = watched::watch("kubeadm", &cluster, &shop, PATIENCE, work).await;
    let ((before, written), report, after) = seen.result;
    println!("{report}");
    print_phases(&report);
    figure(
        "kubeadm.predicted",
        report.duration.predicted.as_secs_f64(),
        "s",
    );
    figure("kubeadm.actual", report.duration.actual.as_secs_f64(), "s");
    shop.await_whole(&client).await;

    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(report.cordons, Vec::<String>::new(), "{report}");
    account.missed_no_right(&report);
    is_at_the_target(&cluster).await;
    tells_renewals_of(&report, &cluster, 1);
    backups.are_proven(&cluster, &report).await;
    let differences = objects::compare(&before, &after);
    for line in differences.table() {
        println!("explained: {line}");
    }
    assert_eq!(differences.unexplained, Vec::<String>::new());
    let away = ledger::broken(&written, &ledger::read(&cluster).await).unwrap();
    figure("kubeadm.ledger.away", away, "s");

    seen.tallies.assert_unfailing(&shop, seen.took);
    let uids_after = uids(&client).await;
    for workload in shop.replicated() {
        let (old, new) = (&uids_before[workload.name], &uids_after[workload.name]);
        assert_eq!(old.len(), new.len(), "{}", workload.name);
        assert!(
            old.is_disjoint(new),
            "{}: every pod has moved",
            workload.name
        );
        let (evictions, bound) = seen.moves.evictions_of(workload.name, workload.replicas());
        assert!(
            evictions <= bound,
            "{}: {evictions} evictions, at most {bound}",
            workload.name
        );
    }
    assert_eq!(seen.moves.thrown_away, Vec::<String>::new());
    canary::has_tried_every_node(&cluster, &seen.changes);
    change::was_seen_by_every_node(&cluster, &seen.changes, &reached, 1);
    assert_eq!(broken_rules(&seen.changes), Vec::<String>::new());
    let settled_for = seen.settled_for;
    assert!(settled_for >= Some(SETTLE), "{settled_for:?}");
    figure("kubeadm.whole-test", began.elapsed().as_secs_f64(), "s");
}

/// By an account with the rights that are shipped; the second worker is reached by
/// Jobs, the others over SSH.
fn one_by_job(cluster: &KubeadmCluster, account: &Account) -> Way {
    let mut way = Way::of(cluster, account.client.clone(), account.fresh.clone()).with_canary();
    let worker = cluster.nodes().last().unwrap().name();
    let jobs = JobShell::new(account.client.clone(), job::IMAGE);
    way.shell = Arc::new(PerNode::new(way.shell).with_node(worker, Arc::new(jobs)));
    way
}

/// Predicted and measured seconds, phase by phase.
fn print_phases(report: &Report) {
    for row in &report.phases {
        let pool = row.pool.as_deref().unwrap_or("members");
        let name = format!("kubeadm.phase.{pool}.{}", row.phase);
        figure(
            &format!("{name}.predicted"),
            row.predicted.as_secs_f64(),
            "s",
        );
        figure(&name, row.actual.as_secs_f64(), "s");
    }
}

/// That the report names the renewed certificates of each of so many control planes,
/// once: the API server's own among them.
pub(crate) fn tells_renewals_of(report: &Report, cluster: &KubeadmCluster, members: usize) {
    for node in cluster.nodes().iter().take(members) {
        let told = report.findings.iter().filter(|finding| {
            let is_of_node = finding.object.name == node.name();
            finding.code == "KM-KUBEADM-034"
                && is_of_node
                && finding.evidence.contains("apiserver (")
        });
        assert_eq!(told.count(), 1, "{}: {report}", node.name());
    }
}

/// A node's kubeadm is of a version, and its packages are on hold.
pub(crate) async fn has_kubeadm(node: &Node, version: &str) {
    let said = node.run(&["kubeadm", "version", "-o", "short"]).await;
    let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
    assert_eq!(said.trim(), version, "{}", node.name());
    let held = node.run(&["apt-mark", "showhold"]).await.unwrap();
    assert_eq!(held.stdout, b"kubeadm\nkubectl\nkubelet\n");
}

pub(crate) async fn is_at_the_target(cluster: &KubeadmCluster) {
    let client = cluster.client();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);
    for node in shop::items(&client, "/api/v1/nodes").await {
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], TARGET);
        assert!(node["spec"]["unschedulable"].is_null());
    }
    for node in cluster.nodes() {
        has_kubeadm(node, TARGET).await;
        // They came with the kubelet's package.
        let plugins = ["dpkg-query", "-W", "-f", "${Version}", "kubernetes-cni"];
        let plugins = node.run(&plugins).await.unwrap().stdout;
        assert!(plugins.ends_with(b"+1.37.2-1.1"), "{plugins:?}");
    }
}

/// Uids of the pods in `default` by their workload.
async fn uids(client: &Client) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in shop::items(client, "/api/v1/namespaces/default/pods").await {
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        found.entry(app(&pod).to_owned()).or_default().insert(uid);
    }
    found
}

/// The rules that every run keeps, judged from watches alone: among them that
/// no evictable pod was on a node when its kubelet changed, and that never two nodes
/// were cordoned.
pub(crate) fn broken_rules(changes: &[Change]) -> Vec<String> {
    let mut settings = RuleSettings::default();
    for change in changes.iter().filter(|change| change.kind == "Pod") {
        let pod = &change.object;
        // kubeadm and the Job controllers take pods away too.
        if pod["metadata"]["namespace"] != "default" || app(pod) == "short" {
            settings.exempt.insert(key(pod));
        }
    }
    let mut checker = RuleChecker::new(settings);
    for uid in moves::evicted(changes) {
        checker.eviction_accepted(&uid);
    }
    show(&mut checker, changes);
    let violations = checker.finish();
    let mut broken: Vec<String> = violations.iter().map(ToString::to_string).collect();
    broken.extend(cordons::at_once(changes));
    broken
}

#[test]
fn a_kubelet_that_changes_under_a_pod_is_seen() {
    use serde_json::json;

    let change = |at: u64, kind, object| Change {
        at,
        kind,
        object,
        deleted: false,
    };
    let node = |at: u64, version: &str| {
        change(
            at,
            "Node",
            json!({
                "metadata": {"name": "w1", "resourceVersion": at.to_string()},
                "spec": {"unschedulable": true},
                "status": {"nodeInfo": {"kubeletVersion": version}},
            }),
        )
    };
    let pod = change(
        1,
        "Pod",
        json!({
            "metadata": {"name": "a", "namespace": "default", "uid": "a", "resourceVersion": "1"},
            "spec": {"nodeName": "w1"}, "status": {"phase": "Running"},
        }),
    );
    let broken = broken_rules(&[pod, node(2, "v1.36.3"), node(3, TARGET)]);
    assert!(
        broken
            .iter()
            .any(|rule| rule.starts_with("I3") && rule.contains("default/a")),
        "{broken:?}"
    );
    assert!(broken_rules(&[node(2, "v1.36.3"), node(3, TARGET)]).is_empty());
}
