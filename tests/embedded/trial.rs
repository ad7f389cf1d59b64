//! Nodes that are tried out before their cordon is lifted.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::{CanaryPod, Cancellation};
use migrate_executor::{Executor, MemoryJournal, Report, RunOutcome};
use migrate_sim::NodeFault;
use migrate_sim::store::Resource;
use migrate_verify::CanaryTrial;
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{Rig, small};
use crate::replay::obeys_the_replay_law;

/// A worker whose pods reach nobody, for `how_long`, and a run over it.
async fn run(tried: bool, how_long: Duration) -> (Rig, String, Report) {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
                            "metadata": { "name": "kube-migrate-canary" } });
    let rig = Rig::start(11, small()).await;
    {
        let mut store = rig.cluster.store();
        store.create(Resource::NAMESPACES, namespace).unwrap();
    }
    let (model, plan) = rig.planned().await;
    let mut workers = plan.slots.iter().filter(|slot| slot.pool == "general");
    let broken = workers.nth(1).unwrap().node.clone();
    let journal = MemoryJournal::new();
    let setup = rig.setup(Box::new(journal.clone()));
    let mut setup = setup.with_plan(plan, model, rig.policy.clone());
    if tried {
        let pod = CanaryPod::new("busybox");
        setup.migration.trial = Some(Arc::new(CanaryTrial::new(rig.cluster.client(), pod)));
    }
    rig.cluster.set_node_fault(&broken, NodeFault::NoNetwork);
    let cancel = Cancellation::new();
    let mut executor = Executor::open(setup).await.unwrap();
    let healed = async {
        sleep(how_long).await;
        rig.cluster.set_node_fault(&broken, NodeFault::None);
        std::future::pending::<()>().await;
    };
    let report = tokio::select! {
        report = executor.run(&cancel) => report.unwrap(),
        () = healed => unreachable!(),
    };
    obeys_the_replay_law(journal.entries()).unwrap();
    assert_eq!(rig.broken(), []);
    let store = rig.cluster.store();
    let left = store.list(Resource::PODS, Some("kube-migrate-canary"));
    assert_eq!(left.filter(|pod| !pod.is_terminating()).count(), 0);
    drop(store);
    (rig, broken, report)
}

const FOR_EVER: Duration = Duration::from_secs(1_000_000);

#[tokio::test(start_paused = true)]
async fn a_node_whose_pods_reach_nobody_is_not_given_back() {
    let (rig, broken, report) = run(true, FOR_EVER).await;
    assert!(matches!(report.outcome, RunOutcome::Stopped { .. }));
    let text = report.to_string();
    assert!(
        text.contains("KM-VERIFY-020") && text.contains("kube-proxy"),
        "{text}"
    );
    assert!(rig.unfinished_nodes().contains(&broken));
    let store = rig.cluster.store();
    let node = store.get(Resource::NODES, "", &broken).unwrap();
    assert_eq!(node.json["spec"]["unschedulable"], true);
}

/// Nothing else would have seen it.
#[tokio::test(start_paused = true)]
async fn without_a_trial_it_is() {
    let (rig, _, report) = run(false, FOR_EVER).await;
    assert!(matches!(report.outcome, RunOutcome::Done), "{report}");
    assert_eq!(rig.unfinished_nodes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_comes_back_in_time_is_waited_for() {
    let (rig, _, report) = run(true, Duration::from_secs(500)).await;
    assert!(matches!(report.outcome, RunOutcome::Done), "{report}");
    assert_eq!(rig.unfinished_nodes(), [""; 0]);
}
