//! Which pool each node is of: asked for in many places, and found once.

use migrate_core::{ClusterModel, Policy};
use rustc_hash::FxHashMap;

/// The pools of a cluster.
#[derive(Debug)]
pub(crate) struct Pools<'m> {
    /// In order.
    names: Vec<&'m str>,
    /// How many nodes each has.
    sizes: Vec<u32>,
    /// By node: which of `names`.
    of_node: Vec<u32>,
}

impl<'m> Pools<'m> {
    pub(super) fn of(model: &'m ClusterModel, policy: &Policy) -> Self {
        let mut ids: FxHashMap<&str, u32> = FxHashMap::default();
        let mut sizes = Vec::new();
        let mut of_node = Vec::with_capacity(model.nodes.len());
        for node in &model.nodes {
            let next = u32::try_from(sizes.len()).unwrap_or(u32::MAX);
            let id = *ids.entry(policy.pools.pool_of(node)).or_insert(next);
            if id == next {
                sizes.push(0);
            }
            sizes[id as usize] += 1;
            of_node.push(id);
        }
        let mut names: Vec<(&str, u32)> = ids.into_iter().collect();
        names.sort_unstable();
        let mut places = vec![0; names.len()];
        for ((_, id), place) in names.iter().zip(0u32..) {
            places[*id as usize] = place;
        }
        for id in &mut of_node {
            *id = places[*id as usize];
        }
        Self {
            sizes: names.iter().map(|(_, id)| sizes[*id as usize]).collect(),
            names: names.into_iter().map(|(name, _)| name).collect(),
            of_node,
        }
    }

    /// The number of the pool of `node`: its place among [`all`](Self::all).
    pub(crate) fn id_of(&self, node: u32) -> u32 {
        self.of_node[node as usize]
    }

    /// The name of the pool of `node`.
    pub(crate) fn name_of(&self, node: u32) -> &'m str {
        self.names[self.id_of(node) as usize]
    }

    /// The name of each and how many nodes it has, in order.
    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = (&'m str, u32)> {
        self.names.iter().copied().zip(self.sizes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use migrate_core::{ClusterId, Moment, Node};

    use super::*;

    #[test]
    fn pools_are_in_order_and_know_their_nodes() {
        let policy = Policy::default();
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::EPOCH);
        for (name, pool) in [("a", "west"), ("b", "east"), ("c", "west"), ("d", "")] {
            let mut node = Node::new(name, "v1.36.0".parse().unwrap());
            node.labels.insert(policy.pools.label.clone(), pool.into());
            model.nodes.push(node);
        }
        let pools = Pools::of(&model, &policy);
        assert!(pools.all().eq([("default", 1), ("east", 1), ("west", 2)]));
        let of_nodes = (0..4).map(|node| (pools.id_of(node), pools.name_of(node)));
        assert!(of_nodes.eq([(2, "west"), (1, "east"), (2, "west"), (0, "default")]));
    }
}
