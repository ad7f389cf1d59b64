//! Whether a run would be let start: every check of its first step, and nothing
//! changed.

use std::cmp::Reverse;
use std::process::ExitCode;
use std::sync::Arc;

use migrate_core::{ClusterModel, Finding, Plan, Role, StepInput};

use crate::cli::Cli;
use crate::failure::Failure;
use crate::run::{self, Environment};
use crate::{nodes, show};

/// What only a run finds: what probes of the operator's programs say, and what
/// apt's lists and the pull of images show.
const LEFT_TO_THE_RUN: [&str; 5] = [
    "KM-HOOK-005",
    "KM-HOOK-006",
    "KM-KUBEADM-001",
    "KM-KUBEADM-002",
    "KM-KUBEADM-032",
];

/// What the plan, the preflight, the runner's own pod, the nodes and the load
/// balancer say, the worst first. Nodes that are reached by Jobs are left out: a Job
/// would change something.
pub(crate) async fn execute(
    cli: &Cli,
    env: &Environment,
    model: ClusterModel,
    plan: &Plan,
) -> Result<ExitCode, Failure> {
    let policy = Arc::new(env.policy.clone());
    let input = StepInput::new(Arc::new(model), policy, plan.to.clone());
    let mut checked = run::looked_at(env, &input).await?;
    let mut not_made = LEFT_TO_THE_RUN.to_vec();
    if let Some(driver) = &env.kubeadm {
        let by_job = nodes::by_job(cli, &input.model)?;
        if !by_job.is_empty() {
            not_made.push("KM-KUBEADM-");
        }
        let is_asked = |node: &&migrate_core::Node| {
            let is_concerned = node.role == Role::ControlPlane || input.is_to_change(node);
            is_concerned && !by_job.contains(&node.name)
        };
        let asked = input.model.nodes.iter().filter(is_asked);
        let names: Vec<String> = asked.map(|node| node.name.clone()).collect();
        checked.extend(driver.survey_for(&names, &input, &*env.clock).await);
        checked.extend(driver.examine_balancer(&input).await);
    }
    let mut found = Finding::merged(&plan.findings, checked);
    found.extend(env.policy.unmatched_waivers(&found, &not_made));
    env.policy.mark_waived(&mut found);
    found.sort_by_cached_key(|finding| {
        let place = (finding.code.clone(), finding.object.clone());
        (finding.waived, Reverse(finding.severity), place)
    });
    show::checked(cli, &found)?;
    Ok(run::verdict(found.iter()))
}
