//! Hooks asked once about every target, before anything starts.

use std::path::Path;
use std::pin::pin;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::{Either, select};
use migrate_core::{
    Action, ActionStatus, Finding, ObjectName, Phase, PrepareEnvironment, Severity, StepContext,
    StepError, StepInput, StepReport, Target, UpgradeComponents, listed,
};

use super::{AddonHook, CommandHook};
use crate::Error;

const BROKEN: &str = "KM-HOOK-005";
const ODD: &str = "KM-HOOK-006";

/// Takes the place of a plan in the ids of actions that are asked about only: no
/// run ever begins one of them.
const PLAN: &str = "preflight";
/// How many probes run at a time.
const WIDTH: usize = 8;
/// So many that do not answer are enough to know: each may take its full limit.
const ENOUGH: usize = 8;
/// How many targets a finding names.
const NAMED: usize = 5;

/// Probes every node and member that is to be changed, of an action that nobody
/// has begun: `KM-HOOK-005` for a program that does not answer as the contract
/// says, `KM-HOOK-006` for one that says more than "never begun" or "succeeded".
///
/// # Guarantees
/// No `begin` is called. At most eight probes run at a time, and after eight that
/// do not answer no further one is asked. In a dry run no program is run.
#[async_trait]
impl PrepareEnvironment for CommandHook {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        if input.dry_run {
            return Ok(StepReport::default());
        }
        let to_change = |node: &&migrate_core::Node| input.is_to_change(node);
        let nodes = input.model.nodes.iter().filter(to_change).map(|node| {
            let target = Target::Node {
                pool: input.policy.pools.pool_of(node).to_owned(),
                node: node.name.clone(),
            };
            let (from, to) = (&node.kubelet_version, input.target_of(node));
            Action::new(PLAN, target, Phase::Upgrade, from.clone(), to.clone())
        });
        let members = input.model.control_plane.iter();
        // One node that goes back leaves the control plane alone.
        let members = members.filter(|member| {
            input.way_back.is_none() && !member.version.has_reached(&input.target)
        });
        let members = members.map(|member| {
            let target = Target::ControlPlane {
                member: member.name.clone(),
            };
            let from = member.version.clone();
            Action::new(PLAN, target, Phase::Upgrade, from, input.target.clone())
        });
        let mut findings = Vec::new();
        for (program, actions) in [
            (&self.control_plane, members.collect::<Vec<_>>()),
            (&self.node, nodes.collect()),
        ] {
            findings.extend(ask(cx, self, program, actions).await?);
        }
        Ok(StepReport::new(findings))
    }
}

/// Probes every addon of its own, as [`CommandHook`] does for nodes; `verify` is
/// not asked, since nothing is to be verified yet.
#[async_trait]
impl PrepareEnvironment for AddonHook {
    async fn run(&self, cx: &StepContext, input: &StepInput) -> Result<StepReport, StepError> {
        if input.dry_run || input.way_back.is_some() {
            return Ok(StepReport::default());
        }
        let mut findings = Vec::new();
        for (name, apply) in self.appliers() {
            let target = Target::Addon { name: name.clone() };
            let to = input.target.clone();
            let action = Action::new(PLAN, target, Phase::Upgrade, to.clone(), to);
            findings.extend(ask(cx, apply, &apply.node, vec![action]).await?);
        }
        Ok(StepReport::new(findings))
    }
}

/// What `program`, asked through `hook`, says of actions that nobody has begun.
async fn ask(
    cx: &StepContext,
    hook: &CommandHook,
    program: &Path,
    actions: Vec<Action>,
) -> Result<Vec<Finding>, StepError> {
    let count = actions.len();
    let asking = async {
        let mut answers = Answers::default();
        let mut probes = futures::stream::iter(actions)
            .map(|action| async move {
                let answer = hook.probe(cx, &action).await;
                (action.target, answer)
            })
            .buffered(WIDTH);
        while let Some((target, answer)) = probes.next().await {
            answers.take(target, answer);
            if answers.broken.len() >= ENOUGH {
                break;
            }
        }
        answers
    };
    match select(pin!(cx.cancel.cancelled()), pin!(asking)).await {
        Either::Left(_) => Err(Error::Cancelled.into()),
        Either::Right((answers, _)) => Ok(answers.findings(program, count)),
    }
}

/// What was said about which target, as far as it is no good news.
#[derive(Default)]
struct Answers {
    asked: usize,
    broken: Vec<(Target, String)>,
    odd: Vec<(Target, String)>,
}

impl Answers {
    fn take(&mut self, target: Target, answer: Result<ActionStatus, StepError>) {
        self.asked += 1;
        match answer {
            Ok(ActionStatus::Absent | ActionStatus::Succeeded(_)) => {}
            Ok(ActionStatus::Failed {
                retryable: true,
                reason,
            }) => self.odd.push((target, reason)),
            Ok(ActionStatus::Running) => {
                let said = "its probe says that the upgrade is running".to_owned();
                self.odd.push((target, said));
            }
            Ok(ActionStatus::Failed { reason, .. }) => self.broken.push((target, reason)),
            Ok(other) => self.odd.push((target, format!("its probe says {other:?}"))),
            Err(error) => self.broken.push((target, error.message)),
        }
    }

    fn findings(&self, program: &Path, count: usize) -> Vec<Finding> {
        let finding = |code, severity, of: &[(Target, String)], cure: &str| {
            let (_, first) = of.first()?;
            let targets = listed(of.iter().map(|(target, _)| target), NAMED);
            let of = match self.asked {
                all if all == count => count.to_string(),
                asked => format!("{asked} asked, of {count} in all"),
            };
            let object = ObjectName::cluster("Hook", program.to_string_lossy());
            let evidence = format!("about {targets} (of {of}), the first: {first}");
            Some(Finding::new(code, severity, object, evidence, cure))
        };
        let broken = finding(
            BROKEN,
            Severity::Blocker,
            &self.broken,
            "run it by hand with KUBE_MIGRATE_PHASE=probe: of what nobody has begun it says 20, or \
             0 where the version is reached",
        );
        let odd = finding(
            ODD,
            Severity::Warning,
            &self.odd,
            "nothing has begun there: see whether the target is in reach, and whether an earlier \
             upgrade is still under way",
        );
        broken.into_iter().chain(odd).collect()
    }
}
