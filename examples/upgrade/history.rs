//! What earlier runs took, in a file that each run is added to.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use migrate_core::Plan;
use migrate_executor::{RecordedRun, Report, RunOutcome};
use migrate_plan::{History, Planner};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::run::Environment;
use crate::show;

/// What `--history` names; empty while the file is not there yet.
pub(crate) fn read(cli: &Cli) -> Result<Option<History>, Failure> {
    let Some(path) = &cli.history else {
        return Ok(None);
    };
    let refused = |error: &dyn Error| Failure::new(path.display(), format!("{error} (--history)"));
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.map_err(|error| refused(&error))?,
    };
    let history = History::from_text(&text).map_err(|error| refused(&error))?;
    Ok(Some(history))
}

/// Adds what has ended in the run of `report` to the file that `--history` names, also of
/// one that has stopped; what it does later is added to that. Where that fails, which
/// changes nothing of the run, it is said.
pub(crate) fn keep(cli: &Cli, env: &Environment, report: &Report) {
    let Some(path) = &cli.history else {
        return;
    };
    let has_ended = matches!(
        report.outcome,
        RunOutcome::Done | RunOutcome::Stopped { .. } | RunOutcome::Aborted
    );
    if !has_ended {
        return;
    }
    let Some(run) = show::recorded(report) else {
        eprintln!(
            "not kept in {}: the journal is in no file (--journal)",
            path.display()
        );
        return;
    };
    if let Err(error) = add(path, env, &run) {
        eprintln!("not kept in {}: {error}", path.display());
    }
}

fn add(path: &Path, env: &Environment, run: &RecordedRun) -> Result<(), Box<dyn Error>> {
    let kept = History::of_actions(&expected(env, run)?, run.ended()?);
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    let mut file = options.open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // The same run may have been kept when it had stopped, or was opened after its end.
    let new = kept.beyond(&History::from_text(&text)?);
    if new.lines.is_empty() {
        return Ok(());
    }
    // What a write that was cut off has left would be taken for a line of this one.
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    file.set_len(u64::try_from(whole)?)?;
    file.write_all(new.to_text()?.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// The plan of `run` as it would be made without any history: whatever it was predicted
/// from, what it took is told beside the constants.
fn expected(env: &Environment, run: &RecordedRun) -> Result<Plan, Box<dyn Error>> {
    let opened = &*run.opened;
    let (model, to) = (&opened.model, &opened.plan.to);
    let mut planner = Planner::new(model, &opened.policy, to.clone());
    planner = planner.with_durations(env.durations.clone());
    if let Some(link) = &env.link {
        planner = planner.with_link(link.clone());
    }
    let members = model.control_plane.iter().map(|member| &member.version);
    if let (Some(driver), Some(from)) = (&env.kubeadm, members.min()) {
        planner = planner.with_renewed(driver.renews(from, to));
    }
    if let Some(node) = opened.plan.way_back() {
        planner = planner.taking_back(node);
    }
    Ok(planner.plan()?)
}
