//! Agents whose watch comes back long after the control plane.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::CanaryChange as Policy;
use migrate_executor::RunOutcome;
use migrate_sim::NodeFault;
use migrate_sim::api::Fault;
use migrate_sim::store::{ApiError, Resource};
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

/// A refusal that stays stops the run, which says so and has evicted nobody.
#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_made_stops_the_run_before_any_drain() {
    let went = faulty::run(NodeFault::None, DEAF_FOR, |rig, migration| {
        let change = CanaryChange::new(rig.cluster.client(), &Policy::default());
        migration.change = Some(Arc::new(change));
        rig.cluster.api().set_faults(|request| {
            let of_canaries = request.namespace == CANARIES && request.resource == "pods";
            match of_canaries && request.verb == "create" {
                true => Fault::Answer(ApiError::Other {
                    code: 403,
                    reason: "Forbidden".into(),
                    message: "nobody may make pods here".into(),
                    retry_after_seconds: None,
                }),
                false => Fault::Pass,
            }
        });
    });
    let Faulty { rig, report, .. } = went.await;
    let stopped = matches!(report.outcome, RunOutcome::Stopped { .. });
    assert!(stopped, "{report}");
    let text = report.to_string();
    assert!(
        text.contains("KM-VERIFY-023") && text.contains("rbac-canary.yaml"),
        "{text}"
    );
    let audit = rig.cluster.audit();
    let mut evicted = audit.iter().map(|entry| &entry.request.subresource);
    assert!(!evicted.any(|subresource| subresource == "eviction"));
}
