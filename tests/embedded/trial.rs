//! Nodes that are tried out before their cordon is lifted.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::CanaryPod;
use migrate_executor::{Report, RunOutcome};
use migrate_sim::NodeFault;
use migrate_sim::store::Resource;
use migrate_verify::CanaryTrial;

use crate::cluster::Rig;
use crate::faulty::{self, CANARIES, Faulty};

/// A worker whose pods reach nobody, for `how_long`, and a run over it.
async fn run(tried: bool, how_long: Duration) -> (Rig, String, Report) {
    let went = faulty::run(NodeFault::NoNetwork, how_long, |rig, migration| {
        if tried {
            let trial = CanaryTrial::new(rig.cluster.client(), CanaryPod::new("busybox"));
            migration.trial = Some(Arc::new(trial));
        }
    });
    let Faulty {
        rig, node, report, ..
    } = went.await;
    let store = rig.cluster.store();
    let left = store.list(Resource::PODS, Some(CANARIES));
    assert_eq!(left.filter(|pod| !pod.is_terminating()).count(), 0);
    drop(store);
    (rig, node, report)
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
