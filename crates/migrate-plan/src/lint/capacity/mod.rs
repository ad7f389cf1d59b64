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
    /// Nobody has chosen that it is away: it was so before.
    was_away: bool,
    /// Pods that end make way for its drain.
    is_drained: bool,
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
    /// How many of these are somebody's choice, by what they offer.
    chosen: Amounts<'m>,
}

/// The pods that are tied to some pools, or to some zones of them, have to fit, by the sum of
/// their requests, on the nodes there that are not away. Judged when a drain has ended; that
/// a single one of these nodes is away is nobody's choice, nor is it of nodes which were
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
        let was_away = node.unschedulable;
        let offer = Offer {
            part,
            amounts,
            was_away,
            is_drained: drained.contains(node.name.as_str()),
        };
        offers.insert(&node.name, offer);
    }
    let tied = Tied::new(model, policy, &numbers, &mut offers);
    let mut offered = vec![Amounts::new(); numbers.len()];
    for offer in offers.values() {
        add(&mut offered[offer.part], &offer.amounts);
    }
    let all: Vec<Part<'_>> = numbers.keys().copied().collect();
    // By part: the shares that have it.
    let mut shares_of = vec![Vec::new(); all.len()];
    let mut shares = Vec::new();
    for within in tied.within(&all) {
        let mut share = Share {
            name: name_of(&within.parts, &all),
            asked: within.asked,
            offered: Amounts::new(),
            away: Amounts::new(),
            chosen: Amounts::new(),
        };
        for part in within.parts {
            add(&mut share.offered, &offered[part]);
            shares_of[part].push(shares.len());
        }
        shares.push(share);
    }
    judge(timeline, &offers, &shares_of, shares, report);
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
    shares_of: &[Vec<usize>],
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
            for at in &shares_of[offer.part] {
                shares[*at].comes_back(offer);
            }
        }
        ends.push(Reverse((span.all.end, node)));
        for at in &shares_of[offer.part] {
            shares[*at].goes(offer);
        }
        for share in shares_of[offer.part].iter().map(|at| &shares[*at]) {
            for (resource, asked) in &share.asked {
                let get = |amounts: &Amounts<'_>| amounts.get(resource).copied().unwrap_or(0);
                if get(&share.chosen) < 2 {
                    continue;
                }
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
    fn goes(&mut self, offer: &Offer<'m>) {
        add(&mut self.away, &offer.amounts);
        for resource in offer.chosen() {
            *self.chosen.entry(resource).or_default() += 1;
        }
    }

    fn comes_back(&mut self, offer: &Offer<'m>) {
        take(&mut self.away, &offer.amounts);
        for resource in offer.chosen() {
            *self.chosen.entry(resource).or_default() -= 1;
        }
    }
}

impl<'m> Offer<'m> {
    /// What is missing by somebody's choice while it is away.
    fn chosen(&self) -> impl Iterator<Item = &'m str> {
        let offered = self.amounts.iter().filter(|(_, amount)| **amount > 0);
        let offered = offered.filter(|_| !self.was_away);
        offered.map(|(resource, _)| *resource)
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
