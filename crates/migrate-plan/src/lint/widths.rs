//! How many nodes of a pool are away at once, and what it keeps for failures.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use migrate_core::{ClusterModel, ObjectName, Plan, PlannedPool, Policy};

use super::timeline::Timeline;
use super::{At, Report, codes};

/// How many of the `size` nodes of a planned pool policy lets be away.
pub(super) fn width(pool: &PlannedPool, size: u32, policy: &Policy) -> u32 {
    let width = policy.pools.width(&pool.name, size);
    // Without its surge, as on a way back, one goes in any case.
    width.max(u32::from(pool.surge == 0))
}

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
            // What a plan has made narrower, a run keeps to.
            let of_policy = width(pool, pool.nodes, policy);
            let of_plan = pool.width.max(u32::from(pool.surge == 0));
            (pool.name.as_str(), of_policy.min(of_plan))
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
    let behind = timeline.slots.iter();
    let behind = behind.filter_map(|span| Some((span, span.provision?)));
    for (span, provision) in behind.filter(|(it, _)| was_away.contains(it.slot.node.as_str())) {
        // Its replacement is there from then on.
        ends.push(Reverse((provision.end, span.slot.pool.as_str(), false)));
    }
    // Of what begins at the same moment nodes that were away come last: they take
    // nothing of the reserve, and leave as much of it for the others.
    let mut spans: Vec<_> = timeline.slots.iter().collect();
    spans.sort_by_key(|span| (span.all.start, was_away.contains(span.slot.node.as_str())));
    for span in spans {
        while let Some(&Reverse((end, pool, was_in_work))) = ends.peek()
            && end <= span.all.start
        {
            ends.pop();
            let of_pool: &mut u32 = away.entry(pool).or_default();
            *of_pool = of_pool.saturating_sub(1);
            let of_pool: &mut u32 = in_work.entry(pool).or_default();
            *of_pool = of_pool.saturating_sub(u32::from(was_in_work));
        }
        let node = span.slot.node.as_str();
        // Told once, of its first begin.
        if not_ready.remove(node) {
            let evidence = format!("it begins at {} and is not Ready", At(span.all.start));
            let object = ObjectName::cluster("Node", node);
            report.broken(codes::NOT_READY, object, evidence);
        }
        if span.provision.is_some() {
            continue;
        }
        let pool = span.slot.pool.as_str();
        let of_pool = away.entry(pool).or_default();
        let is_new = !was_away.contains(node);
        if is_new {
            *of_pool += 1;
        }
        let working = in_work.entry(pool).or_default();
        *working += 1;
        ends.push(Reverse((span.all.end, pool, true)));
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
    surges(plan, policy, timeline, report);
}

/// How many machines more than its nodes a pool has: those behind replacements, from
/// the begin of these to the end of their verification.
fn surges(plan: &Plan, policy: &Policy, timeline: &Timeline<'_>, report: &mut Report) {
    let surges = plan.pools.iter().map(|pool| {
        let surge = policy.pools.surge(&pool.name, pool.nodes);
        (pool.name.as_str(), surge)
    });
    let surges: BTreeMap<&str, u32> = surges.collect();
    let mut more: BTreeMap<&str, BinaryHeap<Reverse<Duration>>> = BTreeMap::new();
    // By their begins.
    for span in timeline.slots.iter().filter(|it| it.provision.is_some()) {
        let pool = span.slot.pool.as_str();
        let machines = more.entry(pool).or_default();
        while machines
            .peek()
            .is_some_and(|Reverse(end)| *end <= span.all.start)
        {
            machines.pop();
        }
        machines.push(Reverse(span.all.end));
        let surge = surges.get(pool).copied().unwrap_or(0);
        if machines.len() > surge as usize {
            let evidence = format!(
                "it has {} machines more than nodes at {} when that of node {} begins to be made, \
                 and {surge} is its surge",
                machines.len(),
                At(span.all.start),
                span.slot.node,
            );
            report.broken(codes::SURGE, ObjectName::cluster("Pool", pool), evidence);
        }
    }
}
