//! What is predicted of a plan whose order somebody has edited.

use migrate_core::Plan;
use rustc_hash::FxHashMap;

use super::room::Numbers;
use super::{Job, Planner};
use crate::Error;

impl<'a> Planner<'a> {
    /// `plan`, whose order, canaries or pins somebody has edited, with all that this planner
    /// predicts of it for the cluster as it is: schedule, estimate, bounds with the gap to them,
    /// where pods go, findings. What it fixes, and its id, stay as they are.
    ///
    /// Nodes that `plan` leaves out are left out. `None` where the rest is not what this planner
    /// would plan, but for the order: the cluster is another by now, or how long nodes take in
    /// its windows, or more was edited than that. What can be told of such a plan is
    /// [`rehearse`](crate::rehearse).
    ///
    /// Costs one plan.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn predict(&self, plan: &Plan) -> Result<Option<Plan>, Error> {
        let mut predicted = self.in_order(|planner, numbers| planner.predicted(numbers, plan))?;
        // What a plan fixes is what its identity is made of.
        predicted.schema = plan.schema;
        predicted.parent.clone_from(&plan.parent);
        predicted.revision = plan.revision;
        predicted.model_hash.clone_from(&plan.model_hash);
        let fits = predicted.identity() == plan.identity();
        predicted.id.clone_from(&plan.id);
        Ok(fits.then_some(predicted))
    }

    fn predicted(&self, numbers: Numbers<'a>, plan: &Plan) -> Result<Plan, Error> {
        let mut planner: Planner<'_> = self.clone();
        planner.exactly = Some(plan);
        Ok(planner.run(numbers, |_, _| {})?.plan)
    }
}

/// Puts jobs into the order of `plan`, with its canaries and pins; what is not in it goes.
pub(super) fn take_over(jobs: &mut Vec<Job<'_>>, plan: &Plan) {
    let slots = plan.slots.iter().enumerate();
    let slots: FxHashMap<&str, (usize, _)> = slots
        .map(|(at, slot)| (slot.node.as_str(), (at, slot)))
        .collect();
    let slot = |job: &Job<'_>| slots.get(job.node.name.as_str());
    jobs.retain(|job| slot(job).is_some());
    jobs.sort_by_key(|job| slot(job).map(|(at, _)| *at));
    for job in jobs {
        let pinned = slot(job).is_some_and(|(_, slot)| slot.pinned);
        job.canary = slot(job).is_some_and(|(_, slot)| slot.canary);
        // Nobody moves it here, so that its place does not matter.
        job.pinned = pinned.then_some(0);
    }
}
