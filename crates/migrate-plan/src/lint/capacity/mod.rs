//! Whether pods have room at every instant.

mod tied;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use migrate_core::model::Resources;
use migrate_core::{ClusterModel, Node, ObjectName, Plan, Policy};

use super::timeline::Timeline;
use super::{At, Report, codes};
use tied::Tied;

/// Amounts of resources by name.
type Amounts<'m> = BTreeMap<&'m str, u64>;

/// Pools that some pods cannot leave.
#[derive(Debug, Default)]
struct Share<'m> {
    /// By number.
    pools: Vec<usize>,
    /// What these pods ask for.
    asked: Amounts<'m>,
    /// What the nodes of the pools offer to pods that may leave them.
    offered: Amounts<'m>,
    /// The same of those that are empty and away.
    away: Amounts<'m>,
    /// How many of the pools have more nodes empty and away than nobody chose.
    crowded: usize,
}

/// A pool while the schedule goes on.
#[derive(Debug, Default)]
struct Pool<'m> {
    name: &'m str,
    /// Which shares it is of.
    shares: Vec<usize>,
    /// What its nodes offer to pods that may leave them.
    offered: Amounts<'m>,
    /// Nodes that are empty and away.
    empty: u32,
    /// How many of these are nobody's choice.
    unavoidable: u32,
}

/// The pods that are tied to some pools have to fit, by the sum of their requests,
/// on the nodes of these that are not away. Judged when a drain has ended; that of
/// a single node of each pool is nobody's choice, nor is that of nodes which were
/// cordoned before, or of one beside these where a reserve leaves it its place. Nodes that say nothing of what they offer are not judged.
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
    let takes =
        |node: &&Node| node.ready && (!node.unschedulable || drained.contains(node.name.as_str()));
    let mut offers: BTreeMap<&str, Amounts<'_>> = BTreeMap::new();
    for node in model.nodes.iter().filter(takes) {
        let offered = amounts(&node.allocatable, node.allocatable.pods);
        offers.insert(&node.name, offered);
    }
    let tied = Tied::new(model, policy, &mut offers);
    let mut pools = tied.pools();
    for node in &model.nodes {
        let pool = &mut pools[tied.number(policy.pools.pool_of(node))];
        if let Some(offer) = offers.get(node.name.as_str()) {
            add(&mut pool.offered, offer);
        }
        pool.unavoidable += u32::from(node.ready && node.unschedulable);
    }
    let mut shares = tied.shares();
    for (at, share) in shares.iter_mut().enumerate() {
        for &pool in &share.pools {
            add(&mut share.offered, &pools[pool].offered);
            pools[pool].shares.push(at);
        }
    }
    // What is cordoned takes nothing of a reserve: one more goes beside it.
    for pool in &plan.pools {
        let has_reserve = policy.pools.reserve(&pool.name, pool.nodes) > 0;
        if let Some(id) = tied.known_number(&pool.name).filter(|_| has_reserve) {
            pools[id].unavoidable += 1;
        }
    }
    for pool in &mut pools {
        pool.unavoidable = pool.unavoidable.max(1);
    }
    let number = |name: &str| tied.known_number(name);
    judge(timeline, &offers, number, pools, shares, report);
}

/// Goes through the schedule.
fn judge<'m>(
    timeline: &Timeline<'m>,
    offers: &BTreeMap<&str, Amounts<'m>>,
    number: impl Fn(&str) -> Option<usize>,
    mut pools: Vec<Pool<'m>>,
    mut shares: Vec<Share<'m>>,
    report: &mut Report,
) {
    // A replacement offers what its node does, from before the drain on.
    let alone = timeline
        .slots
        .iter()
        .filter(|span| span.provision.is_none());
    let mut spans: Vec<_> = alone.collect();
    spans.sort_by_key(|span| (span.drain.end, &span.slot.node));
    let mut ends = BinaryHeap::new();
    for span in spans {
        let node = span.slot.node.as_str();
        let Some(offer) = offers.get(node) else {
            continue;
        };
        while let Some(&Reverse((end, pool, node))) = ends.peek()
            && end <= span.drain.end
        {
            ends.pop();
            let pool: &mut Pool<'_> = &mut pools[pool];
            pool.empty -= 1;
            let is_least = pool.empty == pool.unavoidable;
            for &at in &pool.shares {
                take(&mut shares[at].away, &offers[node]);
                shares[at].crowded -= usize::from(is_least);
            }
        }
        // Of a pool that no node is of, no pod is tied to it.
        let Some(id) = number(&span.slot.pool) else {
            continue;
        };
        ends.push(Reverse((span.all.end, id, node)));
        let pool = &mut pools[id];
        pool.empty += 1;
        let is_first = pool.empty == pool.unavoidable.saturating_add(1);
        for &at in &pool.shares {
            add(&mut shares[at].away, offer);
            shares[at].crowded += usize::from(is_first);
        }
        let crowded = pools[id].shares.iter().map(|at| &shares[*at]);
        for share in crowded.filter(|share| share.crowded > 0) {
            for (resource, asked) in &share.asked {
                let get = |amounts: &Amounts<'_>| amounts.get(resource).copied().unwrap_or(0);
                let away = get(&share.away);
                let left = get(&share.offered).saturating_sub(away);
                // Of what no node has that is away, nothing is lacking for that.
                if *asked > left && away > 0 {
                    let names: Vec<&str> = share.pools.iter().map(|id| pools[*id].name).collect();
                    let evidence = format!(
                        "when node {node} is empty at {}, pods that may run in pools {} alone ask \
                         for {asked} of {resource}, and the nodes there that are not away have \
                         {left}",
                        At(span.drain.end),
                        names.join(", "),
                    );
                    let object = ObjectName::cluster("Pool", pools[id].name);
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

fn take<'m>(sum: &mut Amounts<'m>, less: &Amounts<'m>) {
    for (resource, amount) in less {
        let sum = sum.entry(resource).or_default();
        *sum = sum.saturating_sub(*amount);
    }
}
