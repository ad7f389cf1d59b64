//! Whether pods have room at every instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use migrate_core::model::{Admitting, Resources};
use migrate_core::{ClusterModel, Disposition, ObjectName, Plan, Policy, disposition};

use super::timeline::Timeline;
use super::{At, Report, codes};

/// Amounts of resources by name.
type Amounts<'m> = BTreeMap<&'m str, u64>;

/// Pools that some pods cannot leave.
#[derive(Debug, Default)]
struct Share<'m> {
    pools: Vec<&'m str>,
    /// What these pods ask for.
    asked: Amounts<'m>,
    /// What the nodes of the pools offer to pods that may leave them.
    offered: Amounts<'m>,
    /// The same of those that are empty and away.
    away: Amounts<'m>,
    /// How many of each pool are.
    nodes: BTreeMap<&'m str, u32>,
}

/// The pods that are tied to some pools have to fit, by the sum of their requests,
/// on the nodes of these that are not away. Judged when a drain has ended; that of
/// a single node of each pool is nobody's choice, nor is that of nodes which were
/// cordoned before. Nodes that say nothing of what they offer are not judged.
pub(super) fn check(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    timeline: &Timeline<'_>,
    report: &mut Report,
) {
    if model.nodes.iter().all(|node| node.allocatable.pods == 0) {
        return;
    }
    let drained: BTreeSet<&str> = plan.slots.iter().map(|slot| slot.node.as_str()).collect();
    let takes = |name: &str| {
        let node = model.node(name);
        node.is_some_and(|node| node.ready && (!node.unschedulable || drained.contains(name)))
    };
    let mut offers: BTreeMap<&str, Amounts<'_>> = BTreeMap::new();
    for node in model.nodes.iter().filter(|node| takes(&node.name)) {
        let offered = amounts(&node.allocatable, node.allocatable.pods);
        offers.insert(&node.name, offered);
    }
    let mut shares: BTreeMap<Vec<&str>, Share<'_>> = BTreeMap::new();
    let mut admitting = Admitting::among(&model.nodes);
    let mut known = BTreeMap::new();
    for pod in model.pods.iter().filter(|pod| !pod.is_finished()) {
        let Some(node) = pod.node.as_deref().filter(|node| takes(node)) else {
            continue;
        };
        let asked = amounts(&pod.requests, pod.requests.pods.max(1));
        let (pools, hosts) = known.entry(&*pod.placement).or_insert_with(|| {
            let nodes = admitting.nodes(&pod.placement);
            let pools = nodes.iter().map(|node| policy.pools.pool_of(node));
            let pools: BTreeSet<&str> = pools.collect();
            let first_two: Vec<&str> = nodes
                .iter()
                .take(2)
                .map(|node| node.name.as_str())
                .collect();
            (Vec::from_iter(pools), first_two)
        });
        match disposition(pod, &policy.consent, None) {
            // It ends, and needs no room any more.
            Disposition::Wait(_) => {}
            Disposition::Leave(_) => take(offers.get_mut(node), &asked),
            _ => {
                let leaves = hosts.iter().any(|host| *host != node);
                match pod.controller.is_some() && leaves {
                    true => add(&mut shares.entry(pools.clone()).or_default().asked, &asked),
                    false => take(offers.get_mut(node), &asked),
                }
            }
        }
    }
    // What is tied to fewer pools is tied to more of them, too.
    let own: Vec<(Vec<&str>, Amounts<'_>)> = shares
        .iter()
        .map(|(pools, share)| (pools.clone(), share.asked.clone()))
        .collect();
    for (pools, share) in &mut shares {
        let within = own
            .iter()
            .filter(|(other, _)| other != pools && other.iter().all(|pool| pools.contains(pool)));
        for (_, asked) in within {
            add(&mut share.asked, asked);
        }
        for node in model.nodes.iter() {
            if let Some(offer) = offers.get(node.name.as_str())
                && pools.contains(&policy.pools.pool_of(node))
            {
                add(&mut share.offered, offer);
            }
        }
    }
    let mut cordoned: BTreeMap<&str, u32> = BTreeMap::new();
    for node in model
        .nodes
        .iter()
        .filter(|node| node.ready && node.unschedulable)
    {
        *cordoned.entry(policy.pools.pool_of(node)).or_default() += 1;
    }
    let shares = shares
        .into_iter()
        .map(|(pools, share)| Share { pools, ..share });
    let shares = shares.collect();
    judge(timeline, &offers, shares, &cordoned, report);
}

/// Goes through the schedule.
fn judge<'m>(
    timeline: &Timeline<'m>,
    offers: &BTreeMap<&str, Amounts<'m>>,
    mut shares: Vec<Share<'m>>,
    cordoned: &BTreeMap<&str, u32>,
    report: &mut Report,
) {
    let mut of_pool: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, share) in shares.iter().enumerate() {
        for pool in &share.pools {
            of_pool.entry(pool).or_default().push(at);
        }
    }
    // A replacement offers what its node does, from before the drain on.
    let alone = timeline
        .slots
        .iter()
        .filter(|span| span.provision.is_none());
    let mut spans: Vec<_> = alone.collect();
    spans.sort_by_key(|span| (span.drain.end, &span.slot.node));
    let mut ends = BinaryHeap::new();
    for span in spans {
        let (pool, node) = (span.slot.pool.as_str(), span.slot.node.as_str());
        let Some(offer) = offers.get(node) else {
            continue;
        };
        let sharing = |pool: &str| of_pool.get(pool).map_or(&[][..], Vec::as_slice);
        while let Some(&Reverse((end, pool, node))) = ends.peek()
            && end <= span.drain.end
        {
            ends.pop();
            for &at in sharing(pool) {
                take(Some(&mut shares[at].away), &offers[node]);
                *shares[at].nodes.entry(pool).or_default() -= 1;
            }
        }
        ends.push(Reverse((span.all.end, pool, node)));
        for &at in sharing(pool) {
            let share = &mut shares[at];
            add(&mut share.away, offer);
            *share.nodes.entry(pool).or_default() += 1;
            let unavoidable = |pool: &str| cordoned.get(pool).copied().unwrap_or(0).max(1);
            let mut nodes = share.nodes.iter();
            if !nodes.any(|(pool, nodes)| *nodes > unavoidable(pool)) {
                continue;
            }
            for (resource, asked) in &share.asked {
                let get = |amounts: &Amounts<'_>| amounts.get(resource).copied().unwrap_or(0);
                let left = get(&share.offered).saturating_sub(get(&share.away));
                if *asked > left {
                    let evidence = format!(
                        "when node {node} is empty at {}, pods that may run in pools {} alone ask \
                         for {asked} of {resource}, and the nodes there that are not away have \
                         {left}",
                        At(span.drain.end),
                        share.pools.join(", "),
                    );
                    let object = ObjectName::cluster("Pool", pool);
                    report.broken(codes::CAPACITY, object, evidence);
                }
            }
        }
    }
}

fn amounts(resources: &Resources, pods: u64) -> Amounts<'_> {
    let extended = resources.extended.iter();
    let extended = extended.map(|(name, amount)| (name.as_str(), *amount));
    let common = [
        ("cpu", resources.cpu_milli),
        ("memory", resources.memory_bytes),
        ("pods", pods),
    ];
    common.into_iter().chain(extended).collect()
}

fn add<'m>(sum: &mut Amounts<'m>, more: &Amounts<'m>) {
    for (resource, amount) in more {
        let sum = sum.entry(resource).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn take<'m>(sum: Option<&mut Amounts<'m>>, less: &Amounts<'m>) {
    let Some(sum) = sum else {
        return;
    };
    for (resource, amount) in less {
        let sum = sum.entry(resource).or_default();
        *sum = sum.saturating_sub(*amount);
    }
}
