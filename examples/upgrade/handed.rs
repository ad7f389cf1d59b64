//! A plan that somebody hands over in a file, edited by hand or not.

use std::path::Path;

use migrate_core::{ClusterModel, Finding, Plan};
use migrate_plan::{Measured, Planner, lint, plan_from_json, rehearse};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::files::text;
use crate::run::Environment;
use crate::{real, show};

/// The plan of `--plan`; that of `planner` where there is no such flag, and for an unfinished
/// run, which goes on with the plan of its journal.
///
/// One that was edited has what `planner` predicts of its own order; where it differs in more
/// than that, the times that a rehearsal of it has, and nothing that is of another order. What
/// the planner finds in the cluster is what it finds now: a file has no say in that.
///
/// # Errors
/// A file that holds no plan, one that goes elsewhere than what would be planned, or that the
/// linter finds a blocker in: what is found is shown first.
pub(crate) fn or_new(
    cli: &Cli,
    env: &Environment,
    model: &ClusterModel,
    planner: &Planner<'_>,
) -> Result<Plan, Failure> {
    let new = planner.plan()?;
    let Some(path) = &cli.plan else {
        return Ok(new);
    };
    let refused = |cause: String| Err(Failure::new(path.display(), format!("{cause} (--plan)")));
    if !matches!(cli.command(), Command::Plan | Command::Check | Command::Run) {
        return refused("a plan is handed to plan, check and run alone".to_owned());
    }
    if env.goes_on {
        eprintln!("the unfinished run goes on with its own plan: --plan is left out");
        return Ok(new);
    }
    let mut plan = read(path)?;
    if plan.way_back().is_some() {
        return refused("it takes a node back, which rollback does".to_owned());
    }
    if plan.to != new.to {
        let (its, asked) = (&plan.to, &new.to);
        return refused(format!(
            "it goes to {its}, and not to {asked}: give --to {its}, or plan again"
        ));
    }
    plan.findings = new.findings;
    if plan.id != plan.identity() {
        plan = match planner.predict(&plan)? {
            Some(predicted) => predicted,
            None => rehearsed(plan, env, model),
        };
    }
    let found = lint(&plan, model, &env.policy);
    show::linted(cli, &found)?;
    match found.iter().any(Finding::blocks) {
        false => Ok(plan.edited()),
        true => refused("the linter finds blockers in it: undo the edit, or plan again".to_owned()),
    }
}

/// `plan` with the times of its own order, by what the file says that each action takes.
fn rehearsed(mut plan: Plan, env: &Environment, model: &ClusterModel) -> Plan {
    let edited = plan.clone().edited();
    // Where it fits so little that it has no times, the linter says why.
    let timeline = rehearse(model, &env.policy, &edited, &Measured::default());
    plan.schedule = timeline.map_or(plan.schedule, |timeline| timeline.actions);
    // Those of the order, and of the work, that the file had before.
    (plan.bounds, plan.relocation) = (None, None);
    plan
}

/// One line of the file may be what the program has printed, among others.
fn read(path: &Path) -> Result<Plan, Failure> {
    let plan = plan_from_json(&real::printed(text(path)?, "plan"));
    plan.map_err(|error| Failure::new(path.display(), format!("{error} (--plan)")))
}
