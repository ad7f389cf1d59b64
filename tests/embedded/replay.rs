//! The replay law: one machine decides.

use migrate_core::{ActionId, Cancellation};
use migrate_executor::{
    Entry, Executor, MemoryJournal, Pace, Record, RecordedRun, RunEnd, RunOutcome,
};
use migrate_plan::{Command, Difference, Input, Measured, Planner, Recorded, rehearse, replay};

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

/// Checks the law on every run of a journal, whatever became of it and however
/// many runners it took; gives how many actions they began.
///
/// What a run did not come to begin before it ended is left out: then the
/// rollout begins more than the run. A run that is done has begun all of it.
pub(crate) fn obeys_the_replay_law(entries: Vec<Entry>) -> Result<usize, String> {
    RecordedRun::all(entries)
        .iter()
        .try_fold(0, |actions, run| Ok(actions + check(run)?))
}

fn check(run: &RecordedRun) -> Result<usize, String> {
    let opened = &run.opened;
    let commands = replay(&opened.plan, &opened.model, &opened.policy, &run.inputs);
    let commands = commands.map_err(|error| error.to_string())?;
    let began: Vec<&ActionId> = run.begun.iter().map(|action| &action.id).collect();
    // What an aborted run was not to come to any more has ended all the same.
    let has_ended = |id: &ActionId| {
        let ends =
            |told: &Recorded| matches!(&told.input, Input::ActionEnded { id: of, .. } if of == id);
        run.inputs.iter().any(ends)
    };
    let replayed: Vec<ActionId> = commands
        .into_iter()
        .filter_map(|command| match command {
            Command::Begin { action } => Some(action.id),
            _ => None,
        })
        .filter(|id| began.contains(&id) || !has_ended(id))
        .collect();
    let same = match run.end {
        Some(RunEnd::Done) => replayed.iter().eq(began.iter().copied()),
        _ => replayed.iter().take(began.len()).eq(began.iter().copied()),
    };
    match same {
        true => Ok(began.len()),
        false => Err(format!("began {began:?}\nreplayed {replayed:?}")),
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

/// The other way round: what the actions of a run took, given to the planner, makes
/// it begin the same in the same order.
///
/// The times part by one thing: a cordon is lifted in a verification, and the
/// rollout hears of it up to `Pace::gather` after the end of that, while the
/// planner knows at once. The next worker waits for it, three times with four
/// workers and a width of one.
#[tokio::test(start_paused = true)]
async fn measured_durations_rehearse_the_run_that_they_are_of() {
    let gather = Pace::default().gather;
    let rig = Rig::start(3, small()).await;
    let (model, plan) = rig.planned().await;
    let journal = MemoryJournal::new();
    let mut pace = Pace::default();
    pace.gather = gather;
    let setup = rig.setup(Box::new(journal.clone())).with_pace(pace);
    let setup = setup.with_plan(plan.clone(), model.clone(), rig.policy.clone());
    let mut executor = Executor::open(setup).await.unwrap();
    let report = executor.run(&Cancellation::new()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Done, "{report}");
    let run = RecordedRun::all(journal.entries()).remove(0);
    let (measured, timeline) = (run.measured().unwrap(), run.timeline().unwrap());
    let rehearsal = rehearse(&model, &rig.policy, &plan, &measured).unwrap();
    let found = rehearsal.differences(&timeline, 3 * gather);
    assert_eq!(found, [], "{rehearsal:#?}");
    assert_eq!(timeline.actions.len(), 2 + 1 + 5 * 3);
    // Not by the constants that the plan was made with.
    let predicted = rehearse(&model, &rig.policy, &plan, &Measured::default()).unwrap();
    let found = predicted.differences(&timeline, 3 * gather);
    assert!(!found.is_empty());

    // Another width is another run.
    let mut wider = rig.policy.clone();
    wider.pools.max_unavailable = "2".parse().unwrap();
    let planner = Planner::new(&model, &wider, plan.to.clone());
    let other = rehearse(&model, &wider, &planner.plan().unwrap(), &measured).unwrap();
    let found = other.differences(&timeline, 3 * gather);
    let order = |found: &Difference| matches!(found, Difference::Order { .. });
    assert!(found.iter().any(order), "{found:?}");
    assert!(other.end() + 3 * gather < timeline.end());

    // The means of the report are of the same: it counts from the announcement
    // of an action, the journal from its decision just before.
    let by_report = report.measured();
    assert!(by_report.actions.is_empty());
    let of = |measured: &Measured| -> Vec<_> {
        let rows = measured.phases.iter();
        rows.map(|row| (row.of.clone(), row.phase, row.targets))
            .collect()
    };
    let mut kinds = (of(&by_report), of(&measured));
    kinds.0.sort();
    kinds.1.sort();
    assert_eq!(kinds.0, kinds.1);
}
