//! Nodes that go: while no runner looks, and for others in their place.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::{Case, position, step_until};
use common::law::assert_replay_law;
use migrate_core::Cancellation;
use migrate_executor::{Executor, Position, RunOutcome};

#[tokio::test(start_paused = true)]
async fn a_node_deleted_while_the_runner_is_down_is_left_out() {
    let case = Case::new();
    let mut executor = Executor::open(case.setup()).await.unwrap();
    step_until(&mut executor, || {
        case.effects().iter().any(|e| e.starts_with("cordon"))
    })
    .await;
    drop(executor);
    let gone = "blue-2";
    let node = case.world.lock().nodes.remove(gone).unwrap();
    assert_eq!(node.cordon, None, "its turn has not come");

    let mut executor = Executor::open(case.resume()).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let others = report.targets.iter();
    let mut others = others.filter(|target| target.target.name() != gone);
    assert!(
        others.all(|target| target.position == Position::Done),
        "the others went on: {report}"
    );
    assert_ne!(*position(&report, gone), Position::Done);
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}

/// Not an absence: the run knows what came in its place.
#[tokio::test(start_paused = true)]
async fn a_node_that_its_driver_replaces_is_not_missed() {
    let case = Case::new();
    let blue = "blue-2".to_owned();
    case.world.lock().faults.replaced.insert(blue);
    let report = case.run().await;
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert_eq!(*position(&report, "blue-2-new"), Position::Done, "{report}");
    let nodes = case.world.lock().nodes.clone();
    assert!(nodes.contains_key("blue-2-new") && !nodes.contains_key("blue-2"));
    case.assert_unbroken();
    assert_replay_law(&case.journal.entries());
}
