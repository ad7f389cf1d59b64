//! Priority: the node that loads the busiest budget or room first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Policy, Role};

use super::measured::millis;
use super::replan::{Places, keep_order};
use super::room::Limits;
use super::{Job, pins};
use crate::bounds::load_by_size;
use crate::intern::{Budget, Interned};

/// Sorts into priority order and names the canaries.
///
/// Control-plane nodes first, then canaries, then by the load of the busiest
/// budget a node touches (all pods of it that have to move, times how long each
/// holds it, over what it allows) or of the busiest room it takes of (how long
/// nodes of its size are away, over how many of them may be so beside each
/// other), then the longest node first, then by name. The node `runner_on` goes
/// last, and is the canary only where it is alone. Those that are in an earlier
/// plan stay in its order, and those that are pinned in their places.
pub(super) fn sort(
    jobs: &mut Vec<Job<'_>>,
    interned: &Interned<'_>,
    limits: Limits<'_>,
    policy: &Policy,
    runner_on: Option<&str>,
    earlier: Option<&Places>,
) {
    // By node: the load of the busiest budget or room it touches.
    let mut bottlenecks = vec![Duration::ZERO; interned.loads.len()];
    let work = budget_work(jobs, interned);
    for (work, (budget, shares)) in work.into_iter().zip(interned.shares()) {
        let load = load(work, budget);
        for share in shares {
            let bottleneck = &mut bottlenecks[share.node as usize];
            *bottleneck = load.max(*bottleneck);
        }
    }
    crowd(jobs, limits, &mut bottlenecks);
    if policy.pools.canary {
        name_canaries(jobs, runner_on, earlier);
    }
    let group = |job: &Job<'_>| {
        (
            job.node.role != Role::ControlPlane,
            runner_on == Some(job.node.name.as_str()),
            !job.canary,
        )
    };
    // Nodes of a model are sorted by name: then their places say which comes first.
    let by_place = jobs.is_sorted_by(|a, b| a.node.name <= b.node.name);
    let ranks = jobs.iter().zip(0usize..).map(|(job, at)| {
        let load = Reverse(bottlenecks[job.id as usize]);
        (group(job), load, Reverse(job.times.total()), at)
    });
    let mut ranks: Vec<_> = ranks.collect();
    match by_place {
        true => ranks.sort_unstable(),
        false => ranks.sort_unstable_by(|a, b| {
            let names = || jobs[a.3].node.name.cmp(&jobs[b.3].node.name);
            let of_rank = (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2));
            of_rank.then_with(names).then(a.3.cmp(&b.3))
        }),
    }
    *jobs = ranks.into_iter().map(|(.., at)| jobs[at]).collect();
    if let Some(places) = earlier {
        keep_order(jobs, places, group);
    }
    if jobs.iter().any(|job| job.pinned.is_some()) {
        pins::keep(jobs);
        // What must come first or last does so, pinned or not.
        jobs.sort_by_key(group);
    }
}

/// Raises the load of each node to that of the rooms it takes of, as far as it is one for
/// nodes of its size.
fn crowd(jobs: &[Job<'_>], limits: Limits<'_>, bottlenecks: &mut [Duration]) {
    if limits.rooms.is_empty() {
        return;
    }
    let mut by_name: Vec<&Job<'_>> = jobs.iter().collect();
    by_name.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    let surging = limits.pools.iter().filter(|pool| pool.surge > 0);
    let surging: Vec<&str> = surging.map(|pool| pool.name.as_str()).collect();
    for room in limits.rooms {
        let takers = room.offers.iter().filter_map(|(name, offer)| {
            let at = by_name.binary_search_by(|job| job.node.name.cmp(name));
            let job = by_name[at.ok()?];
            let takes = !job.node.unschedulable && !surging.contains(&job.pool);
            takes.then(|| (job.id, (millis(job.times.total()), *offer)))
        });
        let (ids, taken): (Vec<u32>, Vec<_>) = takers.unzip();
        for (id, load) in ids.into_iter().zip(load_by_size(room.spare, &taken)) {
            let bottleneck = &mut bottlenecks[id as usize];
            *bottleneck = Duration::from_millis(load).max(*bottleneck);
        }
    }
}

/// Σ nᵢⱼ · hᵢ / aⱼ of a budget, from its [work](budget_work).
pub(super) fn load(work: Duration, budget: &Budget<'_>) -> Duration {
    work / budget.steady.max(1)
}

/// Σ nᵢⱼ · hᵢ of every budget.
pub(super) fn budget_work(jobs: &[Job<'_>], interned: &Interned<'_>) -> Vec<Duration> {
    let mut holds = vec![0u64; interned.loads.len()];
    for job in jobs {
        holds[job.id as usize] = millis(job.times.hold);
    }
    let work = interned.shares().map(|(_, shares)| {
        let work = shares.iter().map(|share| {
            let pods = u64::from(share.pods);
            holds[share.node as usize].saturating_mul(pods)
        });
        Duration::from_millis(work.fold(0, u64::saturating_add))
    });
    work.collect()
}

/// One worker of each pool: one that can go at all, best the one that is pinned to be the
/// first, none that is pinned behind it, then one that is cordoned already and so takes
/// nothing away, the one that was to, the one that tells soonest.
fn name_canaries(jobs: &mut [Job<'_>], runner_on: Option<&str>, earlier: Option<&Places>) {
    let mut best: BTreeMap<&str, usize> = BTreeMap::new();
    let rank = |job: &Job<'_>| {
        let is_own = runner_on == Some(job.node.name.as_str());
        (
            is_own,
            job.outlook,
            match job.pinned {
                Some(0) => 0,
                None => 1,
                Some(_) => 2,
            },
            !job.node.unschedulable,
            earlier.is_none_or(|places| !places.was_canary(job)),
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
