//! A plan with the run that it was made by.

use migrate_core::{Action, ActionId, Outcome, Phase, Plan};

use super::room::Numbers;
use super::simulate::{Fed, Step};
use super::targets::{from_of, target_of};
use super::{Planner, Run};
use crate::{ActionResult, Command, Error, Input, Recorded};

/// A plan, and the run of the rollout that it was made by.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Trace {
    /// The plan.
    pub plan: Plan,
    /// What the rollout was told. [`replay`](crate::replay) of it gives
    /// `commands`.
    pub inputs: Vec<Recorded>,
    /// What it commanded.
    pub commands: Vec<Command>,
}

impl<'a> Planner<'a> {
    /// Makes the plan and keeps the run it was made by.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn trace(&self) -> Result<Trace, Error> {
        self.in_order(|planner, numbers| planner.traced(numbers))
    }

    fn traced(&self, numbers: Numbers<'a>) -> Result<Trace, Error> {
        let mut fed = Vec::new();
        let Run {
            plan,
            steps,
            interned,
        } = self.run(numbers, |at, input| fed.push((at, input)))?;
        let id = |target, phase| ActionId::new(&plan.id, &target_of(&plan, target), phase);
        let inputs = fed.into_iter().map(|(at, input)| {
            let input = match input {
                Fed::Started => Input::Started,
                Fed::Budget { budget, allowed } => Input::BudgetSeen {
                    key: interned.budgets[budget as usize].source.key(),
                    allowed,
                },
                Fed::ConsentMissing { node } => Input::ConsentMissing {
                    node: self.model.nodes[node as usize].name.clone(),
                    missing: true,
                },
                Fed::Ended { target, phase } => Input::ActionEnded {
                    id: id(target, phase),
                    result: ActionResult::Succeeded(Outcome::SameNode),
                },
                Fed::Uncordoned { target } => {
                    let target = target_of(&plan, target);
                    Input::NodeSeen {
                        node: target.name().to_owned(),
                        ready: true,
                        unschedulable: false,
                        kubelet_version: plan.to_of(&target).clone(),
                        uid: None,
                    }
                }
            };
            Recorded::new(at, input)
        });
        let inputs = inputs.collect();
        let begins = steps.iter().map(|step| {
            let target = target_of(&plan, step.target);
            let from = from_of(&plan, step.target).clone();
            let to = plan.to_of(&target).clone();
            Command::Begin {
                action: Action::new(&plan.id, target, step.phase, from, to),
            }
        });
        let mut commands: Vec<Command> = begins.collect();
        let is_last = |step: &&Step| matches!(step.phase, Phase::Verify | Phase::BackUp);
        if steps.iter().filter(is_last).count() == plan.targets().count() {
            commands.push(Command::Finished);
        }
        Ok(Trace {
            plan,
            inputs,
            commands,
        })
    }
}
