//! Nothing is left behind, however the test process ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::SOON;
use migrate_testbed::{ControlPlane, eventually};

/// Says to the helper below how to end.
const ENDING: &str = "TESTBED_HELPER_ENDING";

#[tokio::test]
async fn a_killed_process_leaves_nothing() {
    let Some((mut helper, dir)) = helper("wait") else {
        return;
    };
    assert!(processes(&dir) >= 5, "the helper runs no control plane");
    // SIGKILL: nothing in that process can react to it.
    helper.kill().unwrap();
    helper.wait().unwrap();
    nothing_left(&dir).await;
}

#[tokio::test]
async fn a_panic_shows_the_logs_and_leaves_nothing() {
    let Some((mut helper, dir)) = helper("panic") else {
        return;
    };
    let mut said = String::new();
    helper
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(!helper.wait().unwrap().success());
    assert!(
        said.contains("the end of the log of kube-apiserver"),
        "{said}"
    );
    nothing_left(&dir).await;
}

#[tokio::test]
async fn a_dropped_control_plane_leaves_nothing() {
    let Some(plane) = common::start(ControlPlane::builder()).await else {
        return;
    };
    let dir = plane.dir().to_owned();
    assert!(dir.is_dir());
    drop(plane);
    nothing_left(&dir).await;
}

/// Not a test: what the tests above run in a process of its own.
#[tokio::test]
#[ignore = "the helper process of other tests"]
async fn helper_process() {
    let Ok(ending) = std::env::var(ENDING) else {
        return;
    };
    let Some(plane) = common::start(ControlPlane::builder()).await else {
        println!("skipped");
        return;
    };
    println!("\ndir={}", plane.dir().display());
    assert_ne!(ending, "panic", "ends here, with the control plane running");
    std::future::pending::<()>().await;
}

/// Starts this test binary again as the helper; its folder once it serves.
fn helper(ending: &str) -> Option<(Child, PathBuf)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_process", "--ignored", "--nocapture"])
        .env(ENDING, ending)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if let Some(dir) = line.strip_prefix("dir=") {
            return Some((child, PathBuf::from(dir)));
        }
        if line == "skipped" {
            child.wait().unwrap();
            return None;
        }
    }
    panic!("the helper ended without a word: {:?}", child.wait());
}

/// Processes that have the folder on their command line.
fn processes(dir: &Path) -> usize {
    let wanted = dir.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(wanted))
        .count()
}

async fn nothing_left(dir: &Path) {
    eventually(
        "no process and no folder",
        Duration::from_secs(10).min(SOON),
        || async {
            let processes = processes(dir);
            match (processes, dir.exists()) {
                (0, false) => Ok(true),
                (processes, folder) => Err(format!("{processes} processes, folder: {folder}")),
            }
        },
    )
    .await
    .unwrap();
}
