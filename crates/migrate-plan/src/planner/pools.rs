//! Pools of a plan: how wide they are, and which version they go to.

use migrate_core::{Node, PlannedPool, Role};

use super::Planner;
use crate::intern::Interned;

impl Planner<'_> {
    /// As wide as policy has them, and to the versions that it gives them.
    pub(super) fn pools(&self, interned: &Interned<'_>) -> Vec<PlannedPool> {
        let policy = &self.policy.pools;
        let pools = interned.pools.all().map(|(name, size)| {
            // The node that goes back does so in place, one way or the other.
            let surge = match self.way_back {
                Some(_) => 0,
                None => policy.surge(name, size),
            };
            let width = policy.width(name, size).max(u32::from(surge == 0));
            let mut pool = PlannedPool::new(name, size, width);
            pool.surge = surge;
            let to = policy.target(name, &self.target);
            // The node that goes back does so whatever its pool's own target is.
            let is_own = *to != self.target && self.way_back.is_none();
            pool.to = is_own.then(|| to.clone());
            pool
        });
        pools.collect()
    }

    /// Whether a plan has to change its kubelet.
    pub(super) fn is_to_change(&self, node: &Node) -> bool {
        let stays = self.leaves_workers && node.role == Role::Worker;
        !stays && self.is_behind(node)
    }

    /// Whether it is not where its pool goes, or is the node that goes back.
    pub(super) fn is_behind(&self, node: &Node) -> bool {
        let target = self.policy.pools.target_of_node(node, &self.target);
        node.is_to_change(target, self.way_back)
    }
}
