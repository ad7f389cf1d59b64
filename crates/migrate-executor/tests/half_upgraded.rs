//! Clusters that somebody has upgraded a part of, and left there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::case::Case;
use common::world::version;
use migrate_executor::RunOutcome;

/// The first member, the kubelet of its node and a worker run what others go to.
fn half_upgraded() -> Case {
    let case = Case::new();
    let mut world = case.world.lock();
    let to = world.to.clone();
    world.members.get_mut("cp-1").unwrap().version = to.clone();
    for node in ["cp-1", "red-1"] {
        world.nodes.get_mut(node).unwrap().version = to.clone();
    }
    drop(world);
    case
}

#[tokio::test(start_paused = true)]
async fn what_others_have_begun_is_brought_to_its_end() {
    let case = half_upgraded();
    case.assert_arrives().await;
    let world = case.world.lock();
    let mut machines = world.members.values().chain(world.nodes.values());
    assert!(machines.all(|machine| machine.version == world.to));
    let cordoned = |node: &str| world.effects.contains(&format!("cordon {node}"));
    assert!(
        !cordoned("cp-1") && !cordoned("red-1"),
        "{:?}",
        world.effects
    );
    assert!(cordoned("cp-2") && cordoned("red-2"), "{:?}", world.effects);
}

/// The control: what this upgrade would not end keeps it from starting.
#[tokio::test(start_paused = true)]
async fn what_would_stay_forbidden_is_refused() {
    let case = half_upgraded();
    case.world.lock().nodes.get_mut("red-1").unwrap().version = version("v1.38.0");
    let report = case.run().await;
    assert_ne!(report.outcome, RunOutcome::Done, "{report}");
    assert!(report.to_string().contains("KM-SKEW-001"), "{report}");
    let is_change = |effect: &String| effect.starts_with("begin") || effect.starts_with("cordon");
    assert!(
        !case.effects().iter().any(is_change),
        "{:?}",
        case.effects()
    );
}
