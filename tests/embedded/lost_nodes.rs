//! Nodes that are deleted while a run has them in hand, and what comes back under
//! their names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use migrate_core::steps::{DrainCommands, DrainEvent, DrainEvents, DrainOutcome};
use migrate_core::{MigratePods, StepContext, StepError, StepInput};
use migrate_executor::{MemoryJournal, Record, RunOutcome};
use migrate_sim::store::{DeleteOptions, Resource};
use serde_json::Value;
use tokio::time::sleep;

use crate::cluster::{Rig, small};
use crate::replay::obeys_the_replay_law;

/// The second worker of the plan: its pool has its canary behind it.
fn victim(plan: &migrate_core::Plan) -> String {
    let mut workers = plan.slots.iter().filter(|slot| slot.pool == "general");
    workers.nth(1).unwrap().node.clone()
}

/// Deletes `node` at the moment `when`, and makes it anew after `away`, as a kubelet
/// does that registers again: without a cordon, with its pods.
async fn lose(rig: &Rig, node: &str, away: Option<Duration>, when: impl Fn(&Value) -> bool) {
    let read = || {
        let store = rig.cluster.store();
        store.get(Resource::NODES, "", node).unwrap().json.clone()
    };
    let before = loop {
        let json = read();
        if when(&json) {
            break json;
        }
        sleep(Duration::from_millis(50)).await;
    };
    let delete = || {
        let mut store = rig.cluster.store();
        let deleted = store.delete(Resource::NODES, "", node, &DeleteOptions::now());
        deleted.unwrap();
    };
    delete();
    let Some(away) = away else { return };
    if !away.is_zero() {
        sleep(away).await;
    }
    let mut anew: Value = before;
    for field in ["uid", "resourceVersion", "annotations", "managedFields"] {
        anew["metadata"].as_object_mut().unwrap().remove(field);
    }
    anew["spec"]
        .as_object_mut()
        .unwrap()
        .remove("unschedulable");
    anew["spec"].as_object_mut().unwrap().remove("taints");
    let mut store = rig.cluster.store();
    store.create(Resource::NODES, anew).unwrap();
}

/// Runs through the loss of a node; gives the rules broken and the report.
async fn run(
    rig: &Rig,
    migrate: Arc<dyn MigratePods>,
    away: Option<Duration>,
) -> (Vec<&'static str>, String) {
    let planned = rig.planned().await;
    let node = victim(&planned.1);
    let journal = MemoryJournal::new();
    let run = rig.run(Box::new(journal.clone()), migrate, &planned);
    let is_cordoned = |node: &Value| node["spec"]["unschedulable"] == true;
    let (report, ()) = tokio::join!(run, lose(rig, &node, away, is_cordoned));
    obeys_the_replay_law(journal.entries()).unwrap();
    let broken = rig.broken().iter().map(|broken| broken.rule).collect();
    let report = report.map_or_else(
        |error| error.to_string(),
        |report| format!("{:?}\n{report}", report.outcome),
    );
    (broken, report)
}

#[tokio::test(start_paused = true)]
async fn a_node_made_anew_during_its_drain_is_drained_anew() {
    // At once, before the executor has told of either; and some time later.
    for away in [0, 300, 5_000, 60_000] {
        let rig = Rig::start(5, small()).await;
        let drainer = Arc::new(rig.drainer());
        let away = Some(Duration::from_millis(away));
        let (_, report) = run(&rig, drainer, away).await;
        assert!(
            report.starts_with(&format!("{:?}", RunOutcome::Done)),
            "{report}"
        );
        assert!(rig.broken().is_empty(), "{away:?}: {:?}", rig.broken());
        assert_eq!(rig.unfinished_nodes(), Vec::<String>::new(), "{away:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_deleted_during_its_drain_is_left_out_and_named() {
    let rig = Rig::start(5, small()).await;
    let drainer = Arc::new(rig.drainer());
    let node = victim(&rig.planned().await.1);
    let (_, report) = run(&rig, drainer, None).await;
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    assert_eq!(rig.unfinished_nodes(), Vec::<String>::new());
    let is_named = |line: &str| line.contains(&node) && line.contains("its node is gone");
    assert!(report.lines().any(is_named), "{report}");
    // Who deleted it is for a person to find out.
    assert!(
        report.starts_with("Done") && report.contains("KM-VERIFY-019"),
        "{report}"
    );
}

/// Held between drain and upgrade: the machine that comes back is drained itself.
#[tokio::test(start_paused = true)]
async fn a_node_made_anew_after_its_drain_is_drained_before_it_is_changed() {
    for away in [0, 20_000] {
        let rig = Rig::start(5, small()).await;
        let planned = rig.planned().await;
        let node = victim(&planned.1);
        let journal = MemoryJournal::new();
        let loses = async {
            let is_cordoned = || {
                let store = rig.cluster.store();
                let json = &store.get(Resource::NODES, "", &node).unwrap().json;
                json["spec"]["unschedulable"] == true
            };
            while !is_cordoned() {
                sleep(Duration::from_millis(50)).await;
            }
            rig.pause(true).await;
            let is_drained = |_: &Value| {
                let entries = journal.entries();
                let is_it = |record: &Record| matches!(record, Record::DrainEnded { node: of, .. } if *of == node);
                entries.iter().any(|entry| is_it(&entry.record))
            };
            lose(&rig, &node, Some(Duration::from_millis(away)), is_drained).await;
            sleep(Duration::from_secs(5)).await;
            rig.pause(false).await;
        };
        let run = rig.run(Box::new(journal.clone()), Arc::new(rig.drainer()), &planned);
        let (report, ()) = tokio::join!(run, loses);
        let report = report.unwrap();
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert!(rig.broken().is_empty(), "{report}\n{:?}", rig.broken());
        assert_eq!(rig.unfinished_nodes(), Vec::<String>::new(), "{away}");
        obeys_the_replay_law(journal.entries()).unwrap();
        let entries = journal.entries();
        let drains = entries.iter().filter(
            |entry| matches!(&entry.record, Record::DrainEnded { node: of, .. } if *of == node),
        );
        assert_eq!(drains.count(), 2, "each machine");
    }
}

/// A drainer that calls a node empty that is gone is found out by the last look
/// before the upgrade: the next machine of its name is not changed under its pods.
#[tokio::test(start_paused = true)]
async fn a_lost_node_that_is_called_empty_is_found_out_before_it_is_changed() {
    let rig = Rig::start(5, small()).await;
    let careless = Arc::new(Careless(rig.drainer()));
    let (broken, report) = run(&rig, careless, Some(Duration::ZERO)).await;
    assert!(broken.is_empty(), "{broken:?} {report}");
    assert!(report.starts_with("Done"), "{report}");
}

struct Careless(migrate_drain::Drainer);

#[async_trait]
impl MigratePods for Careless {
    async fn migrate(
        &self,
        cx: &StepContext,
        input: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        let events = self.0.migrate(cx, input, commands).await?;
        let called_empty = |event| match event {
            DrainEvent::Drained {
                node,
                outcome: DrainOutcome::NodeGone { evictions },
                ..
            } => DrainEvent::drained(node, DrainOutcome::Empty { evictions }),
            event => event,
        };
        Ok(events.map(called_empty).boxed())
    }
}
