//! What holds nodes back: a canary that soaks, and windows.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{Phase, Target};
use migrate_executor::{MemoryJournal, Record, RunOutcome, StopCause};
use migrate_plan::StopReason;
use migrate_sim::store::Resource;
use migrate_sim::{NodeFault, Pool, Scenario, Workload};
use tokio::time::sleep;

use crate::cluster::{Rig, small};
use crate::replay::obeys_the_replay_law;
use crate::upgrade::run_to;

/// Upgrades a pool of four, two of which may be away, whose canary dies a minute
/// after it was given back. Gives how the run ended, and how many workers it has
/// touched.
async fn canary_dies(soak: Duration) -> (RunOutcome, usize) {
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 4))
        .with_workload(Workload::deployment("shop", "web", 2));
    let mut rig = Rig::start(1, scenario).await;
    rig.policy.pools.max_unavailable = "2".parse().unwrap();
    rig.policy.rollout.canary_soak = soak;
    let planned = rig.planned().await;
    let canary = planned.1.slots.iter().find(|slot| slot.canary).unwrap();
    let dies = async {
        let is_through = || {
            let store = rig.cluster.store();
            let node = store.get(Resource::NODES, "", &canary.node).unwrap();
            node.json["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.2"
                && node.json["spec"]["unschedulable"] != true
        };
        while !is_through() {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(60)).await;
        rig.cluster.set_node_fault(&canary.node, NodeFault::Dead);
    };
    let journal = MemoryJournal::new();
    let run = rig.run(Box::new(journal.clone()), Arc::new(rig.drainer()), &planned);
    let (report, ()) = tokio::join!(run, dies);
    obeys_the_replay_law(journal.entries()).unwrap();
    let begun = rig.begun();
    let workers = planned.1.slots.iter().filter(|slot| slot.pool == "general");
    let touched = workers.filter(|slot| begun.iter().any(|begun| begun.starts_with(&slot.node)));
    (report.unwrap().outcome, touched.count())
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_turns_bad_while_it_soaks_is_the_last_node_touched() {
    let (outcome, touched) = canary_dies(Duration::from_secs(300)).await;
    let RunOutcome::Stopped {
        cause: StopCause::Rollout { reason },
    } = &outcome
    else {
        panic!("{outcome}");
    };
    assert!(
        matches!(reason, StopReason::CanaryFailed { .. }),
        "{reason}"
    );
    assert_eq!(touched, 1);
}

/// The control: without a soak time the others have begun by then.
#[tokio::test(start_paused = true)]
async fn without_a_soak_time_others_have_begun_by_then() {
    let (_, touched) = canary_dies(Duration::ZERO).await;
    assert!(touched > 1, "{touched}");
}

/// When the members and nodes of [`small`] were begun, in minutes after the plan
/// was made. With windows: from 10 to 17, and from 300 on.
async fn begun_at(windows: bool) -> Vec<u64> {
    let mut rig = Rig::start(1, small()).await;
    let start = rig.planned().await.0.taken_at;
    let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
    if windows {
        let window = |from, to| {
            format!(
                r#"{{"from": "{}", "to": "{}"}}"#,
                minutes(from),
                minutes(to)
            )
        };
        let windows = [window(10, 17), window(300, 1440)].join(", ");
        rig.policy.rollout.windows = serde_json::from_str(&format!("[{windows}]")).unwrap();
    }
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    run_to(RunOutcome::Done, &rig, &journal, &planned).await;
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    obeys_the_replay_law(journal.entries()).unwrap();
    let entries = journal.entries().into_iter();
    let first = entries.filter_map(|entry| match entry.record {
        Record::Intent { action } => {
            let is_member = matches!(action.target, Target::ControlPlane { .. });
            let first = [Phase::Drain, Phase::Upgrade][usize::from(is_member)];
            (action.phase == first).then(|| entry.at.since(start).as_secs() / 60)
        }
        _ => None,
    });
    first.collect()
}

#[tokio::test(start_paused = true)]
async fn members_and_nodes_begin_in_a_window() {
    let begun = begun_at(true).await;
    assert_eq!(begun.len(), 6, "{begun:?}");
    let is_in = |at: &u64| (10..17).contains(at) || (300..1440).contains(at);
    assert!(begun.iter().all(is_in), "{begun:?}");
    assert!(begun.last().is_some_and(|at| *at >= 300), "{begun:?}");
    // The control: without windows all of it is over by then.
    let begun = begun_at(false).await;
    assert!(!begun.iter().all(is_in), "{begun:?}");
}
