//! The replay law: one machine decides.

use migrate_core::ActionId;
use migrate_executor::{MemoryJournal, Record, RunOutcome};
use migrate_plan::{Command, Recorded, replay};

use crate::cluster::{Rig, small};
use crate::upgrade::run_to;

/// What the executor was told, fed to a fresh rollout, gives exactly the
/// actions the executor began, in order.
#[tokio::test(start_paused = true)]
async fn recorded_inputs_give_the_recorded_actions() {
    let rig = Rig::start(3, small()).await;
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    run_to(RunOutcome::Done, &rig, &journal, &planned).await;

    let mut inputs = Vec::new();
    let mut began: Vec<ActionId> = Vec::new();
    for entry in journal.entries() {
        match entry.record {
            Record::Input { input } => inputs.push(Recorded::new(entry.at, input)),
            Record::Intent { action } => began.push(action.id),
            _ => {}
        }
    }
    let (model, plan) = &planned;
    let commands = replay(plan, model, &rig.policy, &inputs).unwrap();
    let replayed: Vec<ActionId> = commands
        .into_iter()
        .filter_map(|command| match command {
            Command::Begin { action } => Some(action.id),
            _ => None,
        })
        .collect();
    assert_eq!(began.len(), 2 + 5 * 3, "a member and five nodes");
    assert_eq!(replayed, began);
}
