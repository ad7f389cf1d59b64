//! The whole way, on the cluster of the demo.

use std::sync::Arc;

use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_sim::Scenario;

use crate::cluster::{Rig, small};

#[tokio::test(start_paused = true)]
async fn the_demo_arrives_whole_and_a_second_run_writes_nothing() {
    for seed in [1, 2] {
        let mut rig = Rig::start(seed, Scenario::demo().unwrap()).await;
        rig.policy.consent.bare_pods = true;
        rig.policy.consent.downtime = true;
        let planned = rig.planned().await;
        let report = rig
            .run(
                Box::new(MemoryJournal::new()),
                Arc::new(rig.drainer()),
                &planned,
            )
            .await
            .unwrap();
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        assert!(rig.broken().is_empty(), "{:?}", rig.broken());
        assert!(
            rig.unfinished_nodes().is_empty(),
            "{:?}",
            rig.unfinished_nodes()
        );

        let before = rig.mutating_requests();
        let again = rig.planned().await;
        assert!(again.1.is_empty());
        let report = rig
            .run(
                Box::new(MemoryJournal::new()),
                Arc::new(rig.drainer()),
                &again,
            )
            .await
            .unwrap();
        assert_eq!(report.outcome, RunOutcome::NothingToDo, "{report}");
        assert_eq!(rig.mutating_requests(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_requests() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::start(5, small()).await;
        let planned = rig.planned().await;
        let report = rig
            .run(
                Box::new(MemoryJournal::new()),
                Arc::new(rig.drainer()),
                &planned,
            )
            .await
            .unwrap();
        assert_eq!(report.outcome, RunOutcome::Done, "{report}");
        runs.push(format!("{:?}{report}", rig.cluster.audit()));
    }
    assert!(runs[0] == runs[1], "two runs of one seed differ");
}
