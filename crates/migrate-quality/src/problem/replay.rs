//! An order of tasks, run by the machine that runs every rollout.

use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{ClusterModel, Phase, Plan, PlannedAction, PlannedSlot, Policy, Target};
use migrate_plan::{Measured, rehearse};

use super::{Problem, ProblemError, Starts};

/// What the machine makes of an order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replay {
    /// The plan of that order, with the schedule that the machine made.
    pub plan: Plan,
    /// When it began each task.
    pub starts: Starts,
    /// When the last one ended.
    pub makespan: i64,
}

/// Runs the tasks of `problem` in the order of priority that `order` gives, by
/// positions; the first of each pool is its canary where it has one. `plan` is
/// what the problem was made from.
///
/// # Errors
/// None for a permutation; [`ProblemError::Plan`] else.
pub fn replay(
    problem: &Problem,
    model: &ClusterModel,
    policy: &Policy,
    plan: &Plan,
    order: &[usize],
) -> Result<Replay, ProblemError> {
    let mut plan = ordered(problem, plan, order);
    let timeline = rehearse(model, policy, &plan, &Measured::default())?;
    plan.schedule = timeline.actions;
    let starts = problem.starts(&plan);
    Ok(Replay {
        makespan: problem.makespan(&starts),
        plan,
        starts,
    })
}

/// `plan` with its workers in another order.
fn ordered(problem: &Problem, plan: &Plan, order: &[usize]) -> Plan {
    let mut plan = plan.clone();
    let old = std::mem::take(&mut plan.slots);
    let (mut slots, workers): (Vec<PlannedSlot>, Vec<PlannedSlot>) = old
        .into_iter()
        .partition(|slot| slot.pool == CONTROL_PLANE_POOL);
    let mut is_first = vec![true; problem.pools.len()];
    for task in order.iter().map(|task| &problem.tasks[*task]) {
        let slot = workers.iter().find(|slot| slot.node == task.node);
        slots.extend(slot.cloned().map(|mut slot| {
            let is_first = std::mem::take(&mut is_first[task.pool]);
            slot.canary = is_first && problem.pools[task.pool].canary;
            slot
        }));
    }
    plan.slots = slots;
    plan.id = plan.identity();
    plan
}

impl Problem {
    /// Positions of tasks by their starts, then by position: the order of
    /// priority of a schedule.
    pub fn order(&self, starts: &[i64]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tasks.len()).collect();
        order.sort_by_key(|task| starts.get(*task).copied());
        order
    }

    /// The plan whose schedule begins the tasks at `starts`, for the linter: a
    /// second judge of what anybody found.
    pub fn scheduled(&self, plan: &Plan, starts: &[i64]) -> Plan {
        let mut plan = ordered(self, plan, &self.order(starts));
        let mut schedule = std::mem::take(&mut plan.schedule);
        let at = |start: i64| Duration::from_millis(u64::try_from(start).unwrap_or(0));
        for action in &mut schedule {
            let PlannedAction {
                target,
                phase,
                start,
                end,
                ..
            } = action;
            let Target::Node { node, .. } = target else {
                continue;
            };
            let found = self.tasks.binary_search_by(|task| task.node.cmp(node));
            let Some((task, first)) = found
                .ok()
                .and_then(|at| Some((&self.tasks[at], starts.get(at)?)))
            else {
                continue;
            };
            let begin = self.before + first;
            let length = end.saturating_sub(*start);
            *start = match phase {
                Phase::Drain => at(begin),
                Phase::Upgrade => at(begin + task.drain),
                _ => at(begin + task.length).saturating_sub(length),
            };
            *end = *start + length;
        }
        schedule.sort_by_key(|action| action.start);
        plan.schedule = schedule;
        plan
    }
}
