//! Planning anew on the way: the order stays unless another one is worth it.

use rustc_hash::FxHashMap;

use std::time::Duration;

use migrate_core::{ClusterModel, Plan};

use super::room::{Limits, Numbers};
use super::{Job, Planner, Run, pins};
use crate::Error;

/// How much shorter, in per cent, a new order has to be to take the place of the
/// old one, unless [`Planner::with_reorder_gain`] says otherwise.
pub const REORDER_GAIN: u32 = 5;

/// The next revision of a plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replan {
    /// The plan, whose parent is the earlier one.
    pub plan: Plan,
    /// Nodes that the earlier plan had are in its order. If not, a new order is so
    /// much shorter that it takes its place.
    pub keeps_order: bool,
    /// How long the rollout is predicted to take in the order of the earlier plan.
    pub kept: Duration,
}

impl<'a> Planner<'a> {
    /// A new order takes the place of an older one only if it is more than so many
    /// per cent shorter ([`REORDER_GAIN`] if nobody says so).
    #[must_use]
    pub fn with_reorder_gain(mut self, percent: u32) -> Self {
        self.reorder_gain = percent;
        self
    }

    /// Plans what is left of `earlier` for the cluster as it is now.
    ///
    /// # Guarantees
    /// - It is the next revision of `earlier`, and `earlier` is its parent.
    /// - Nodes that `earlier` had are in its order, whatever their priority is now.
    ///   A node that is new goes before the first of them that has a lower priority.
    ///   What is done, or gone, is left out.
    /// - Only what must come first or last moves: control-plane nodes, canaries (the
    ///   earlier one of a pool stays if it is still to be done and can begin, unless
    ///   another is cordoned, which takes nothing more away), the runner's node.
    /// - A [pinned](migrate_core::PlannedSlot::pinned) node keeps its place and stays pinned,
    ///   in another order too: as many nodes of its pool go before it as in `earlier`, less
    ///   those that are done or gone. What is new goes behind it. Only what must come first
    ///   or last is in its way; [`lint_revision`](crate::lint_revision) tells of that.
    /// - A pool with a target of its own whose last node went meanwhile is left out, and a
    ///   finding says so (`KM-POLICY-002`), if policy is the one of `earlier`.
    /// - Another order takes the place of all that only if it makes the rollout
    ///   shorter by more than [`with_reorder_gain`](Self::with_reorder_gain) says. It
    ///   is not even tried where the [bounds](Plan::bounds) tell that none can.
    ///
    /// Costs one plan; one more run of the machine where the bounds leave room for such
    /// a gain, and a second plan where there is one.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] for a plan of another cluster; else as
    /// [`plan`](Self::plan).
    pub fn replan(&self, earlier: &Plan) -> Result<Replan, Error> {
        self.in_order(|planner, numbers| planner.replanned(numbers, earlier))
    }

    fn replanned(&self, numbers: Numbers<'a>, earlier: &Plan) -> Result<Replan, Error> {
        if earlier.cluster != self.model.cluster {
            return Err(Error::OtherCluster {
                plan: earlier.id.clone(),
                expected: earlier.cluster.clone(),
                found: self.model.cluster.clone(),
            });
        }
        let mut planner: Planner<'_> = self.clone();
        planner.parent = Some(earlier);
        planner.order_of = Some(earlier);
        let Run { plan, interned, .. } = planner.run(numbers, |_, _| {})?;
        let kept = plan.makespan();
        let gain = kept.saturating_mul(self.reorder_gain) / 100;
        let wanted = kept.saturating_sub(gain);
        let bound = plan.bounds.as_ref().and_then(|bounds| bounds.best());
        let has_room = bound.is_some_and(|bound| bound.time < wanted);
        if has_room {
            planner.order_of = None;
            if planner.time_of_own_order(&interned, Limits::of(&plan))? < wanted {
                // What the first made of them, the second is not to go by.
                let numbers = Numbers::of(planner.model, planner.policy);
                return Ok(Replan {
                    plan: planner.run(numbers, |_, _| {})?.plan,
                    keeps_order: false,
                    kept,
                });
            }
        }
        Ok(Replan {
            plan,
            keeps_order: true,
            kept,
        })
    }
}

/// By node of the model: its position in an earlier plan, and whether it was a canary.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Option<(usize, bool)>>);

impl Places {
    /// Where `earlier` has the nodes of `model`.
    pub(super) fn of(earlier: &Plan, model: &ClusterModel) -> Self {
        let slots = earlier.slots.iter().enumerate();
        let slots = slots.map(|(at, slot)| (slot.node.as_str(), (at, slot.canary)));
        let slots: FxHashMap<&str, (usize, bool)> = slots.collect();
        let nodes = model.nodes.iter();
        let nodes = nodes.map(|node| slots.get(node.name.as_str()).copied());
        Self(nodes.collect())
    }

    fn place(&self, job: &Job<'_>) -> Option<usize> {
        self.0.get(job.id as usize)?.map(|(at, _)| at)
    }

    pub(super) fn was_canary(&self, job: &Job<'_>) -> bool {
        let place = self.0.get(job.id as usize).copied().flatten();
        place.is_some_and(|(_, canary)| canary)
    }
}

/// Puts jobs that are in order of priority into that of `places`, and those it does
/// not have before the first that comes after them by priority. `group` is what
/// comes before any order.
pub(super) fn keep_order<G: Ord>(
    jobs: &mut Vec<Job<'_>>,
    places: &Places,
    group: impl Fn(&Job<'_>) -> G,
) {
    let place = |job: &Job<'_>| places.place(job);
    // With its rank by priority now.
    let (mut kept, new): (Vec<_>, Vec<_>) = jobs
        .drain(..)
        .enumerate()
        .partition(|(_, job)| place(job).is_some());
    kept.sort_by_key(|(_, job)| place(job));
    let mut new = new.into_iter().peekable();
    for (rank, job) in kept {
        while let Some((_, before)) = new.next_if(|(other, _)| *other < rank) {
            jobs.push(before);
        }
        jobs.push(job);
    }
    jobs.extend(new.map(|(_, job)| job));
    pins::let_new_wait(jobs, |job| place(job).is_none());
    jobs.sort_by_key(group);
}
