//! The replay law: one machine decides.

use migrate_core::ActionId;
use migrate_executor::{Entry, MemoryJournal, Record, RunEnd, RunOpened, RunOutcome};
use migrate_plan::{Command, Input, Recorded, replay};

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
    let actions = obeys_the_replay_law(journal.entries()).unwrap();
    assert_eq!(
        actions,
        2 + 1 + 5 * 3,
        "a member, the second backup, five nodes"
    );
}

/// One run of a journal.
struct Run {
    opened: Box<RunOpened>,
    inputs: Vec<Recorded>,
    began: Vec<ActionId>,
    done: bool,
}

/// Checks the law on every run of a journal, whatever became of it and however
/// many runners it took; gives how many actions they began.
///
/// What a run did not come to begin before it ended is left out: then the
/// rollout begins more than the run. A run that is done has begun all of it.
pub(crate) fn obeys_the_replay_law(entries: Vec<Entry>) -> Result<usize, String> {
    let mut runs: Vec<Run> = Vec::new();
    for entry in entries {
        if let Record::RunOpened(opened) = entry.record {
            runs.push(Run {
                opened,
                inputs: Vec::new(),
                began: Vec::new(),
                done: false,
            });
            continue;
        }
        let Some(run) = runs.last_mut() else {
            return Err("a record before the first run".to_owned());
        };
        match entry.record {
            Record::Input { input } => run.inputs.push(Recorded::new(entry.at, input)),
            Record::Intent { action } => run.began.push(action.id),
            Record::RunEnded { end } => run.done = matches!(end, RunEnd::Done),
            _ => {}
        }
    }
    runs.iter()
        .try_fold(0, |actions, run| Ok(actions + run.check()?))
}

impl Run {
    fn check(&self) -> Result<usize, String> {
        let opened = &self.opened;
        let commands = replay(&opened.plan, &opened.model, &opened.policy, &self.inputs);
        let commands = commands.map_err(|error| error.to_string())?;
        // What an aborted run was not to come to any more has ended all the same.
        let has_ended = |id: &ActionId| {
            let ends = |told: &Recorded| matches!(&told.input, Input::ActionEnded { id: of, .. } if of == id);
            self.inputs.iter().any(ends)
        };
        let replayed: Vec<ActionId> = commands
            .into_iter()
            .filter_map(|command| match command {
                Command::Begin { action } => Some(action.id),
                _ => None,
            })
            .filter(|id| self.began.contains(id) || !has_ended(id))
            .collect();
        let same = match self.done {
            true => replayed == self.began,
            false => replayed.starts_with(&self.began),
        };
        match same {
            true => Ok(self.began.len()),
            false => Err(format!("began {:?}\nreplayed {replayed:?}", self.began)),
        }
    }
}

/// The law is not empty: without one of its inputs a run is not repeated.
#[tokio::test(start_paused = true)]
async fn a_lost_input_shows() {
    let rig = Rig::start(3, small()).await;
    let planned = rig.planned().await;
    let journal = MemoryJournal::new();
    run_to(RunOutcome::Done, &rig, &journal, &planned).await;
    let is_end = |record: &Record| {
        matches!(
            record,
            Record::Input {
                input: Input::ActionEnded { .. }
            }
        )
    };
    let mut entries = journal.entries();
    let at = entries
        .iter()
        .position(|entry| is_end(&entry.record))
        .unwrap();
    entries.remove(at);
    obeys_the_replay_law(entries).unwrap_err();
}
