//! Nodes that somebody has pinned to their places in the order of their pools.
//!
//! The place of a node is how many nodes of its pool go before it. In the next plan it
//! is that of the plan before, less those before it that are done or gone.

use std::collections::BTreeMap;

use migrate_core::Plan;
use rustc_hash::FxHashMap;

use super::Job;

/// Tells `jobs` what `parent` has pinned, and to which places.
pub(super) fn take_over(jobs: &mut [Job<'_>], parent: &Plan) {
    if !parent.slots.iter().any(|slot| slot.pinned) {
        return;
    }
    let names = jobs.iter().map(|job| job.node);
    let by_name: FxHashMap<&str, usize> = names.map(|node| node.name.as_str()).zip(0..).collect();
    let mut before: BTreeMap<&str, u32> = BTreeMap::new();
    for slot in &parent.slots {
        let Some(&at) = by_name.get(slot.node.as_str()) else {
            continue;
        };
        let job = &mut jobs[at];
        let place = before.entry(job.pool).or_default();
        // In another pool it has no place yet.
        if slot.pinned && slot.pool == job.pool {
            job.pinned = Some(*place);
        }
        *place += 1;
    }
}

/// Puts pinned jobs to their places among those of their pools; the others go around
/// them in their order.
pub(super) fn keep(jobs: &mut [Job<'_>]) {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.pinned.is_some()) {
        places.entry(job.pool).or_default();
    }
    if places.is_empty() {
        return;
    }
    for (at, job) in jobs.iter().enumerate() {
        if let Some(places) = places.get_mut(job.pool) {
            places.push(at);
        }
    }
    for places in places.into_values() {
        let of_pool: Vec<Job<'_>> = places.iter().map(|at| jobs[*at]).collect();
        let pinned = of_pool.iter().filter_map(|job| Some((job.pinned?, *job)));
        let mut pinned: BTreeMap<u32, Job<'_>> = pinned.collect();
        let mut others = of_pool.iter().filter(|job| job.pinned.is_none());
        for (place, at) in (0..).zip(places) {
            let is_due = pinned
                .first_key_value()
                .is_some_and(|(due, _)| *due <= place);
            let other = match is_due {
                true => None,
                false => others.next().copied(),
            };
            let next = other.or_else(|| pinned.pop_first().map(|(_, job)| job));
            jobs[at] = next.unwrap_or(jobs[at]);
        }
    }
}

/// Lets those of `jobs` that `is_new` names go behind the last pinned job of their pool,
/// so that the others keep their order around it.
pub(super) fn let_new_wait<'m>(jobs: &mut Vec<Job<'m>>, is_new: impl Fn(&Job<'m>) -> bool) {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.pinned.is_some()) {
        *left.entry(job.pool).or_default() += 1;
    }
    if left.is_empty() {
        return;
    }
    let mut waiting: BTreeMap<&str, Vec<Job<'m>>> = BTreeMap::new();
    for job in std::mem::take(jobs) {
        let left = left.entry(job.pool).or_default();
        if *left > 0 && is_new(&job) {
            waiting.entry(job.pool).or_default().push(job);
            continue;
        }
        jobs.push(job);
        if job.pinned.is_some() {
            *left -= 1;
            if *left == 0 {
                jobs.extend(waiting.remove(job.pool).into_iter().flatten());
            }
        }
    }
}
