//! The whole way, on the cluster of the demo.

use std::sync::Arc;

use migrate_core::{ClusterModel, Plan, Pod};
use migrate_executor::{MemoryJournal, RunOutcome};
use migrate_kube::{EvictOptions, EvictionAnswer, evict};
use migrate_sim::Scenario;

use crate::cluster::{Rig, small};

/// Runs what was planned with a drainer of the rig; it ends as `outcome`. Gives
/// the report.
pub(crate) async fn run_to(
    outcome: RunOutcome,
    rig: &Rig,
    journal: &MemoryJournal,
    planned: &(ClusterModel, Plan),
) -> String {
    let journal = Box::new(journal.clone());
    let report = rig.run(journal, Arc::new(rig.drainer()), planned).await;
    let report = report.unwrap();
    assert_eq!(report.outcome, outcome, "{report}");
    report.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_demo_arrives_whole_and_a_second_run_writes_nothing() {
    for seed in [1, 2] {
        let mut rig = Rig::start(seed, Scenario::demo().unwrap()).await;
        rig.policy.consent.bare_pods = true;
        rig.policy.consent.downtime = true;
        let planned = rig.planned().await;
        run_to(RunOutcome::Done, &rig, &MemoryJournal::new(), &planned).await;
        assert!(rig.broken().is_empty(), "{:?}", rig.broken());
        let unfinished = rig.unfinished_nodes();
        assert!(unfinished.is_empty(), "{unfinished:?}");

        let before = rig.mutating_requests();
        let again = rig.planned().await;
        assert!(again.1.is_empty());
        run_to(RunOutcome::NothingToDo, &rig, &MemoryJournal::new(), &again).await;
        assert_eq!(rig.mutating_requests(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_short_of_a_pod_when_planned_holds_nobody_up_for_good() {
    let rig = Rig::start(3, small()).await;
    let web = |model: &ClusterModel| {
        let of_web = |pod: &&Pod| pod.labels.get("app").is_some_and(|app| app == "web");
        model
            .pods
            .iter()
            .filter(of_web)
            .cloned()
            .collect::<Vec<_>>()
    };
    let first = web(&rig.planned().await.0).remove(0).id;
    // On its way out, it is no reason to refuse the run.
    let answer = evict(&rig.cluster.client(), &first, &EvictOptions::default()).await;
    assert!(matches!(answer, EvictionAnswer::Accepted), "{answer:?}");
    let planned = rig.planned().await;
    let healthy = web(&planned.0).into_iter().filter(Pod::is_healthy);
    assert_eq!(healthy.count(), 3, "one of four is away");
    run_to(RunOutcome::Done, &rig, &MemoryJournal::new(), &planned).await;
    assert!(rig.broken().is_empty(), "{:?}", rig.broken());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_requests() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::start(5, small()).await;
        let planned = rig.planned().await;
        let report = run_to(RunOutcome::Done, &rig, &MemoryJournal::new(), &planned).await;
        runs.push(format!("{:?}{report}", rig.cluster.audit()));
    }
    assert!(runs[0] == runs[1], "two runs of one seed differ");
}
