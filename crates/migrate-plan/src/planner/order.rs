//! Priority: the node that loads the busiest budget first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Plan, Policy, Role};

use super::Job;
use super::measured::millis;
use super::replan::{self, Places};
use crate::intern::Interned;

/// Sorts into priority order and names the canaries.
///
/// Control-plane nodes first, then canaries, then by the load of the busiest
/// budget a node touches (all pods of it that have to move, times how long each
/// holds it, over what it allows), then the longest node first, then by name. The
/// node `runner_on` goes last, and is the canary only where it is alone. Those that
/// are in an earlier plan stay in its order.
pub(super) fn sort(
    jobs: &mut Vec<Job<'_>>,
    interned: &Interned<'_>,
    policy: &Policy,
    runner_on: Option<&str>,
    earlier: Option<&Plan>,
) {
    let places = earlier.map(replan::places).unwrap_or_default();
    let loads = budget_loads(budget_work(jobs, interned), interned);
    let bottleneck = |job: &Job<'_>| {
        let budgets = interned
            .touches(job.id)
            .iter()
            .map(|touch| touch.budget as usize);
        budgets
            .map(|budget| loads[budget])
            .max()
            .unwrap_or_default()
    };
    if policy.pools.canary {
        name_canaries(jobs, runner_on, &places);
    }
    jobs.sort_by_cached_key(|job| {
        let after_control_plane = job.node.role != Role::ControlPlane;
        let load = Reverse(bottleneck(job));
        let length = Reverse(job.times.total());
        (
            after_control_plane,
            runner_on == Some(job.node.name.as_str()),
            !job.canary,
            load,
            length,
            job.node.name.as_str(),
        )
    });
    if earlier.is_some() {
        replan::keep_order(jobs, &places, |job| {
            (
                job.node.role != Role::ControlPlane,
                runner_on == Some(job.node.name.as_str()),
                !job.canary,
            )
        });
    }
}

/// Σ nᵢⱼ · hᵢ / aⱼ of every budget, from its [work](budget_work).
pub(super) fn budget_loads(mut work: Vec<Duration>, interned: &Interned<'_>) -> Vec<Duration> {
    for (load, budget) in work.iter_mut().zip(&interned.budgets) {
        *load /= budget.steady.max(1);
    }
    work
}

/// Σ nᵢⱼ · hᵢ of every budget.
pub(super) fn budget_work(jobs: &[Job<'_>], interned: &Interned<'_>) -> Vec<Duration> {
    // Holds are whole milliseconds, and adding up numbers is what most of it costs.
    let mut work = vec![0u64; interned.budgets.len()];
    for job in jobs {
        let hold = millis(job.times.hold);
        for touch in interned.touches(job.id) {
            let sum = &mut work[touch.budget as usize];
            *sum = sum.saturating_add(hold.saturating_mul(touch.pods.into()));
        }
    }
    work.into_iter().map(Duration::from_millis).collect()
}

/// One worker of each pool: one that can go at all, best the one that was to, or one
/// that is cordoned already and so takes nothing away, then the one that tells soonest.
fn name_canaries(jobs: &mut [Job<'_>], runner_on: Option<&str>, places: &Places<'_>) {
    let mut best: BTreeMap<&str, usize> = BTreeMap::new();
    let rank = |job: &Job<'_>| {
        let cannot_go = job.impossible || !job.node.ready;
        let is_own = runner_on == Some(job.node.name.as_str());
        (
            is_own,
            cannot_go,
            places
                .get(job.node.name.as_str())
                .is_none_or(|(_, canary)| !canary),
            !job.node.unschedulable,
            job.times.total(),
        )
    };
    for (at, job) in jobs
        .iter()
        .enumerate()
        .filter(|(_, job)| job.pool != CONTROL_PLANE_POOL)
    {
        let so_far = best.entry(job.pool).or_insert(at);
        let other = &jobs[*so_far];
        if (rank(job), &job.node.name) < (rank(other), &other.node.name) {
            *so_far = at;
        }
    }
    let chosen: Vec<usize> = best.into_values().collect();
    for at in chosen {
        jobs[at].canary = true;
    }
}
