//! Ending an unfinished run for good.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use migrate_core::{ClusterModel, Target};
use migrate_executor::{Executor, FileJournal, Position, Record, Report, RunOutcome};
use migrate_upgrade::AddonHook;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::run::{self, Environment};
use crate::{history, nodes, show};

/// Ends the run in the journal at `path`.
pub(crate) async fn execute(
    cli: &Cli,
    mut env: Environment,
    model: &ClusterModel,
    path: &Path,
) -> Result<ExitCode, Failure> {
    if cli.dry_run {
        return Err(Failure::plain(
            "abort cannot be rehearsed; `upgrade status` says where the run stands",
        ));
    }
    if !path.exists() {
        return Err(Failure::new(
            path.display(),
            "there is no such journal, so there is nothing to abort; `upgrade status` says which \
             journal the cluster names",
        ));
    }
    // Addons are those of the run, whatever policy is given now.
    let mut addons = Vec::new();
    for entry in FileJournal::read(path)? {
        if let Record::RunOpened(opened) = entry.record {
            addons = opened.policy.addons;
        }
    }
    env.addons = Arc::new(AddonHook::new(&addons)?);
    let journal = Box::new(FileJournal::open(path)?);
    if let Some(driver) = &env.kubeadm {
        let place = migrate_executor::Journal::place(&*journal);
        nodes::put_back_members(cli, driver, model, &env, &place).await?;
    }
    let progress = Progress::new(cli, model.control_plane.len() + model.nodes.len());
    let setup = run::setup(cli, &env, &progress, journal, Vec::new()).with_abort(true);
    let mut executor = Executor::open(setup).await.map_err(run::not_opened)?;
    let report = executor.run(&env.cancel).await;
    progress.finish();
    let report = report?;
    show::report(cli, &report)?;
    history::keep(cli, &env, &report);
    if !cli.json {
        how_to_go_on(&report)?;
    }
    let is_clean = report.outcome == RunOutcome::Aborted && report.cordons.is_empty();
    Ok(match is_clean {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The commands that may follow.
fn how_to_go_on(report: &Report) -> Result<(), Failure> {
    if report.outcome != RunOutcome::Aborted {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "To go on with all of it: upgrade --to {}", report.to)?;
    for standing in &report.targets {
        let is_changed = matches!(standing.position, Position::Done | Position::Failed { .. });
        if let (true, Target::Node { node, .. }) = (is_changed, &standing.target) {
            let from = &standing.from;
            writeln!(
                out,
                "To take {node} back: upgrade rollback {node} --to {from}"
            )?;
        }
    }
    Ok(())
}
