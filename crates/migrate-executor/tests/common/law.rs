//! What holds of every journal.

use migrate_core::ActionId;
use migrate_executor::{Entry, Record};
use migrate_plan::{Command, Input, Recorded, replay};

/// The replay law: the inputs of a run, fed to a fresh rollout, give exactly
/// the actions that the run announced.
///
/// Actions that were decided and not announced any more (the run was stopped
/// before) may be missing at the end. An action that an aborted run was not to
/// come to any more ended without an announcement.
pub(crate) fn assert_replay_law(entries: &[Entry]) {
    let opened = entries.iter().rev().find_map(|entry| match &entry.record {
        Record::RunOpened(opened) => Some(opened),
        _ => None,
    });
    let opened = opened.expect("a run");
    let inputs: Vec<Recorded> = entries
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Input { input } => Some(Recorded::new(entry.at, input.clone())),
            _ => None,
        })
        .collect();
    let commands = replay(&opened.plan, &opened.model, &opened.policy, &inputs).unwrap();
    let announced = intents(entries);
    let never = |id: &ActionId| {
        let is_end = |input: &Recorded| matches!(&input.input, Input::ActionEnded { id: of, .. } if of == id);
        !announced.contains(id) && inputs.iter().any(is_end)
    };
    let decided: Vec<ActionId> = commands
        .into_iter()
        .filter_map(|command| match command {
            Command::Begin { action } => Some(action.id),
            _ => None,
        })
        .filter(|id| !never(id))
        .collect();
    let ended = entries
        .iter()
        .any(|entry| matches!(entry.record, Record::RunEnded { .. }));
    assert!(ended, "the run has ended");
    assert_eq!(announced, decided);
}

/// The announced actions in order.
pub(crate) fn intents(entries: &[Entry]) -> Vec<ActionId> {
    let intent = |entry: &Entry| match &entry.record {
        Record::Intent { action } => Some(action.id.clone()),
        _ => None,
    };
    entries.iter().filter_map(intent).collect()
}
