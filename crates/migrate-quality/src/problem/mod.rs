//! What a plan decides, as tasks that share renewable resources.
//!
//! Made from what a plan predicts and from the drain's ledger, not from the
//! planner's own arrays, so that two derivations of the same rules meet in
//! [`Problem::check`].

mod replay;
mod room;

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{
    BudgetKey, BudgetLedger, ClusterModel, Disposition, Phase, Plan, PlannedAction, Policy, Target,
    disposition,
};
use thiserror::Error;

pub use replay::{Replay, replay};
pub use room::Room;

/// Workers to be upgraded under the rules of the rollout: at most so many of a
/// pool at once, its canary before all others of it, and no budget overdrawn
/// while drains last. What goes before all workers, one by one, is no part of it
/// but [`before`](Self::before).
///
/// Times are whole milliseconds from the moment at which the first worker may
/// begin.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// What comes before the first worker.
    pub before: i64,
    /// By name of their nodes.
    pub tasks: Vec<Task>,
    /// Pools that have a task.
    pub pools: Vec<Pool>,
    /// Budgets that a drain takes something of.
    pub budgets: Vec<Budget>,
    /// Resources of which nodes that are away together may take no more than there is.
    pub rooms: Vec<Room>,
}

/// One node: drained, then changed and verified, without a break.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Task {
    /// Its name.
    pub node: String,
    /// Position of its pool.
    pub pool: usize,
    /// How long its budgets are held.
    pub drain: i64,
    /// How long its pool has one node less, the drain included.
    pub length: i64,
    /// Positions of budgets, with how much its drain takes.
    pub needs: Vec<(usize, u32)>,
}

/// A pool of nodes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many of its nodes may be away at once.
    pub width: u32,
    /// Whether the first to begin is verified before any other of it begins.
    pub canary: bool,
}

/// A budget.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Budget {
    /// Which.
    pub key: BudgetKey,
    /// How many of its pods may be away at once.
    pub allowed: u32,
}

/// When each task begins, in the order of [`Problem::tasks`].
pub type Starts = Vec<i64>;

/// Why there is no problem, or no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProblemError {
    /// The schedule does not bring this node to its end.
    #[error(
        "node {node} has no drain, upgrade and verification in the schedule: plan a cluster without blockers"
    )]
    Unplanned {
        /// Its name.
        node: String,
    },
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] migrate_plan::Error),
}

impl Problem {
    /// What `plan`, made for this cluster and policy without a soak, windows or a
    /// runner's node, has to do.
    ///
    /// # Errors
    /// [`ProblemError::Unplanned`].
    pub fn new(model: &ClusterModel, policy: &Policy, plan: &Plan) -> Result<Self, ProblemError> {
        let ledger = BudgetLedger::from_model(model, policy.assumed_budgets.clone());
        let mut pods: BTreeMap<&str, BTreeMap<&BudgetKey, u32>> = BTreeMap::new();
        for pod in &model.pods {
            let goes = !matches!(
                disposition(pod, &policy.consent, None),
                Disposition::Leave(_) | Disposition::Wait(_)
            );
            if let Some(node) = pod.node.as_deref().filter(|_| goes) {
                for key in ledger.budgets_of(&pod.id.uid) {
                    *pods.entry(node).or_default().entry(key).or_default() += 1;
                }
            }
        }
        let spans = spans(plan);
        let mut slots: Vec<_> = workers(plan).collect();
        slots.sort_unstable_by_key(|slot| &slot.node);
        let mut problem = Self {
            before: 0,
            tasks: Vec::new(),
            pools: Vec::new(),
            budgets: Vec::new(),
            rooms: Vec::new(),
        };
        let mut pool_ids: BTreeMap<&str, usize> = BTreeMap::new();
        for pool in &plan.pools {
            let mut of_pool = slots
                .iter()
                .filter(|slot| slot.pool == pool.name)
                .peekable();
            if of_pool.peek().is_some() {
                pool_ids.insert(&pool.name, problem.pools.len());
                problem.pools.push(Pool {
                    name: pool.name.clone(),
                    width: pool.width,
                    canary: of_pool.any(|slot| slot.canary),
                });
            }
        }
        let mut budget_ids: BTreeMap<&BudgetKey, usize> = BTreeMap::new();
        let mut first = i64::MAX;
        for slot in slots {
            let unplanned = || ProblemError::Unplanned {
                node: slot.node.clone(),
            };
            let span = spans.get(slot.node.as_str()).ok_or_else(unplanned)?;
            let (start, drained, end) = span.times().ok_or_else(unplanned)?;
            first = first.min(start);
            let touched = pods.get(slot.node.as_str()).into_iter().flatten();
            let mut needs = Vec::new();
            for (&key, &count) in touched {
                let known = budget_ids.get(key).copied();
                let budget = known.unwrap_or_else(|| {
                    let view = ledger.account(key);
                    let allowed = view.map_or(0, |view| view.allowed).max(1);
                    let key_of = key.clone();
                    problem.budgets.push(Budget {
                        key: key_of,
                        allowed,
                    });
                    budget_ids.insert(key, problem.budgets.len() - 1);
                    problem.budgets.len() - 1
                });
                needs.push((budget, count.min(problem.budgets[budget].allowed)));
            }
            problem.tasks.push(Task {
                node: slot.node.clone(),
                pool: pool_ids
                    .get(slot.pool.as_str())
                    .copied()
                    .ok_or_else(unplanned)?,
                drain: drained - start,
                length: end - start,
                needs,
            });
        }
        problem.before = if problem.tasks.is_empty() { 0 } else { first };
        problem.rooms = room::rooms(plan, &problem.tasks);
        Ok(problem)
    }

    /// When the schedule of `plan`, which must be of the same nodes, begins each
    /// task; what it leaves out begins at 0.
    pub fn starts(&self, plan: &Plan) -> Starts {
        let spans = spans(plan);
        let start = |task: &Task| {
            let span = spans.get(task.node.as_str());
            span.and_then(Span::times)
                .map_or(0, |(start, ..)| start - self.before)
        };
        self.tasks.iter().map(start).collect()
    }

    /// When the last task ends.
    pub fn makespan(&self, starts: &[i64]) -> i64 {
        let ends = self.tasks.iter().zip(starts);
        ends.map(|(task, start)| start + task.length)
            .max()
            .unwrap_or(0)
    }

    /// Whether the rules allow to begin at these times; else what is broken.
    ///
    /// # Errors
    /// The first thing found.
    pub fn check(&self, starts: &[i64]) -> Result<(), String> {
        if starts.len() != self.tasks.len() || starts.iter().any(|start| *start < 0) {
            return Err("a task has no start, or one before the workers may begin".to_owned());
        }
        let tasks = || self.tasks.iter().zip(starts);
        for (id, pool) in self.pools.iter().enumerate() {
            let mut of_pool: Vec<_> = tasks().filter(|(task, _)| task.pool == id).collect();
            let spans = of_pool
                .iter()
                .map(|(task, start)| (**start, task.length, 1));
            if peak(spans) > pool.width {
                return Err(format!("pool {}: more than {} away", pool.name, pool.width));
            }
            of_pool.sort_by_key(|(task, start)| (**start, task.length));
            if let [(canary, start), (_, next), ..] = of_pool[..]
                && pool.canary
                && *next < start + canary.length
            {
                return Err(format!("pool {}: the canary is not alone", pool.name));
            }
        }
        for (id, budget) in self.budgets.iter().enumerate() {
            let spans = tasks().flat_map(|(task, start)| {
                let needs = task.needs.iter().filter(move |need| need.0 == id);
                needs.map(move |need| (*start, task.drain, need.1))
            });
            if peak(spans) > budget.allowed {
                return Err(format!("{}: more than {} away", budget.key, budget.allowed));
            }
        }
        match self.lacking(starts) {
            Some(resource) => Err(format!("{resource}: pods have no room")),
            None => Ok(()),
        }
    }
}

/// The most that is taken at once by spans of (start, length, amount).
fn peak<A: Amount>(spans: impl Iterator<Item = (i64, i64, A)>) -> A {
    let mut changes: Vec<(i64, bool, A)> = spans
        .flat_map(|(start, length, amount)| {
            [(start, true, amount), (start + length, false, amount)]
        })
        .collect();
    // What ends at a moment is free at it.
    changes.sort_unstable();
    let (mut now, mut most) = (A::default(), A::default());
    for (_, takes, amount) in changes {
        now = if takes { now + amount } else { now - amount };
        most = most.max(now);
    }
    most
}

/// What spans take.
trait Amount: Copy + Default + Ord + Add<Output = Self> + Sub<Output = Self> {}

impl<A: Copy + Default + Ord + Add<Output = A> + Sub<Output = A>> Amount for A {}

/// Slots of workers.
fn workers(plan: &Plan) -> impl Iterator<Item = &migrate_core::PlannedSlot> {
    plan.slots
        .iter()
        .filter(|slot| slot.pool != CONTROL_PLANE_POOL)
}

/// When the phases of a node are.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    drain: Option<(i64, i64)>,
    verified: Option<i64>,
}

impl Span {
    /// Start, end of the drain, end.
    fn times(&self) -> Option<(i64, i64, i64)> {
        let (start, drained) = self.drain?;
        Some((start, drained, self.verified?))
    }
}

fn spans(plan: &Plan) -> BTreeMap<&str, Span> {
    let mut spans: BTreeMap<&str, Span> = BTreeMap::new();
    for PlannedAction {
        target,
        phase,
        start,
        end,
        ..
    } in &plan.schedule
    {
        let Target::Node { node, .. } = target else {
            continue;
        };
        let span = spans.entry(node).or_default();
        let end = end.as_millis() as i64;
        match phase {
            Phase::Drain => span.drain = Some((start.as_millis() as i64, end)),
            Phase::Verify => span.verified = Some(end),
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_free_for_what_begins() {
        let touching = [(0, 10, 2), (10, 5, 2)];
        assert_eq!(peak(touching.into_iter()), 2);
        let beside = [(0, 10, 2), (9, 5, 1)];
        assert_eq!(peak(beside.into_iter()), 3);
    }

    fn tiny() -> Problem {
        let task = |node: &str, needs| Task {
            node: node.to_owned(),
            pool: 0,
            drain: 10,
            length: 30,
            needs,
        };
        Problem {
            before: 0,
            tasks: vec![
                task("a", vec![(0, 1)]),
                task("b", vec![(0, 1)]),
                task("c", vec![]),
            ],
            pools: vec![Pool {
                name: "p".to_owned(),
                width: 2,
                canary: false,
            }],
            budgets: vec![Budget {
                key: BudgetKey::real("ns", "x"),
                allowed: 1,
            }],
            rooms: Vec::new(),
        }
    }

    #[test]
    fn each_rule_is_checked() {
        let mut problem = tiny();
        assert_eq!(problem.check(&[0, 10, 30]), Ok(()));
        assert!(
            problem
                .check(&[0, 9, 30])
                .unwrap_err()
                .contains("more than 1")
        );
        assert!(problem.check(&[0, 10, 29]).unwrap_err().contains("pool p"));
        problem.pools[0].canary = true;
        assert!(problem.check(&[0, 10, 40]).unwrap_err().contains("canary"));
        assert_eq!(problem.check(&[0, 30, 30]), Ok(()));
        assert_eq!(problem.makespan(&[0, 30, 30]), 60);
        assert!(problem.check(&[0, 30]).is_err());
        problem.rooms.push(Room {
            resource: "cpu".to_owned(),
            spare: 7,
            takes: vec![4, 4, 3],
        });
        assert_eq!(problem.check(&[0, 30, 30]), Ok(()));
        problem.rooms[0].takes[2] = 4;
        let found = problem.check(&[0, 30, 30]).unwrap_err();
        assert!(found.contains("cpu"), "{found}");
        assert_eq!(problem.check(&[0, 30, 60]), Ok(()));
    }
}
