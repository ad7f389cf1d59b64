//! The plan's duration by the cost model: what it cannot be shorter than, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::Plan;
use migrate_core::cost::{BudgetLoad, CostModel, Estimate, Moves, PoolLoad};
use migrate_core::policy::CONTROL_PLANE_POOL;

use super::simulate::Alone;
use super::times::Times;
use super::{Job, Planner, order};
use crate::Error;
use crate::bounds::Busiest;
use crate::intern::Interned;

/// Where policy says so, control-plane nodes go one by one before all others. So
/// do tasks, wherever they are.
pub(super) fn estimate(
    plan: &Plan,
    interned: &Interned<'_>,
    jobs: &[Job<'_>],
    alone: Alone<'_>,
    planner: &Planner<'_>,
) -> Result<Estimate, Error> {
    let (durations, rollout) = (&planner.durations, &planner.policy.rollout);
    let nodes_first = rollout.control_plane_nodes_first;
    let is_first = |job: &&Job<'_>| nodes_first && job.pool == CONTROL_PLANE_POOL;
    let mut one_by_one = vec![alone.member.total(); plan.control_plane.len()];
    one_by_one.extend(alone.tasks.iter().map(Times::total));
    one_by_one.extend(jobs.iter().filter(is_first).map(|job| job.times.total()));
    let nodes = jobs.len() as u64;
    let jobs: Vec<Job<'_>> = jobs.iter().filter(|job| !is_first(job)).copied().collect();
    let jobs = jobs.as_slice();
    let mut model = CostModel::default()
        .with_control_plane(one_by_one)
        .with_longest_chain(
            jobs.iter()
                .map(|job| job.times.total())
                .max()
                .unwrap_or_default(),
        );
    let mut work: BTreeMap<&str, Duration> = BTreeMap::new();
    for job in jobs {
        let sum = work.entry(job.pool).or_default();
        *sum = sum.saturating_add(job.times.total());
    }
    for pool in &plan.pools {
        if let Some(work) = work.get(pool.name.as_str()) {
            model = model.with_pool(PoolLoad::new(&pool.name, *work, pool.slots()));
        }
    }
    let held = order::budget_work(jobs, interned);
    let mut busiest = Busiest::new();
    for (id, (work, budget)) in held.iter().zip(&interned.budgets).enumerate() {
        let load = order::load(*work, budget);
        if !load.is_zero() && budget.steady > 0 {
            busiest.add(load, id);
        }
    }
    for (_, id) in busiest.into_vec() {
        let budget = &interned.budgets[id];
        let name = budget.source.key().to_string();
        model = model.with_budget(BudgetLoad::new(name, held[id], budget.steady));
    }
    let moved: u64 = jobs
        .iter()
        .map(|job| u64::from(interned.loads[job.id as usize].pods))
        .sum();
    if let Some(rate) = durations.scheduler_rate().filter(|_| moved > 0) {
        model = model.with_moves(Moves::new(moved, rate));
    }
    if let Some(transfer) = planner.longest_transfer(nodes, jobs.len() as u64, moved)? {
        model = model.with_transfer(transfer);
    }
    if !plan.is_empty() {
        // One more look at the whole cluster.
        model = model.with_tail(durations.verify);
    }
    Ok(model.estimate()?)
}
