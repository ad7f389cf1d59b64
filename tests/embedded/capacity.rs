//! Nodes whose pods no other node can take.

use std::sync::Arc;
use std::time::Duration;

use migrate_core::Finding;
use migrate_executor::{MemoryJournal, RunOutcome, StopCause};
use migrate_sim::store::Resource;
use migrate_sim::{Pool, Scenario, Workload};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::Rig;
use crate::replay::obeys_the_replay_law;
use crate::upgrade::run_to;

const STUCK: &str = "KM-CAPACITY-004";

/// Three workers of 4 CPU, each with a pod that asks for more than half of that.
async fn rig() -> Rig {
    let pool = Pool::new("general", 3).with_capacity("4", "16Gi", 110);
    let scenario = Scenario::new("v1.36.3")
        .with_pool(Pool::control_plane(1))
        .with_pool(pool)
        .with_workload(Workload::deployment("shop", "web", 3).with_requests("2500m", "1Gi"));
    Rig::start(17, scenario).await
}

async fn scale(rig: &Rig, replicas: u32) {
    let request = http::Request::patch("/apis/apps/v1/namespaces/shop/deployments/web")
        .header("content-type", "application/merge-patch+json")
        .body(
            json!({ "spec": { "replicas": replicas } })
                .to_string()
                .into_bytes(),
        );
    let client = rig.cluster.client();
    client.request::<Value>(request.unwrap()).await.unwrap();
    let pods = || {
        rig.cluster
            .store()
            .list(Resource::PODS, Some("shop"))
            .count()
    };
    while pods() != replicas as usize {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_can_never_be_drained_are_refused_before_anything_is_touched() {
    let rig = rig().await;
    let planned = rig.planned().await;
    let stuck = |findings: &[Finding]| {
        let mut found = findings.iter().filter(|finding| finding.code == STUCK);
        (found.next().cloned(), found.count())
    };
    let (finding, others) = stuck(&planned.1.findings);
    let finding = finding.unwrap();
    assert!(finding.blocks() && others == 0, "{finding}");
    let why = "3 (general-1, general-2, general-3); Deployment shop/web: 3 pods";
    assert!(finding.evidence.contains(why), "{finding}");
    assert!(
        finding.cure.contains("fewer replicas during the upgrade"),
        "{finding}"
    );
    let more = "one more node like general-1 (4.0 CPU, 16.0 GiB)";
    assert!(finding.cure.contains(more), "{finding}");

    let before = rig.mutating_requests();
    let run = rig.run(
        Box::new(MemoryJournal::new()),
        Arc::new(rig.drainer()),
        &planned,
    );
    let report = run.await.unwrap();
    let RunOutcome::Refused {
        cause: StopCause::Blocked { findings },
    } = &report.outcome
    else {
        panic!("{report}")
    };
    assert_eq!(stuck(findings).0.as_ref(), Some(&finding), "{report}");
    assert_eq!(rig.mutating_requests(), before);
    assert_eq!(rig.unfinished_nodes().len(), 4);

    // The cheapest of what it says helps.
    scale(&rig, 2).await;
    // Its controller evicts nobody.
    let scaled = rig.broken().len();
    let cured = rig.planned().await;
    assert_eq!(stuck(&cured.1.findings), (None, 0));
    let journal = MemoryJournal::new();
    run_to(RunOutcome::Done, &rig, &journal, &cured).await;
    assert_eq!(rig.unfinished_nodes(), [""; 0]);
    assert_eq!(rig.broken().len(), scaled, "{:?}", rig.broken());
    obeys_the_replay_law(journal.entries()).unwrap();
}

/// What the finding says is so.
#[tokio::test(start_paused = true)]
async fn waived_the_first_drain_waits_in_vain_until_its_deadline() {
    let mut rig = rig().await;
    rig.policy.waive.insert(STUCK.to_owned());
    let planned = rig.planned().await;
    let run = rig.run(
        Box::new(MemoryJournal::new()),
        Arc::new(rig.drainer()),
        &planned,
    );
    let report = run.await.unwrap();
    assert!(
        matches!(report.outcome, RunOutcome::Stopped { .. }),
        "{report}"
    );
    // The member's node has none of them.
    assert_eq!(rig.unfinished_nodes().len(), 3, "{report}");
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
}
