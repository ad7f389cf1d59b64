//! The documented procedure on the same cluster under the same requests, to
//! compare with.

use std::process::Stdio;
use std::time::Duration;

use migrate_testbed::KubeadmCluster;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::lane::broken_rules;
use crate::shop::WORKLOADS;
use crate::{TARGET, watched};

const PROCEDURE: &str = include_str!("by_hand.sh");
const PATIENCE: Duration = Duration::from_secs(20 * 60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn by_the_documented_procedure_requests_fail() {
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let seen = watched::watch("by-hand", &cluster, &shop, PATIENCE, procedure(&cluster)).await;
    seen.result.unwrap();
    // The first worker's drain leaves every pod on the second one, and that one's takes both
    // replicas at once. What a budget saves, and which starts are thrown away, is a race.
    let (_, _, failed) = seen.tallies.of("unguarded");
    assert!(failed > 100, "it has no budget");
    let broken = broken_rules(&seen.changes);
    println!("{broken:#?}");
    let is_of_both = |rule: &String| rule.starts_with("I1") && rule.contains("default/unguarded-");
    assert!(broken.iter().any(is_of_both), "{broken:#?}");
}

async fn procedure(cluster: &KubeadmCluster) -> Result<(), String> {
    let mut script = Command::new("bash")
        .args(["-s", "--"])
        .arg(cluster.ssh_config())
        .arg(TARGET.trim_start_matches('v'))
        .args(cluster.nodes().iter().map(migrate_testbed::Node::name))
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = script.stdin.take().unwrap();
    input.write_all(PROCEDURE.as_bytes()).await.unwrap();
    drop(input);
    let status = script.wait().await.unwrap();
    match status.success() {
        true => Ok(()),
        false => Err(format!("the procedure ended with {status}")),
    }
}
