//! A better order of the workers, found by running the machine on others.
//!
//! The order by priority is a rule of thumb: which of two nodes should go first,
//! where one waits for a budget and the other for the last slot of a pool, only a
//! whole schedule tells. So the search makes a small change to the best order so
//! far, has the machine run it, and keeps it if the rollout ends no later.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{Moment, Plan, Role};

use super::replan::Places;
use super::room::Limits;
use super::simulate::{Alone, Step, predicted, simulate};
use super::targets::schedule;
use super::times::Times;
use super::{Job, Outlook, Planner, bounding, edited, order, pins};
use crate::Error;
use crate::intern::Interned;
use crate::machine::{Machine, SlotSpec, Spec};

/// How far a change moves a node, at most, as a part of all: 1 / this, in turns.
const REACHES: [usize; 3] = [1, 4, 16];

/// Nodes of the largest cluster whose order is improved by its size, and the rounds for that.
const LARGEST_IMPROVED: usize = 1000;
const LEAST_ROUNDS: usize = 40;
/// More gain hardly anything where the cluster is small.
const MOST_ROUNDS: usize = 1000;

impl<'a> Planner<'a> {
    /// Tries `rounds` other orders of the workers and keeps the best: where several
    /// budgets and slots limit a small cluster at once, plans come out some per cent
    /// shorter (`docs/quality.md` has the figures). It ends early at a lower bound,
    /// which nothing beats.
    ///
    /// # Guarantees
    /// - Never a longer rollout than without; with equal input, the same plan.
    /// - Control-plane nodes, the runner's node and those that are
    ///   [pinned](migrate_core::PlannedSlot::pinned) stay where they are, and no node
    ///   becomes a canary that is worse off than the one that policy would choose.
    /// - Costs `rounds` runs of the machine at most.
    /// - Where the order of an earlier plan is [kept](Self::replan), none is tried.
    ///
    /// None by default.
    #[must_use]
    pub fn with_improvement(mut self, rounds: u32) -> Self {
        self.improvement = rounds;
        self
    }

    /// [Tries](Self::with_improvement) as many other orders as make the rollout of a small
    /// cluster shorter and are not felt where a plan is waited for: 1,000 for up to forty
    /// nodes, as many as have 40,000 nodes between them for up to 1,000, and none for more.
    /// Some 20 ms in an optimized build.
    #[must_use]
    pub fn with_improvement_by_size(self) -> Self {
        let nodes = self.model.nodes.len().max(1);
        let rounds = match nodes {
            ..=LARGEST_IMPROVED => (LARGEST_IMPROVED * LEAST_ROUNDS / nodes).min(MOST_ROUNDS),
            _ => 0,
        };
        self.with_improvement(u32::try_from(rounds).unwrap_or(u32::MAX))
    }

    /// How long the rollout takes in the order that [`plan`](Self::plan) would choose:
    /// the machine run on it, and nothing that a plan says besides.
    pub(super) fn time_of_own_order(
        &self,
        interned: &Interned<'a>,
        limits: Limits<'_>,
    ) -> Result<Duration, Error> {
        let mut jobs = self.jobs(interned);
        self.sort(&mut jobs, interned, limits)?;
        let (outcome, _) = Search::new(self, &jobs, interned, limits)?.run(&jobs);
        Ok(outcome.took)
    }

    /// Puts `jobs` into priority order, and the workers among them into the best order found;
    /// of a planner that predicts a plan as it is, into that of the plan.
    pub(super) fn sort(
        &self,
        jobs: &mut Vec<Job<'_>>,
        interned: &Interned<'_>,
        limits: Limits<'_>,
    ) -> Result<(), Error> {
        if let Some(plan) = self.exactly {
            edited::take_over(jobs, plan);
            return Ok(());
        }
        let earlier = self.order_of.map(|plan| Places::of(plan, self.model));
        order::sort(
            jobs,
            interned,
            limits,
            self.policy,
            self.runner_on,
            earlier.as_ref(),
        );
        self.improve(jobs, interned, limits)
    }

    fn improve(
        &self,
        jobs: &mut Vec<Job<'_>>,
        interned: &Interned<'_>,
        limits: Limits<'_>,
    ) -> Result<(), Error> {
        let is_fixed = |job: &Job<'_>| {
            let hosts_runner = self.runner_on == Some(job.node.name.as_str());
            job.node.role == Role::ControlPlane || hosts_runner
        };
        let first = jobs.iter().position(|job| !is_fixed(job));
        let first = first.unwrap_or(jobs.len());
        let workers = jobs[first..].iter().take_while(|job| !is_fixed(job));
        let workers = workers.count();
        // Whose order is to be kept, nobody looks for a better one.
        if self.improvement == 0 || workers < 2 || self.order_of.is_some() {
            return Ok(());
        }
        let mut search = Search::new(self, jobs, interned, limits)?;
        let (mut best, steps) = search.run(jobs);
        let limit = search.limit(jobs, &steps);
        let canaries = canaries(&jobs[first..first + workers]);
        let mut random = Random(0);
        let mut tried = jobs.clone();
        for round in 0..self.improvement {
            if best.took <= limit {
                break;
            }
            tried.copy_from_slice(jobs);
            let part = &mut tried[first..first + workers];
            // Every other time the node that ends last, which should go sooner.
            let last = best.last.checked_sub(first);
            let last = last.filter(|at| *at < workers && round % 2 == 0);
            let from = last.unwrap_or_else(|| random.below(workers));
            let reach = workers.div_ceil(REACHES[round as usize / 2 % REACHES.len()]);
            match from.checked_sub(1 + random.below(reach)) {
                Some(to) => part[to..=from].rotate_right(1),
                None => part[from..=from + random.below(workers - from)].rotate_left(1),
            }
            pins::keep(part);
            name_canaries(part, &canaries);
            let (outcome, _) = search.run(&tried);
            if outcome.took <= best.took {
                best = outcome;
                std::mem::swap(jobs, &mut tried);
            }
        }
        Ok(())
    }
}

/// What the machine made of an order.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    took: Duration,
    /// Position of the job that ended last.
    last: usize,
}

/// What is the same in every round.
struct Search<'s> {
    planner: &'s Planner<'s>,
    interned: &'s Interned<'s>,
    plan: Plan,
    spec: Spec,
    /// By node of the model.
    slots: Vec<Option<SlotSpec>>,
    tasks: Vec<Times>,
}

impl<'s> Search<'s> {
    fn new(
        planner: &'s Planner<'s>,
        jobs: &[Job<'_>],
        interned: &'s Interned<'s>,
        limits: Limits<'_>,
    ) -> Result<Self, Error> {
        // Nobody sees this plan, so nothing is hashed for it.
        let plan = planner.outline(jobs, interned, limits, String::new())?;
        let spec = planner.spec(&plan, jobs, interned)?;
        let mut slots = vec![None; interned.loads.len()];
        for slot in &spec.slots {
            slots[slot.node as usize] = Some(*slot);
        }
        Ok(Self {
            planner,
            interned,
            slots,
            tasks: planner.task_times(&plan.tasks),
            spec,
            plan,
        })
    }

    /// Runs the machine on `jobs` in their order.
    fn run(&mut self, jobs: &[Job<'_>]) -> (Outcome, Vec<Step>) {
        let slots = jobs.iter().filter_map(|job| {
            let slot = self.slots[job.id as usize]?;
            let canary = job.canary;
            Some(SlotSpec { canary, ..slot })
        });
        self.spec.slots = slots.collect();
        let mut machine = Machine::new(&self.spec, self.interned);
        let times = Alone {
            member: self.planner.member_times(),
            tasks: &self.tasks,
        };
        let start = self.start();
        let waits = (self.planner.scheduler(), self.planner.transfers());
        let lasts = predicted(jobs, times, waits.0, waits.1);
        let steps = simulate(&mut machine, start, self.interned, lasts, |_, _| {});
        let last = steps.iter().max_by_key(|step| step.end);
        let of_last = last.and_then(|step| machine.slot_of(step.target));
        let outcome = Outcome {
            took: last.map_or(Duration::ZERO, |step| step.end.since(start)),
            last: of_last.map_or(usize::MAX, |slot| slot as usize),
        };
        (outcome, steps)
    }

    /// What no order beats.
    fn limit(&self, jobs: &[Job<'_>], steps: &[Step]) -> Duration {
        let Planner { model, policy, .. } = self.planner;
        let mut plan = self.plan.clone();
        plan.schedule = schedule(&plan, self.start(), steps);
        let start = self.start();
        // The bound of room costs more than it tells here: widths keep to it.
        let (interned, room) = (self.interned, None);
        let (scheduler, links) = (self.planner.scheduler(), &self.planner.links);
        let bounds = bounding::bounds(
            &plan, steps, jobs, interned, model, policy, start, room, scheduler, links,
        );
        let best = bounds.as_ref().and_then(|bounds| bounds.best());
        best.map_or(Duration::ZERO, |best| best.time)
    }

    fn start(&self) -> Moment {
        self.planner.model.taken_at
    }
}

type Class = (Outlook, bool);

/// How good a canary a node is, apart from how soon it tells.
fn class(job: &Job<'_>) -> Class {
    (job.outlook, !job.node.unschedulable)
}

/// The class of the canary of each pool that has one.
fn canaries<'m>(jobs: &[Job<'m>]) -> BTreeMap<&'m str, Class> {
    let canaries = jobs.iter().filter(|job| job.canary);
    canaries.map(|job| (job.pool, class(job))).collect()
}

/// The first of its class is the canary of its pool.
fn name_canaries(jobs: &mut [Job<'_>], classes: &BTreeMap<&str, Class>) {
    let mut wanted = classes.clone();
    for job in jobs {
        job.canary = wanted.get(job.pool) == Some(&class(job));
        if job.canary {
            wanted.remove(job.pool);
        }
    }
}

/// The same numbers in every run (splitmix64).
struct Random(u64);

impl Random {
    /// Below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits >> 32) as usize % limit.max(1)
    }
}
