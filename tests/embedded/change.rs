//! Agents whose watch comes back long after the control plane.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{CanaryChange as Policy, Cancellation};
use migrate_executor::{Executor, MemoryJournal, RunOutcome};
use migrate_sim::NodeFault;
use migrate_sim::store::Resource;
use migrate_verify::CanaryChange;
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{Rig, small};
use crate::replay::obeys_the_replay_law;

/// More than a minute after the control plane is back, less than `deadlines.verify`.
const DEAF_FOR: Duration = Duration::from_secs(500);

/// A kubelet that hears of no pod for [`DEAF_FOR`], and a run over it: how long after
/// its start the first pod was evicted, and what the run said.
async fn run(is_shown: bool) -> (Duration, String) {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
                            "metadata": { "name": "kube-migrate-canary" } });
    let rig = Rig::start(11, small()).await;
    {
        let mut store = rig.cluster.store();
        store.create(Resource::NAMESPACES, namespace).unwrap();
    }
    let (model, plan) = rig.planned().await;
    let mut workers = plan.slots.iter().filter(|slot| slot.pool == "general");
    let deaf = workers.nth(1).unwrap().node.clone();
    let journal = MemoryJournal::new();
    let setup = rig.setup(Box::new(journal.clone()));
    let mut setup = setup.with_plan(plan, model, rig.policy.clone());
    if is_shown {
        let change = CanaryChange::new(rig.cluster.client(), &Policy::default());
        setup.migration = setup.migration.with_change(Arc::new(change));
    }
    rig.cluster.set_node_fault(&deaf, NodeFault::Deaf);
    let began = rig.cluster.now_ms();
    let cancel = Cancellation::new();
    let mut executor = Executor::open(setup).await.unwrap();
    let healed = async {
        sleep(DEAF_FOR).await;
        rig.cluster.set_node_fault(&deaf, NodeFault::None);
        std::future::pending::<()>().await;
    };
    let report = tokio::select! {
        report = executor.run(&cancel) => report.unwrap(),
        () = healed => unreachable!(),
    };
    obeys_the_replay_law(journal.entries()).unwrap();
    assert!(matches!(report.outcome, RunOutcome::Done), "{report}");
    assert_eq!(rig.unfinished_nodes(), [""; 0]);
    assert_eq!(rig.broken(), []);
    let store = rig.cluster.store();
    let left = store.list(Resource::PODS, Some("kube-migrate-canary"));
    assert_eq!(left.count(), 0);
    drop(store);
    let audit = rig.cluster.audit();
    let first = audit
        .iter()
        .find(|entry| entry.request.subresource == "eviction");
    let evicted = Duration::from_millis(first.unwrap().sent_ms - began);
    (evicted, report.to_string())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_drained_before_every_kubelet_has_seen_a_change() {
    let (evicted, report) = run(true).await;
    assert!(evicted > DEAF_FOR, "{evicted:?}: {report}");
}

/// Its heartbeat goes on, so that nothing else sees it.
#[tokio::test(start_paused = true)]
async fn without_a_change_a_drain_begins_before_an_agent_is_back() {
    let (evicted, report) = run(false).await;
    assert!(evicted < DEAF_FOR, "{evicted:?}: {report}");
}
