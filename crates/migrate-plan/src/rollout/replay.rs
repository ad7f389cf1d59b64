//! The replay law as a function.

use migrate_core::{ClusterModel, Plan, Policy};

use super::{Command, Recorded, Rollout};
use crate::Error;

/// What a fresh rollout commands when it is told what was recorded.
///
/// Recorded in a run, and fed here, the inputs give exactly the commands of
/// that run up to its last input. (What a timer made begin after that input
/// needs no input and is not among them: a rollout to be resumed gives it at
/// its next poll.)
///
/// # Errors
/// As [`Rollout::new`].
pub fn replay(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    inputs: &[Recorded],
) -> Result<Vec<Command>, Error> {
    let mut rollout = Rollout::new(plan, model, policy)?;
    for Recorded { at, input } in inputs {
        rollout.handle(*at, input);
    }
    let last = inputs
        .last()
        .map_or_else(|| rollout.machine.now(), |recorded| recorded.at);
    Ok(std::iter::from_fn(|| rollout.poll(last)).collect())
}
