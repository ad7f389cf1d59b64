//! In which order a tool takes the nodes of a pool.

use std::collections::BTreeMap;

use migrate_core::content_hash;

use super::Order;
use crate::cluster::Cluster;
use crate::instance::Instance;
use crate::random::Random;

/// Puts `nodes` of one pool into the order of the tool.
pub(super) fn sort(nodes: &mut [usize], order: Order, cluster: &Cluster, instance: &Instance) {
    let seed = instance.seed;
    let host = |node: usize| &cluster.hosts()[node];
    match order {
        Order::Listed | Order::Colours => nodes.sort_by_key(|node| &host(*node).name),
        Order::ZoneAge => {
            nodes.sort_by_key(|node| (&host(*node).zone, u32::MAX - host(*node).age));
        }
        Order::Hash => nodes.sort_by_cached_key(|node| content_hash(&(&host(*node).name, seed))),
        Order::Random => Random::stream(seed, 6).shuffle(nodes),
        Order::Planned => {
            let plan = instance.plan();
            let slots = plan.iter().flat_map(|plan| &plan.slots);
            let ranks: BTreeMap<&str, usize> =
                slots.map(|slot| slot.node.as_str()).zip(0..).collect();
            nodes.sort_by_key(|node| ranks.get(host(*node).name.as_str()));
        }
    }
}

/// Batches that no budget and no pool's width forbids: each node, those first that
/// share budgets with most others, goes into the first batch with room for it.
pub(super) fn colours(
    cluster: &Cluster,
    pools: &[Vec<usize>],
    widths: &[usize],
) -> Vec<Vec<usize>> {
    let mut of_pool = BTreeMap::new();
    for (pool, nodes) in pools.iter().enumerate() {
        of_pool.extend(nodes.iter().map(|node| (*node, pool)));
    }
    let guarded: BTreeMap<usize, BTreeMap<usize, u32>> = of_pool
        .keys()
        .map(|node| (*node, cluster.guarded_on(*node)))
        .collect();
    let mut sharers: BTreeMap<usize, usize> = BTreeMap::new();
    for app in guarded.values().flat_map(BTreeMap::keys) {
        *sharers.entry(*app).or_default() += 1;
    }
    let degree = |node: &usize| -> usize {
        let apps = guarded.get(node).into_iter().flat_map(BTreeMap::keys);
        apps.filter_map(|app| sharers.get(app)).sum()
    };
    let mut nodes: Vec<usize> = of_pool.keys().copied().collect();
    nodes.sort_by_key(|node| (usize::MAX - degree(node), *node));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut taken: Vec<BTreeMap<usize, u32>> = Vec::new();
    let mut counts: Vec<Vec<usize>> = Vec::new();
    for node in nodes {
        let pool = of_pool.get(&node).copied().unwrap_or(0);
        let share = |app: usize, pods: u32| pods.min(cluster.spare(app).max(1));
        let apps = guarded.get(&node);
        let apps = || apps.into_iter().flatten().map(|(app, pods)| (*app, *pods));
        let fits = |batch: &usize| {
            counts[*batch][pool] < widths[pool]
                && apps().all(|(app, pods)| {
                    let taken = taken[*batch].get(&app).copied().unwrap_or(0);
                    taken + share(app, pods) <= cluster.spare(app).max(1)
                })
        };
        let found = (0..batches.len()).find(fits);
        let batch = found.unwrap_or_else(|| {
            batches.push(Vec::new());
            taken.push(BTreeMap::new());
            counts.push(vec![0; pools.len()]);
            batches.len() - 1
        });
        batches[batch].push(node);
        counts[batch][pool] += 1;
        for (app, pods) in apps() {
            *taken[batch].entry(app).or_default() += share(app, pods);
        }
    }
    batches
}
