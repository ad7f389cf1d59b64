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
    let (runs, young): (Vec<Verified>, Vec<Verified>) = verified(&FileJournal::read(path)?)
        .into_iter()
        .partition(|it| env.clock.now().since(it.at) >= retention);
    let mut out = std::io::stdout().lock();
    for Verified { run, at } in young {
        let from = at + retention;
        writeln!(
            out,
            "kept     all of {run}: it ended at {at}, and --keep lets its folders go from {from} on"
        )?;
    }
    if runs.is_empty() {
        let place = journal.place();
        writeln!(
            out,
            "no run in {place} has been over and verified for so long"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let runs: Vec<String> = runs.into_iter().map(|it| it.run).collect();
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

/// A run that has passed its final verification.
#[derive(Debug, PartialEq)]
struct Verified {
    run: String,
    /// When it ended, for the last time: a node may go back in its name later.
    at: Moment,
}

/// The runs whose last end was a good one.
fn verified(entries: &[Entry]) -> Vec<Verified> {
    let (mut all, mut run) = (Vec::<Verified>::new(), None);
    for entry in entries {
        match &entry.record {
            Record::RunOpened(opened) => {
                all.retain(|it| it.run != opened.run);
                run = Some(opened.run.clone());
            }
            Record::RunEnded { end: RunEnd::Done } => {
                let at = entry.at;
                all.extend(run.take().map(|run| Verified { run, at }));
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use migrate_core::{ClusterId, ControlPlaneMember, Policy};
    use migrate_executor::{Origin, RunOpened, StopCause};
    use migrate_plan::Planner;

    use super::*;

    fn opened(run: &str) -> Record {
        let version = "v1.36.3".parse().unwrap();
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        model.control_plane = vec![ControlPlaneMember::new("cp-1", version)];
        let policy = Policy::default();
        let target = "v1.37.2".parse().unwrap();
        let plan = Planner::new(&model, &policy, target).plan().unwrap();
        let opened = RunOpened::new(run, Origin::Fresh, plan, policy, model);
        Record::RunOpened(Box::new(opened))
    }

    #[test]
    fn only_runs_whose_last_end_was_a_good_one_are_verified() {
        let ended = |end| Record::RunEnded { end };
        let stopped = || {
            let cause = StopCause::Asked;
            ended(RunEnd::Stopped { cause })
        };
        let records = [
            // It stopped, went on, and was done.
            opened("a"),
            stopped(),
            ended(RunEnd::Done),
            opened("b"),
            ended(RunEnd::Aborted),
            opened("c"),
            ended(RunEnd::Done),
            // A node goes back in its name.
            opened("c"),
            ended(RunEnd::Done),
            opened("d"),
            ended(RunEnd::Done),
            opened("d"),
            stopped(),
            opened("e"),
        ];
        let entries: Vec<Entry> = (0..)
            .zip(records)
            .map(|(seq, record)| Entry::new(seq, Moment::from_millis(seq), record))
            .collect();
        let of = |run: &str, at| Verified {
            run: run.to_owned(),
            at: Moment::from_millis(at),
        };
        assert_eq!(verified(&entries), [of("a", 2), of("c", 8)]);
    }
}
