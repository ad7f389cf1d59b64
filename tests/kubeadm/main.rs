//! A real kubeadm cluster upgraded for real, 1.36 to 1.37, with requests on it
//! all the time: packages, static pods, etcd, kubelets, and not one failed
//! request to a replicated Service.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod shop;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use migrate_core::steps::{BackupProof, BackupReport};
use migrate_core::{
    BackUpData, Cancellation, Clock, Fence, Migration, StepContext, StepError, StepInput,
};
use migrate_drain::Drainer;
use migrate_executor::{Executor, FileJournal, Pace, Report, RunOutcome, Setup};
use migrate_kube::{TokioClock, observe};
use migrate_plan::Planner;
use migrate_preflight::Preflight;
use migrate_testbed::{KubeadmCluster, skip_or_fail, traffic_program};
use migrate_upgrade::{Kubeadm, Ssh};
use migrate_verify::ClusterHealth;
use serde_json::Value;
use shop::Shop;
use tokio::time::Instant;

const TARGET: &str = "v1.37.2";
const POLICY: &str = r#"
waive = ["KM-BACKUP-001"]
[deadlines]
drain = 300
upgrade = 900
"#;
/// The bar of the whole run.
const PATIENCE: Duration = Duration::from_secs(12 * 60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "seven minutes; part of cargo xtask extended"]
async fn a_kubeadm_cluster_is_upgraded_and_nobody_notices() {
    let began = Instant::now();
    let program = traffic_program().unwrap();
    let builder = KubeadmCluster::builder().workers(2).minor(36).also(37);
    let builder = builder.image("traffic", program);
    let Some(cluster) = skip_or_fail(builder.start().await) else {
        return;
    };
    let shop = Shop::open(&cluster).await;
    figure("kubeadm.setup", began.elapsed().as_secs_f64(), "s");
    let before = uids(&cluster.client()).await;

    let load = shop.load(&cluster).await;
    let began = Instant::now();
    let report = tokio::time::timeout(PATIENCE, upgrade(&cluster)).await;
    let report = report.expect("the run to end in time");
    figure("kubeadm.upgrade", began.elapsed().as_secs_f64(), "s");
    println!("{report}");
    let tallies = load.finish();
    for (name, tally) in &tallies {
        println!("{name}: {tally}");
        figure(
            &format!("kubeadm.failed.{name}"),
            tally.failed() as f64,
            "requests",
        );
    }

    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(report.cordons, Vec::<String>::new(), "{report}");
    is_at_the_target(&cluster).await;
    let after = uids(&cluster.client()).await;
    for workload in ["guarded", "unguarded"] {
        let (old, new) = (&before[workload], &after[workload]);
        assert_eq!(old.len(), new.len(), "{workload}");
        assert!(
            old.iter().all(|uid| !new.contains(uid)),
            "{workload}: every pod has moved"
        );
    }
    figure("kubeadm.evictions", report.evictions as f64, "1");
    for (name, tally) in &tallies {
        assert!(tally.requests > 500, "{name}: {tally}");
        if !name.starts_with("control") {
            assert_eq!(tally.failed(), 0, "{name}: {tally}\n{:?}", tally.failed_at);
        }
    }
}

async fn upgrade(cluster: &KubeadmCluster) -> Report {
    let client = cluster.client();
    let policy = kube_migrate::policy_from_toml(POLICY).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::system());
    let model = observe(&client, clock.now()).await.unwrap();
    let plan = Planner::new(&model, &policy, TARGET.parse().unwrap())
        .plan()
        .unwrap();
    let shell = Arc::new(Ssh::new().with_config(cluster.ssh_config()));
    let driver = Kubeadm::new(shell).with_ignored_preflight_errors(["SystemVerification"]);
    let names: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| node.name().to_owned())
        .collect();
    let ready = driver.pre_pull(&names, &TARGET.parse().unwrap()).await;
    assert!(ready.is_ready(), "{:?}", ready.findings);
    let migration = Migration::new(
        Arc::new(Preflight::new(client.clone())),
        Arc::new(NoBackup),
        Arc::new(driver),
        Arc::new(Drainer::new(client.clone())),
        Arc::new(ClusterHealth::new(client.clone())),
    );
    let journal = FileJournal::open(cluster.dir().join("journal")).unwrap();
    let context = StepContext::new(clock, Fence::new("rig", 1));
    let mut pace = Pace::default();
    pace.probe = Duration::from_secs(1);
    pace.verify = Duration::from_secs(1);
    pace.retry = Duration::from_secs(1);
    let setup = Setup::new(client, migration, Box::new(journal), context)
        .with_pace(pace)
        .with_plan(plan, model, policy);
    let mut executor = Executor::open(setup).await.unwrap();
    executor.run(&Cancellation::new()).await.unwrap()
}

async fn is_at_the_target(cluster: &KubeadmCluster) {
    let client = cluster.client();
    let version = client.apiserver_version().await.unwrap();
    assert_eq!(version.git_version, TARGET);
    for node in shop::items(&client, "/api/v1/nodes").await {
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], TARGET);
        assert!(node["spec"]["unschedulable"].is_null());
    }
    for node in cluster.nodes() {
        let said = node
            .run(&["kubeadm", "version", "-o", "short"])
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), TARGET);
        let held = node.run(&["apt-mark", "showhold"]).await.unwrap();
        assert_eq!(held.stdout, b"kubeadm\nkubectl\nkubelet\n");
    }
}

/// Uids of the shop's pods by their workload.
async fn uids(client: &Client) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pod in shop::items(client, "/api/v1/namespaces/default/pods").await {
        let app = pod["metadata"]["labels"]["app"]
            .as_str()
            .unwrap()
            .to_owned();
        found
            .entry(app)
            .or_default()
            .push(pod["metadata"]["uid"].clone());
    }
    found
}

/// Another test proves the backup; here it would measure the disk.
struct NoBackup;

#[async_trait]
impl BackUpData for NoBackup {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<BackupReport, StepError> {
        Ok(BackupReport::new(BackupProof::None, Vec::new()))
    }
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.1} {unit}");
}
