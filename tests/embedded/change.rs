//! Agents whose watch comes back long after the control plane.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::CanaryChange as Policy;
use migrate_executor::RunOutcome;
use migrate_sim::NodeFault;
use migrate_sim::store::Resource;
use migrate_verify::CanaryChange;

use crate::faulty::{self, CANARIES, Faulty};

/// More than a minute after the control plane is back, less than `deadlines.verify`.
const DEAF_FOR: Duration = Duration::from_secs(500);

/// A kubelet that hears of no pod for [`DEAF_FOR`], and a run over it: how long after
/// its start the first pod was evicted, and what the run said.
async fn run(is_shown: bool) -> (Duration, String) {
    let went = faulty::run(NodeFault::Deaf, DEAF_FOR, |rig, migration| {
        if is_shown {
            let change = CanaryChange::new(rig.cluster.client(), &Policy::default());
            migration.change = Some(Arc::new(change));
        }
    });
    let Faulty {
        rig, began, report, ..
    } = went.await;
    assert!(matches!(report.outcome, RunOutcome::Done), "{report}");
    assert_eq!(rig.unfinished_nodes(), [""; 0]);
    let store = rig.cluster.store();
    let left = store.list(Resource::PODS, Some(CANARIES));
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
