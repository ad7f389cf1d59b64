//! Pools that go to a version of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, position};
use common::law::assert_replay_law;
use common::world::version;
use migrate_executor::{Position, Report, ReportPage, RunOutcome};

const OWN: &str = "v1.36.9";

/// A case whose red nodes go to a patch of their minor.
fn case() -> Case {
    let mut case = Case::new();
    let targets = &mut case.policy.pools.target_of;
    targets.insert("red".to_owned(), version(OWN));
    case
}

/// Each node is verified by the target of its pool, also one that its driver made anew
/// under another name, and so is the whole at the end.
#[tokio::test(start_paused = true)]
async fn each_node_is_brought_to_the_target_of_its_pool_and_verified_by_it() {
    let case = case();
    let red = "red-2".to_owned();
    case.world.lock().faults.replaced.insert(red);
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(*position(&report, "red-2-new"), Position::Done, "{report}");
    let nodes = case.world.lock().nodes.clone();
    for (name, node) in &nodes {
        let to = if node.pool == "red" { OWN } else { "v1.37.1" };
        assert_eq!(node.version, version(to), "{name}");
    }
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
    // Again nothing is to be done.
    let again = case.again("run-2").run().await;
    assert_eq!(again.outcome, RunOutcome::NothingToDo, "{again}");
}

#[tokio::test(start_paused = true)]
async fn the_report_says_which_pools_go_where() {
    let case = case();
    let fails = (9, false);
    case.world.lock().faults.fails.insert("red-1".into(), fails);
    let report = case.run().await;
    let text = report.to_string();
    assert!(text.contains("pool red -> v1.36.9"), "{text}");
    let mut targets = report.targets.iter();
    let red = targets.find(|target| target.target.name() == "red-1");
    let undo = red.unwrap().undo.clone().unwrap();
    assert!(undo.contains("go on to v1.36.9"), "{undo}");
    let page = ReportPage::new(&report).to_string();
    assert!(page.contains("Pool red goes to v1.36.9."), "{page}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);
    // The control: without one nothing of it is there.
    let plain = Case::new().run().await;
    assert!(plain.own_targets.is_empty());
    let json = serde_json::to_string(&plain).unwrap();
    assert!(!json.contains("ownTargets"), "{json}");
}
