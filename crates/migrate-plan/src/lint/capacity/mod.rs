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

/// The nodes of one pool in one zone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Part<'m> {
    pool: &'m str,
    zone: Option<&'m str>,
}

impl<'m> Part<'m> {
    fn of(node: &'m Node, policy: &'m Policy) -> Self {
        Self {
            pool: policy.pools.pool_of(node),
            zone: node.zone(),
        }
    }
}

/// What a node offers to pods that may leave it, and the number of its part.
#[derive(Debug)]
struct Offer<'m> {
    part: usize,
    amounts: Amounts<'m>,
}

/// Parts of pools that some pods cannot leave.
#[derive(Debug)]
struct Share<'m> {
    /// As people read it.
    name: String,
    /// What these pods ask for.
    asked: Amounts<'m>,
    /// What its nodes offer to pods that may leave them.
    offered: Amounts<'m>,
    /// The same of those that are empty and away.
    away: Amounts<'m>,
    pools: Vec<PoolShare<'m>>,
    /// How many of the pools have more nodes empty and away than nobody chose.
    crowded: usize,
}

/// What of a pool is in a share.
#[derive(Debug)]
struct PoolShare<'m> {
    pool: &'m str,
    /// Nodes that are empty and away.
    empty: u32,
    /// How many of these are nobody's choice.
    unavoidable: u32,
}

/// Where a part counts.
#[derive(Clone, Copy, Debug)]
struct Counted {
    share: usize,
    /// The place of its pool in the share.
    pool: usize,
}

/// The pods that are tied to some pools, or to some zones of them, have to fit, by the sum of
/// their requests, on the nodes there that are not away. Judged when a drain has ended; that of
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
    let parts = model.nodes.iter().map(|node| Part::of(node, policy));
    let parts: BTreeSet<Part<'_>> = parts.collect();
    let numbers: BTreeMap<Part<'_>, usize> = parts.into_iter().zip(0..).collect();
    let drained: BTreeSet<&str> = plan.slots.iter().map(|slot| slot.node.as_str()).collect();
    let takes =
        |node: &&Node| node.ready && (!node.unschedulable || drained.contains(node.name.as_str()));
    let mut offers: BTreeMap<&str, Offer<'_>> = BTreeMap::new();
    for node in model.nodes.iter().filter(takes) {
        let amounts = amounts(&node.allocatable, node.allocatable.pods);
        let part = numbers[&Part::of(node, policy)];
        offers.insert(&node.name, Offer { part, amounts });
    }
    let tied = Tied::new(model, policy, &numbers, &mut offers);
    let mut offered = vec![Amounts::new(); numbers.len()];
    for offer in offers.values() {
        add(&mut offered[offer.part], &offer.amounts);
    }
    let mut cordoned = vec![0; numbers.len()];
    for node in &model.nodes {
        let is_cordoned = node.ready && node.unschedulable;
        cordoned[numbers[&Part::of(node, policy)]] += u32::from(is_cordoned);
    }
    // What is cordoned takes nothing of a reserve: one more goes beside it.
    let reserves = plan.pools.iter().map(|pool| {
        let reserve = policy.pools.reserve(&pool.name, pool.nodes);
        (pool.name.as_str(), u32::from(reserve > 0))
    });
    let reserves: BTreeMap<&str, u32> = reserves.collect();
    let all: Vec<Part<'_>> = numbers.keys().copied().collect();
    let mut counted = vec![Vec::new(); all.len()];
    let mut shares = Vec::new();
    for within in tied.within() {
        let mut share = Share {
            name: name_of(&within.parts, &all),
            asked: within.asked,
            offered: Amounts::new(),
            away: Amounts::new(),
            pools: Vec::new(),
            crowded: 0,
        };
        // Parts of a pool follow each other.
        for part in within.parts {
            let pool = all[part].pool;
            add(&mut share.offered, &offered[part]);
            if share.pools.last().is_none_or(|last| last.pool != pool) {
                share.pools.push(PoolShare {
                    pool,
                    empty: 0,
                    unavoidable: reserves.get(pool).copied().unwrap_or(0),
                });
            }
            let at = share.pools.len() - 1;
            share.pools[at].unavoidable += cordoned[part];
            counted[part].push(Counted {
                share: shares.len(),
                pool: at,
            });
        }
        for pool in &mut share.pools {
            pool.unavoidable = pool.unavoidable.max(1);
        }
        shares.push(share);
    }
    judge(timeline, &offers, &counted, shares, report);
}

/// Pools, and their zones where not all of them are meant.
fn name_of(parts: &[usize], all: &[Part<'_>]) -> String {
    let mut names: Vec<String> = Vec::new();
    for of_pool in parts.chunk_by(|a, b| all[*a].pool == all[*b].pool) {
        let pool = all[of_pool[0]].pool;
        if all.iter().filter(|part| part.pool == pool).count() == of_pool.len() {
            names.push(pool.to_owned());
            continue;
        }
        let zones = of_pool.iter().map(|part| all[*part].zone);
        let zones: Vec<&str> = zones.map(|zone| zone.unwrap_or("no zone")).collect();
        names.push(format!("{pool} (in {})", zones.join(", ")));
    }
    names.join(", ")
}

/// Goes through the schedule.
fn judge<'m>(
    timeline: &Timeline<'m>,
    offers: &BTreeMap<&str, Offer<'m>>,
    counted: &[Vec<Counted>],
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
        while let Some(&Reverse((end, node))) = ends.peek()
            && end <= span.drain.end
        {
            ends.pop();
            let offer = &offers[node];
            for at in &counted[offer.part] {
                shares[at.share].comes_back(at.pool, offer);
            }
        }
        ends.push(Reverse((span.all.end, node)));
        for at in &counted[offer.part] {
            shares[at.share].goes(at.pool, offer);
        }
        let crowded = counted[offer.part].iter().map(|at| &shares[at.share]);
        for share in crowded.filter(|share| share.crowded > 0) {
            for (resource, asked) in &share.asked {
                let get = |amounts: &Amounts<'_>| amounts.get(resource).copied().unwrap_or(0);
                let away = get(&share.away);
                let left = get(&share.offered).saturating_sub(away);
                // Of what no node has that is away, nothing is lacking for that.
                if *asked > left && away > 0 {
                    let evidence = format!(
                        "when node {node} is empty at {}, pods that may run in pools {} alone ask \
                         for {asked} of {resource}, and the nodes there that are not away have \
                         {left}",
                        At(span.drain.end),
                        share.name,
                    );
                    let object = ObjectName::cluster("Pool", &span.slot.pool);
                    report.broken(codes::CAPACITY, object, evidence);
                }
            }
        }
    }
}

impl<'m> Share<'m> {
    fn goes(&mut self, pool: usize, offer: &Offer<'m>) {
        let pool = &mut self.pools[pool];
        pool.empty += 1;
        self.crowded += usize::from(pool.empty == pool.unavoidable.saturating_add(1));
        add(&mut self.away, &offer.amounts);
    }

    fn comes_back(&mut self, pool: usize, offer: &Offer<'m>) {
        let pool = &mut self.pools[pool];
        pool.empty -= 1;
        self.crowded -= usize::from(pool.empty == pool.unavoidable);
        take(&mut self.away, &offer.amounts);
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
