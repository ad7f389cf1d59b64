//! What holds nodes back: a canary that soaks, and windows.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{Phase, Target};
use migrate_executor::{MemoryJournal, Record, RunOutcome, StopCause};
use migrate_plan::{ActionResult, Input, StopReason};
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

/// Pauses a run from the first worker's verification until an hour after the plan was
/// made. Gives the minutes at which drains were begun after that, and how many
/// actions were too late. With windows: to the 55th minute, and from the 300th on.
async fn paused_for_long(windows: bool) -> (Vec<u64>, usize) {
    let mut rig = Rig::start(1, small()).await;
    let start = rig.planned().await.0.taken_at;
    let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
    if windows {
        let window = |from, to| {
            let (from, to) = (minutes(from), minutes(to));
            format!(r#"{{"from": "{from}", "to": "{to}"}}"#)
        };
        let windows = [window(0, 55), window(300, 1440)].join(", ");
        rig.policy.rollout.windows = serde_json::from_str(&format!("[{windows}]")).unwrap();
    }
    let planned = rig.planned().await;
    let workers = planned.1.slots.iter().filter(|slot| slot.pool == "general");
    let first = workers.map(|slot| &slot.node).next().unwrap();
    let journal = MemoryJournal::new();
    let holds = async {
        // Its end lets the next one be decided.
        let is_verified = |record: &Record| {
            matches!(record, Record::Intent { action }
                if action.phase == Phase::Verify && action.target.name() == first)
        };
        while !journal
            .entries()
            .iter()
            .any(|entry| is_verified(&entry.record))
        {
            sleep(Duration::from_millis(100)).await;
        }
        rig.pause(true).await;
        let hour = Duration::from_secs(3600);
        let now = Duration::from_millis(rig.cluster.now_ms() - start.as_millis());
        sleep(hour.saturating_sub(now)).await;
        rig.pause(false).await;
    };
    let run = rig.run(Box::new(journal.clone()), Arc::new(rig.drainer()), &planned);
    let (report, ()) = tokio::join!(run, holds);
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    obeys_the_replay_law(journal.entries()).unwrap();
    let entries = journal.entries();
    let is_late = |record: &Record| {
        let Record::Input { input } = record else {
            return false;
        };
        matches!(
            input,
            Input::ActionEnded {
                result: ActionResult::TooLate,
                ..
            }
        )
    };
    let late = entries
        .iter()
        .filter(|entry| is_late(&entry.record))
        .count();
    // What a drain has done shows when it ends; what was too late has done nothing.
    let drained = entries.iter().filter_map(|entry| match &entry.record {
        Record::DrainEnded { node, .. } if node != first => {
            Some(entry.at.since(start).as_secs() / 60)
        }
        _ => None,
    });
    let after = drained.filter(|at| *at >= 55).collect();
    // Nor is the time until the next window a part of any drain.
    let drains = report.phases.iter();
    let drains = drains.filter(|row| row.phase == Phase::Drain && row.pool.is_some());
    let longest = drains.map(|row| row.actual).max().unwrap();
    assert!(longest < Duration::from_secs(30 * 60), "{report}");
    (after, late)
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_a_pause_held_until_its_window_was_over_waits_for_the_next() {
    let (drained, late) = paused_for_long(true).await;
    assert!(late > 0, "one was decided, and held");
    assert_eq!(drained.len(), 3, "{drained:?}");
    assert!(drained.iter().all(|at| *at >= 300), "{drained:?}");
    // The control: without windows it begins when the pause ends.
    let (drained, late) = paused_for_long(false).await;
    assert_eq!(late, 0);
    assert!(
        drained.iter().all(|at| (60..300).contains(at)),
        "{drained:?}"
    );
}
