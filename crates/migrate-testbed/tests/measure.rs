//! The figures of `docs/testbed.md`; run it alone and in a quiet moment.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::fs;

use common::{available, deployment, node};
use migrate_testbed::ControlPlane;
use tokio::time::Instant;

#[tokio::test]
#[ignore = "prints figures, checks nothing"]
async fn figures() {
    let begun = Instant::now();
    let builder = ControlPlane::builder().minor(36).also(37).audit(true);
    let Some(plane) = common::start(builder).await else {
        return;
    };
    println!("serving after {:.1?}", begun.elapsed());
    plane
        .apply(vec![node("node-a"), node("node-b"), deployment("web", 20)])
        .await
        .unwrap();
    available(&plane, "web", 20).await;
    println!("20 pods available after {:.1?}", begun.elapsed());
    memory(&plane);
    let step = Instant::now();
    plane
        .apply((0..30).map(|n| node(&format!("node-{n}"))).collect())
        .await
        .unwrap();
    plane
        .apply(
            (0..30)
                .map(|n| deployment(&format!("app-{n}"), 10))
                .collect(),
        )
        .await
        .unwrap();
    for n in 0..30 {
        available(&plane, &format!("app-{n}"), 10).await;
    }
    println!("30 more nodes and 300 pods in {:.1?}", step.elapsed());
    memory(&plane);
    let swap = plane.swap_to(37).await.unwrap();
    println!(
        "swap: API away {:.1?}, total {:.1?}",
        swap.api_away, swap.total
    );
    let step = Instant::now();
    plane.stop().await.unwrap();
    println!("stopped in {:.1?}", step.elapsed());
}

/// Resident memory of each program of a control plane.
fn memory(plane: &ControlPlane) {
    let wanted = plane.dir().to_str().unwrap();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| {
            let bytes = fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let line = read("cmdline");
        let program = line.split('\0').next().unwrap_or_default();
        if line.contains(wanted) && !program.ends_with("/sh") {
            let status = read("status");
            let resident = status.lines().find(|line| line.starts_with("VmRSS"));
            let name = program.rsplit('/').next().unwrap_or_default();
            println!("  {name}: {}", resident.unwrap_or_default());
        }
    }
}
