//! The stages of a pool's ramp, and its zones one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::policy::{CONTROL_PLANE_POOL, ZonePolicy};
use migrate_core::{ClusterModel, ObjectName, Policy};

use super::timeline::{SlotSpan, Timeline};
use super::{At, Report, codes};

pub(super) fn check(
    model: &ClusterModel,
    policy: &Policy,
    timeline: &Timeline<'_>,
    report: &mut Report,
) {
    let mut pools: BTreeMap<&str, Vec<&SlotSpan<'_>>> = BTreeMap::new();
    let workers = timeline.slots.iter();
    for slot in workers.filter(|slot| slot.slot.pool != CONTROL_PLANE_POOL) {
        pools.entry(&slot.slot.pool).or_default().push(slot);
    }
    for (pool, slots) in &pools {
        let canaries = usize::from(policy.pools.canary);
        ramp(
            pool,
            slots.get(canaries..).unwrap_or_default(),
            policy,
            report,
        );
    }
    if policy.pools.zones == ZonePolicy::OneAtATime {
        let zones = model.nodes.iter();
        let zones = zones.map(|node| (node.name.as_str(), node.zone().unwrap_or_default()));
        let zones: BTreeMap<&str, &str> = zones.collect();
        for (pool, slots) in &pools {
            one_zone(pool, slots, &zones, report);
        }
    }
}

/// Each stage begins when all of the one before are done; what follows the last
/// likewise. `slots` by their begins, without the canary.
fn ramp(pool: &str, slots: &[&SlotSpan<'_>], policy: &Policy, report: &mut Report) {
    let mut left = slots;
    for &stage in &policy.pools.ramp {
        let length = usize::try_from(stage).unwrap_or(usize::MAX).min(left.len());
        let (of_stage, others) = left.split_at(length);
        let (Some(next), Some(last)) = (others.first(), of_stage.iter().max_by_key(|s| s.all.end))
        else {
            return;
        };
        if next.all.start < last.all.end {
            let evidence = format!(
                "node {} begins at {} before all {stage} of the stage before it are verified: {} \
                 is at {}",
                next.slot.node,
                At(next.all.start),
                last.slot.node,
                At(last.all.end)
            );
            report.broken(codes::RAMP, ObjectName::cluster("Pool", pool), evidence);
        }
        left = others;
    }
}

/// Nodes of two zones are never in work at the same time.
fn one_zone(
    pool: &str,
    slots: &[&SlotSpan<'_>],
    zones: &BTreeMap<&str, &str>,
    report: &mut Report,
) {
    let zone = |slot: &SlotSpan<'_>| zones.get(slot.slot.node.as_str()).copied();
    // By zone, the end of what is in work there longest.
    let mut ends: BTreeMap<Option<&str>, (Duration, &str)> = BTreeMap::new();
    for slot in slots {
        let of_slot = zone(slot);
        let mut others = ends.iter().filter(|(other, _)| **other != of_slot);
        if let Some((_, (_, other))) = others.find(|(_, (end, _))| *end > slot.all.start) {
            let evidence = format!(
                "node {} begins at {} while {other} of another zone is in work",
                slot.slot.node,
                At(slot.all.start)
            );
            report.broken(codes::ZONE, ObjectName::cluster("Pool", pool), evidence);
        }
        let end = ends.entry(of_slot).or_default();
        *end = (*end).max((slot.all.end, &slot.slot.node));
    }
}
