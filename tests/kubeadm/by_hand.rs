//! The documented procedure on the same cluster under the same requests, to
//! compare with.

use std::process::Stdio;
use std::time::Duration;

use migrate_testbed::KubeadmCluster;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::shop::WORKLOADS;
use crate::{TARGET, watched};

const PROCEDURE: &str = include_str!("by_hand.sh");
const PATIENCE: Duration = Duration::from_secs(20 * 60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "eight minutes; part of cargo xtask extended"]
async fn the_documented_procedure_is_measured() {
    let Some((cluster, shop)) = watched::open(&WORKLOADS).await else {
        return;
    };
    let seen = watched::watch("by-hand", &cluster, &shop, PATIENCE, procedure(&cluster)).await;
    seen.result.unwrap();
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
