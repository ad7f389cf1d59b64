//! How many nodes of a pool are away at once, and what it keeps for failures.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use migrate_core::{ClusterModel, ObjectName, Plan, Policy};

use super::timeline::Timeline;
use super::{At, Report, codes};

/// Away is: in work, not Ready, or cordoned and not yet given back. Counted when
/// a drain begins; what ends at the same moment is back.
pub(super) fn check(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    timeline: &Timeline<'_>,
    report: &mut Report,
) {
    let mut away: BTreeMap<&str, u32> = BTreeMap::new();
    let mut was_away: BTreeSet<&str> = BTreeSet::new();
    let mut not_ready: BTreeSet<&str> = BTreeSet::new();
    for node in &model.nodes {
        let is_away = !node.ready || node.unschedulable;
        *away.entry(policy.pools.pool_of(node)).or_default() += u32::from(is_away);
        if is_away {
            was_away.insert(&node.name);
        }
        if !node.ready {
            not_ready.insert(&node.name);
        }
    }
    let widths: BTreeMap<&str, u32> = plan
        .pools
        .iter()
        .map(|pool| {
            (
                pool.name.as_str(),
                policy.pools.width(&pool.name, pool.nodes),
            )
        })
        .collect();
    let reserves: BTreeMap<&str, u32> = plan
        .pools
        .iter()
        .map(|pool| {
            let reserve = policy.pools.reserve(&pool.name, pool.nodes);
            (pool.name.as_str(), reserve)
        })
        .collect();
    let mut in_work: BTreeMap<&str, u32> = BTreeMap::new();
    let mut ends = BinaryHeap::new();
    for span in &timeline.slots {
        while let Some(&Reverse((end, pool))) = ends.peek()
            && end <= span.all.start
        {
            ends.pop();
            let of_pool: &mut u32 = away.entry(pool).or_default();
            *of_pool = of_pool.saturating_sub(1);
            let of_pool: &mut u32 = in_work.entry(pool).or_default();
            *of_pool = of_pool.saturating_sub(1);
        }
        let node = span.slot.node.as_str();
        // Told once, of its first begin.
        if not_ready.remove(node) {
            let evidence = format!("it begins at {} and is not Ready", At(span.all.start));
            let object = ObjectName::cluster("Node", node);
            report.broken(codes::NOT_READY, object, evidence);
        }
        let pool = span.slot.pool.as_str();
        let of_pool = away.entry(pool).or_default();
        let is_new = !was_away.contains(node);
        if is_new {
            *of_pool += 1;
        }
        let working = in_work.entry(pool).or_default();
        *working += 1;
        ends.push(Reverse((span.all.end, pool)));
        let width = widths.get(pool).copied().unwrap_or(0);
        if *of_pool > width {
            let evidence = format!(
                "{of_pool} of its nodes are away at {} when node {} begins, and {width} may be",
                At(span.all.start),
                node
            );
            report.broken(codes::WIDTH, ObjectName::cluster("Pool", pool), evidence);
            continue;
        }
        let reserve = reserves.get(pool).copied().unwrap_or(0);
        let kept = reserve.max(of_pool.saturating_sub(*working));
        if is_new && working.saturating_add(kept) > width {
            let evidence = format!(
                "{working} of its nodes are in work at {} when node {node} begins, and of {width} \
                 that may be away {reserve} are kept for failures",
                At(span.all.start)
            );
            report.broken(codes::RESERVE, ObjectName::cluster("Pool", pool), evidence);
        }
    }
}
