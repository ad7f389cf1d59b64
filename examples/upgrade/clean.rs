//! Cleaning up what kubeadm has put aside on the nodes in runs that are over.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use migrate_core::{ClusterModel, Fence, Moment};
use migrate_executor::{Entry, FileJournal, Journal, Record, RunEnd};
use migrate_kube::Anchor;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::run::Environment;

/// Removes backups of kubeadm of the runs in the journal at `path` that have
/// passed their final verification `retention` ago.
pub(crate) async fn execute(
    cli: &Cli,
    env: Environment,
    model: &ClusterModel,
    path: &Path,
    retention: Duration,
) -> Result<ExitCode, Failure> {
    let Some(driver) = &env.kubeadm else {
        return Err(Failure::plain(
            "--kubeadm: only its nodes have such backups",
        ));
    };
    if cli.dry_run {
        return Err(Failure::plain(
            "clean cannot be rehearsed; it removes no folder that is the newest of its kind",
        ));
    }
    if !path.exists() {
        return Err(Failure::new(
            path.display(),
            "there is no such journal, and only it tells which runs are over and verified",
        ));
    }
    // Held until the end: no runner begins meanwhile.
    let journal = FileJournal::open(path)?;
    let anchor = Anchor::read(&env.client).await?;
    if let Some(mark) = &anchor.mark {
        return Err(Failure::new(
            format!("run {}", mark.run),
            "is not over: finish it, or end it (`upgrade abort`), then clean",
        ));
    }
    let runs = verified(&FileJournal::read(path)?, env.clock.now(), retention);
    let mut out = std::io::stdout().lock();
    if runs.is_empty() {
        let place = journal.place();
        writeln!(
            out,
            "no run in {place} has been over and verified for so long"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let nodes: Vec<String> = model.nodes.iter().map(|node| node.name.clone()).collect();
    let fence = Fence::new(env.run.clone(), anchor.epoch.max(1));
    let cleaned = driver.clean_backups(&nodes, &fence, &runs, retention).await;
    for (node, names) in &cleaned.removed {
        for name in names {
            writeln!(out, "removed  {node}  {name}")?;
        }
    }
    for (node, names) in &cleaned.kept {
        for (name, why) in names {
            writeln!(out, "kept     {node}  {name}: {why}")?;
        }
    }
    for finding in &cleaned.findings {
        writeln!(out, "{finding}")?;
    }
    Ok(match cleaned.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The runs that have ended well, `retention` before `now` at the latest.
fn verified(entries: &[Entry], now: Moment, retention: Duration) -> Vec<String> {
    let (mut runs, mut run) = (Vec::new(), None);
    for entry in entries {
        match &entry.record {
            Record::RunOpened(opened) => run = Some(opened.run.clone()),
            Record::RunEnded { end: RunEnd::Done } if now.since(entry.at) >= retention => {
                runs.extend(run.take());
            }
            _ => {}
        }
    }
    runs.dedup();
    runs
}
