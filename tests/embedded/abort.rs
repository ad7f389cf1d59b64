//! A run is ended for good in the middle of a node, and another one follows.

use migrate_core::{Cancellation, Phase};
use migrate_executor::{Entry, Executor, MemoryJournal, Record, RunOutcome};

use crate::cluster::{Rig, small};
use crate::replay::obeys_the_replay_law;
use crate::upgrade::run_to;

/// The first worker that came to `phase`, once one has.
pub(crate) fn in_phase(entries: &[Entry], phase: Phase) -> Option<String> {
    let worker = |entry: &Entry| match &entry.record {
        Record::Intent { action } if action.phase == phase => {
            let name = action.target.name();
            name.starts_with("general").then(|| name.to_owned())
        }
        _ => None,
    };
    entries.iter().find_map(worker)
}

#[tokio::test(start_paused = true)]
async fn an_aborted_run_leaves_whole_nodes_and_the_next_one_arrives() {
    for (seed, phase) in [
        (21, Phase::Drain),
        (22, Phase::Upgrade),
        (23, Phase::Verify),
    ] {
        let rig = Rig::start(seed, small()).await;
        let journal = MemoryJournal::new();
        let (model, plan) = rig.planned().await;
        let workers = plan.slots.len() - 1;
        let setup = rig.setup(Box::new(journal.clone()));
        let setup = setup.with_plan(plan, model, rig.policy.clone());
        let mut executor = Executor::open(setup).await.unwrap();
        let node = loop {
            let _ = executor.step().await.unwrap();
            if let Some(node) = in_phase(&journal.entries(), phase) {
                break node;
            }
        };
        executor.abort();
        let report = executor.run(&Cancellation::new()).await.unwrap();
        assert_eq!(report.outcome, RunOutcome::Aborted, "{report}");
        assert_eq!(report.cordons, [""; 0], "{report}");
        drop(executor);
        // Whoever was not past its drain is as it was, and in use.
        let unfinished = rig.unfinished_nodes();
        let is_whole = phase != Phase::Drain;
        assert_eq!(
            unfinished.len(),
            workers - usize::from(is_whole),
            "{report}"
        );
        assert_eq!(unfinished.contains(&node), !is_whole);
        obeys_the_replay_law(journal.entries()).unwrap();
        assert!(rig.broken().is_empty(), "{:?}", rig.broken());

        let again = rig.planned().await;
        assert_eq!(again.1.slots.len(), unfinished.len());
        assert!(again.0.nodes.iter().all(|node| !node.unschedulable));
        run_to(RunOutcome::Done, &rig, &journal, &again).await;
        assert_eq!(rig.unfinished_nodes(), Vec::<String>::new());
        assert!(rig.broken().is_empty(), "{:?}", rig.broken());
    }
}
