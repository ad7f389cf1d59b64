//! Negative controls: with a protection off, the checker must object.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use migrate_core::steps::{
    DrainCommand, DrainCommands, DrainEvent, DrainEvents, DrainFailure, DrainFailureKind,
    DrainOutcome,
};
use migrate_core::{IntOrPercent, MigratePods, StepContext, StepError, StepInput};
use migrate_executor::MemoryJournal;
use migrate_kube::{cordon, restore_cordon};
use migrate_sim::store::Resource;
use migrate_sim::{Pool, Scenario, Workload, annotations};

use crate::cluster::{Rig, small};

/// Many replicas on few nodes, and several nodes at once: what a drain without
/// protection takes down together.
fn crowded() -> Scenario {
    Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 4))
        .with_workload(Workload::deployment("shop", "web", 8))
        .with_workload(Workload::deployment("shop", "api", 6))
}

async fn violations(rig: &Rig, migrate: Arc<dyn MigratePods>) -> Vec<&'static str> {
    let planned = rig.planned().await;
    // How the run ends does not matter here, what it did does.
    let _ = rig
        .run(Box::new(MemoryJournal::new()), migrate, &planned)
        .await;
    rig.broken()
        .iter()
        .map(|violation| violation.rule)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_budgets_are_broken() {
    let rig = Rig::start(1, crowded()).await;
    let drainer = Arc::new(rig.drainer().unguarded());
    assert!(violations(&rig, drainer).await.contains(&"I1"));
}

#[tokio::test(start_paused = true)]
async fn without_assumed_budgets_they_are_broken() {
    let mut rig = Rig::start(1, crowded()).await;
    rig.policy.assumed_budgets.enabled = false;
    let drainer = Arc::new(rig.drainer());
    assert!(violations(&rig, drainer).await.contains(&"I1"));
}

/// A controller whose objects nobody reads shows in its pods alone.
#[tokio::test(start_paused = true)]
async fn without_assumed_budgets_pods_of_an_unknown_controller_go_together() {
    let scenario = || {
        Scenario::new("v1.36.3")
            .with_pool(Pool::control_plane(1))
            .with_pool(Pool::new("general", 4))
            .with_workload(Workload::replication_controller("shop", "legacy", 8))
    };
    let mut rig = Rig::start(1, scenario()).await;
    rig.policy.assumed_budgets.enabled = false;
    let drainer = Arc::new(rig.drainer());
    assert!(violations(&rig, drainer).await.contains(&"I1"));

    let rig = Rig::start(1, scenario()).await;
    let planned = rig.planned().await;
    let named = |code: &str| {
        let mut found = planned.1.findings.iter().filter(|found| found.code == code);
        found.any(|found| found.object.to_string() == "ReplicationController shop/legacy")
    };
    assert!(named("KM-POD-006"), "{:?}", planned.1.findings);
    let (journal, drainer) = (Box::new(MemoryJournal::new()), Arc::new(rig.drainer()));
    let report = rig.run(journal, drainer, &planned).await.unwrap();
    assert!(
        report
            .findings
            .iter()
            .any(|found| found.code == "KM-POD-006")
    );
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    assert!(rig.unfinished_nodes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_drain_nodes_change_under_their_pods() {
    let rig = Rig::start(1, crowded()).await;
    let no_drain = Arc::new(NoDrain(rig.cluster.client()));
    assert!(violations(&rig, no_drain).await.contains(&"I3"));
}

/// A cordon does not move a pod that tolerates it, and a kubelet may not change
/// under it all the same.
#[tokio::test(start_paused = true)]
async fn without_a_drain_nodes_change_under_pods_that_tolerate_a_cordon() {
    let mut operator = Workload::deployment("kube-system", "operator", 4);
    operator.tolerates_everything = true;
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(Pool::new("general", 3))
        .with_workload(operator);
    let rig = Rig::start(1, scenario.clone()).await;
    let no_drain = Arc::new(NoDrain(rig.cluster.client()));
    assert!(violations(&rig, no_drain).await.contains(&"I3"));
    let rig = Rig::start(1, scenario).await;
    let drainer = Arc::new(rig.drainer());
    let broken = violations(&rig, drainer).await;
    assert!(broken.is_empty(), "{:?}", rig.broken());
}

/// Workers beside the kubelets of a control plane.
#[tokio::test(start_paused = true)]
async fn without_their_gate_workers_overtake_the_control_plane() {
    let scenario = || {
        Scenario::new("v1.36.3")
            .with_pool(Pool::control_plane(3))
            .with_pool(Pool::new("general", 3))
            .with_workload(Workload::deployment("shop", "web", 2))
    };
    let mut rig = Rig::start(1, scenario()).await;
    rig.policy.rollout.control_plane_nodes_first = false;
    let drainer = Arc::new(rig.drainer());
    assert!(violations(&rig, drainer).await.contains(&"I2"));
    let rig = Rig::start(1, scenario()).await;
    let drainer = Arc::new(rig.drainer());
    let broken = violations(&rig, drainer).await;
    assert!(broken.is_empty(), "{:?}", rig.broken());
    assert!(rig.unfinished_nodes().is_empty());
}

/// One of three members leaps ahead by two minors.
#[tokio::test(start_paused = true)]
async fn a_control_plane_that_drifts_apart_is_seen() {
    let scenario = Scenario::new("v1.36.3").with_pool(Pool::control_plane(3));
    let rig = Rig::start(1, scenario).await;
    let member = {
        let store = rig.cluster.store();
        let first = store.list(Resource::NODES, None).next().unwrap();
        first.name.clone()
    };
    let leap = |node: &mut serde_json::Value| {
        node["metadata"]["annotations"][annotations::CONTROL_PLANE_VERSION] = "v1.38.0".into();
    };
    let mut store = rig.cluster.store();
    store.modify(Resource::NODES, "", &member, leap).unwrap();
    drop(store);
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    let broken = rig.broken();
    assert!(
        broken.iter().all(|violation| violation.rule == "I4"),
        "{broken:?}"
    );
    let named = |what: &str| {
        broken
            .iter()
            .any(|violation| violation.what.starts_with(what))
    };
    assert!(named("kube-apiserver of"), "{broken:?}");
}

#[tokio::test(start_paused = true)]
async fn with_everything_on_nothing_is_broken() {
    let mut rig = Rig::start(1, crowded()).await;
    rig.policy.pools.max_unavailable = IntOrPercent::Int(1);
    let drainer = Arc::new(rig.drainer());
    assert!(violations(&rig, drainer).await.is_empty());
    let rig = Rig::start(1, small()).await;
    let drainer = Arc::new(rig.drainer());
    assert!(violations(&rig, drainer).await.is_empty());
}

/// Cordons, and calls the node drained.
struct NoDrain(kube::Client);

#[async_trait]
impl MigratePods for NoDrain {
    async fn migrate(
        &self,
        cx: &StepContext,
        _: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        let client = self.0.clone();
        let fence = cx.fence.clone();
        Ok(Box::pin(commands.then(move |command| {
            let (client, fence) = (client.clone(), fence.clone());
            async move {
                match command {
                    DrainCommand::Release { node } => {
                        let restored = restore_cordon(&client, &node, &fence).await;
                        let error = restored.err().map(|error| {
                            DrainFailure::new(DrainFailureKind::Other, error.to_string())
                        });
                        DrainEvent::Released { node, error }
                    }
                    DrainCommand::Drain { node } => {
                        cordon(&client, &node, &fence).await.unwrap();
                        let outcome = DrainOutcome::Empty { evictions: 0 };
                        DrainEvent::drained(node, outcome)
                    }
                    other => unreachable!("{other:?}"),
                }
            }
        })))
    }
}
