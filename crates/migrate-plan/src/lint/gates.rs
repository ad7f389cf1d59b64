//! Canaries with their soaks, and tasks at their points.

use std::collections::BTreeMap;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{ObjectName, Plan, Point, Policy};

use super::timeline::{SlotSpan, Timeline};
use super::{At, Report, codes, object};

pub(super) fn check(plan: &Plan, policy: &Policy, timeline: &Timeline<'_>, report: &mut Report) {
    if policy.pools.canary {
        canaries(policy, timeline, report);
    }
    tasks(plan, timeline, report);
}

/// In each pool of workers the first one is verified before any other begins;
/// while it soaks, no worker at all begins.
fn canaries(policy: &Policy, timeline: &Timeline<'_>, report: &mut Report) {
    let mut pools: BTreeMap<&str, Vec<&SlotSpan<'_>>> = BTreeMap::new();
    let workers = timeline.slots.iter();
    for slot in workers.filter(|slot| slot.slot.pool != CONTROL_PLANE_POOL) {
        pools.entry(&slot.slot.pool).or_default().push(slot);
    }
    let soak = policy.rollout.canary_soak;
    for (pool, slots) in pools {
        let [canary, others @ ..] = slots.as_slice() else {
            continue;
        };
        let name = &canary.slot.node;
        let mut broken = |evidence: String| {
            report.broken(codes::CANARY, ObjectName::cluster("Pool", pool), evidence);
        };
        if let Some(other) = others.iter().find(|other| other.all.start < canary.all.end) {
            broken(format!(
                "node {} begins at {} before the canary {name} is verified",
                other.slot.node,
                At(other.all.start)
            ));
        }
        if soak.is_zero() {
            continue;
        }
        let Some(confirm) = canary.confirm else {
            broken(format!(
                "its canary {name} is not verified once more after its soak"
            ));
            continue;
        };
        if confirm.start < canary.all.end + soak {
            broken(format!(
                "its canary {name} is verified once more at {} before it has soaked",
                At(confirm.start)
            ));
        }
        // What begins at the very moment may have been before it.
        let is_early = |slot: &&SlotSpan<'_>| {
            let waits = !timeline.is_first(slot.slot) && slot.slot.node != *name;
            waits && canary.all.end < slot.all.start && slot.all.start < confirm.end
        };
        if let Some(early) = timeline.slots.iter().find(is_early) {
            broken(format!(
                "node {} begins at {} while the canary {name} soaks",
                early.slot.node,
                At(early.all.start)
            ));
        }
    }
}

/// Nothing begins while a task is at work, and each is done at its point.
fn tasks(plan: &Plan, timeline: &Timeline<'_>, report: &mut Report) {
    let members = || timeline.members.iter().flatten();
    let slots = || timeline.slots.iter().map(|slot| &slot.all);
    let first = || {
        timeline
            .slots
            .iter()
            .filter(|slot| timeline.is_first(slot.slot))
    };
    let workers = || {
        timeline
            .slots
            .iter()
            .filter(|slot| !timeline.is_first(slot.slot))
    };
    for (at, (task, span)) in plan.tasks.iter().zip(&timeline.tasks).enumerate() {
        let Some(span) = *span else {
            continue;
        };
        let mut broken = |evidence: String| {
            report.broken(codes::TASK, object(&task.target), evidence);
        };
        let others = timeline.tasks.iter().enumerate();
        let others = others.filter(|(other, _)| *other != at);
        let others = others.filter_map(|(_, other)| other.as_ref());
        let mut all = members().chain(slots()).chain(others);
        // What is at work already may go on into it only where it need not wait.
        if all.any(|other| span.contains(other.start) && other.end > span.start) {
            broken(format!(
                "something begins while it is at work from {}",
                At(span.start)
            ));
        }
        let latest = match task.at {
            Point::BeforeControlPlane => members().chain(slots()).map(|s| s.start).min(),
            Point::AfterControlPlane | Point::BeforeWorkers => {
                workers().map(|slot| slot.all.start).min()
            }
            _ => None,
        };
        let before = members().map(|span| span.end);
        let earliest = match task.at {
            Point::BeforeControlPlane => None,
            Point::AfterControlPlane | Point::BeforeWorkers => {
                before.chain(first().map(|slot| slot.all.end)).max()
            }
            _ => before.chain(slots().map(|span| span.end)).max(),
        };
        let is_late = latest.is_some_and(|latest| span.end > latest);
        let is_early = earliest.is_some_and(|earliest| span.start < earliest);
        if is_late || is_early {
            let (start, end) = (At(span.start), At(span.end));
            broken(format!(
                "it is at work from {start} to {end}, which is not {}",
                task.at
            ));
        }
    }
}
