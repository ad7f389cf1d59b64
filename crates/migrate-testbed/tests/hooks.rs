//! The hook program, called as an upgrade tool calls it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{available, condition, deployment, get, node, text};
use migrate_testbed::{AuditEvent, ControlPlane, eventually};

/// Exit codes of the hook contract.
const OK: i32 = 0;
const FAILED: i32 = 1;
const RUNNING: i32 = 10;
const ABSENT: i32 = 20;

#[tokio::test]
async fn hooks_upgrade_nodes_and_the_control_plane() {
    let builder = ControlPlane::builder()
        .minor(36)
        .also(37)
        .audit(true)
        // Longer than a hook call takes on a busy machine.
        .node_upgrade_time(Duration::from_secs(3));
    let Some(plane) = common::start(builder).await else {
        return;
    };
    plane
        .apply(vec![node("node-1"), node("node-2"), deployment("web", 4)])
        .await
        .unwrap();
    available(&plane, "web", 4).await;
    let client = plane.client();
    let from = plane.binaries().await.release.kubernetes;
    assert_eq!(kubelet(&client, "node-1").await, format!("v{from}"));

    // The control plane: absent, begun, running, there; begun again: no harm.
    let call = |phase, action, target, node, to, epoch| {
        hook(&plane, phase, action, target, node, to, epoch)
    };
    let control_plane = |phase| call(phase, "cp-1", "control-plane", "master-1", "v1.37.2", 1);
    assert_eq!(control_plane("probe").0, ABSENT);
    assert_eq!(control_plane("begin").0, OK);
    assert_eq!(control_plane("probe").0, RUNNING);
    assert_eq!(control_plane("begin").0, OK);
    until("the control plane to be upgraded", || {
        control_plane("probe")
    })
    .await;
    let version = get(&client, "/version").await.unwrap();
    assert_eq!(text(&version["gitVersion"]), "v1.37.2");
    let second = |phase| call(phase, "cp-2", "control-plane", "master-2", "v1.37.2", 1);
    assert_eq!(second("begin").0, OK);
    assert_eq!(second("probe").0, OK);

    // A node: the same, seen in its status; the other one is left alone.
    let first_node = |phase| call(phase, "n-1", "node", "node-1", "v1.37.2", 5);
    assert_eq!(first_node("probe").0, ABSENT);
    assert_eq!(first_node("begin").0, OK);
    assert_eq!(first_node("probe").0, RUNNING);
    until("node-1 to be upgraded", || first_node("probe")).await;
    assert_eq!(kubelet(&client, "node-1").await, "v1.37.2");
    assert_eq!(kubelet(&client, "node-2").await, format!("v{from}"));
    let status = get(&client, "/api/v1/nodes/node-1").await.unwrap();
    assert_eq!(condition(&status, "Ready"), "True");

    // What must be refused: an older runner, what is not there, nonsense.
    let (code, said) = call("begin", "n-2", "node", "node-1", "v1.37.3", 4);
    assert_eq!(code, FAILED);
    assert!(said.contains("epoch 4 is older than 5"), "{said}");
    assert_eq!(kubelet(&client, "node-1").await, "v1.37.2");
    for (target, name, to, expected) in [
        ("node", "node-9", "v1.37.2", "there is no node node-9"),
        ("control-plane", "m", "v1.99.0", "1.99"),
        ("control-plane", "m", "v1.36.0", "cannot run v1.36.0"),
        ("rack", "r", "v1.37.2", "KUBE_MIGRATE_TARGET"),
        ("node", "", "v1.37.2", "KUBE_MIGRATE_NODE"),
    ] {
        let (code, said) = call("begin", "x", target, name, to, 9);
        assert_eq!(code, FAILED, "{said}");
        assert!(said.contains(expected), "{said}");
    }

    // Both states of the node were written, not just the last, and kwok, which
    // made the node Ready at first, did not meddle from then on.
    let events = plane.audit().unwrap().read_new().unwrap();
    let of_node = |event: &&AuditEvent| {
        event.is_for("nodes/status")
            && !event.is_read()
            && event.object_ref.as_ref().unwrap().name == "node-1"
    };
    let writers = events.iter().filter(of_node);
    let writers: Vec<&str> = writers.map(|event| &*event.user.username).collect();
    let hooked = writers.iter().position(|user| *user == "testbed:hook");
    assert_eq!(
        writers[hooked.unwrap()..],
        ["testbed:hook", "testbed:hook"],
        "{writers:?}"
    );
}

#[tokio::test]
async fn a_hook_whose_testbed_has_ended_says_so() {
    let Some(plane) = common::start(ControlPlane::builder()).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("hook");
    std::fs::copy(plane.hook_program(), &copy).unwrap();
    drop(plane);
    let output = Command::new("bash")
        .arg(&copy)
        .env("KUBE_MIGRATE_PHASE", "begin")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(FAILED));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has ended"));
}

/// Blocks the test's thread, as a test does that waits for a tool to end.
fn hook(
    plane: &ControlPlane,
    phase: &str,
    action: &str,
    target: &str,
    node: &str,
    to: &str,
    epoch: u64,
) -> (i32, String) {
    let output = Command::new(plane.hook_program())
        .env("KUBE_MIGRATE_PHASE", phase)
        .env("KUBE_MIGRATE_ACTION_ID", action)
        .env("KUBE_MIGRATE_TARGET", target)
        .env("KUBE_MIGRATE_NODE", node)
        .env("KUBE_MIGRATE_FROM", "v1.36.3")
        .env("KUBE_MIGRATE_TO", to)
        .env("KUBE_MIGRATE_EPOCH", epoch.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), said)
}

/// Probes until the answer is success; anything but "running" fails the test.
async fn until(what: &str, probe: impl Fn() -> (i32, String)) {
    eventually(what, common::SOON, || {
        let (code, said) = probe();
        assert!(code == OK || code == RUNNING, "{code} {said}");
        async move { Ok::<_, String>(code == OK) }
    })
    .await
    .unwrap();
}

async fn kubelet(client: &kube::Client, name: &str) -> String {
    let node = get(client, &format!("/api/v1/nodes/{name}")).await.unwrap();
    text(&node["status"]["nodeInfo"]["kubeletVersion"])
}
