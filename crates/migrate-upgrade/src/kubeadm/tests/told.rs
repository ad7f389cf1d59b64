//! What a step prints, as events.

use std::sync::Mutex;

use migrate_core::{Event, EventKind};

use super::*;

/// What the driver tells of a step until it has ended, and once more after that.
async fn told(cp: &Node, action: &Action) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let cx = cx().with_events(Arc::new(move |event: &Event| match &event.kind {
        EventKind::Said { node, line } => {
            assert_eq!(node, CP);
            sink.lock().unwrap().push(line.clone());
        }
        other => panic!("{other:?}"),
    }));
    cp.driver.begin(&cx, action).await.unwrap();
    while cp.driver.probe(&cx, action).await.unwrap() == ActionStatus::Running {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _ = cp.driver.probe(&cx, action).await.unwrap();
    let lines = lines.lock().unwrap();
    lines.clone()
}

#[tokio::test]
async fn what_a_step_prints_is_told_once_and_without_secrets() {
    let cp = Node::new(true);
    let said = "[upgrade] began\njoin with --token abcdef.0123456789abcdef\n";
    cp.write("kubeadm-fails", said);
    let lines = told(&cp, &member()).await;
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("[upgrade] began"), 1, "{lines:?}");
    assert_eq!(count("join with --token [redacted]"), 1, "{lines:?}");
    assert_eq!(count("abcdef"), 0, "{lines:?}");
    assert!(cp.log().contains("abcdef.0123456789abcdef"));

    // Nor does the reason of its failure have any.
    let (_, reason) = cp.failure(&member()).await;
    assert!(reason.contains("--token [redacted]"), "{reason}");
    assert!(!reason.contains("abcdef"), "{reason}");

    // The next attempt has a log of its own.
    cp.write("kubeadm-fails", "[upgrade] began again\n");
    let lines = told(&cp, &member()).await;
    let again: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("[upgrade] began"))
        .collect();
    assert_eq!(again, ["[upgrade] began again"], "{lines:?}");
}
