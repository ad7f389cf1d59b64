//! What may be drained: the width of a pool, its canary, the control plane, and
//! budgets.

use migrate_core::Phase;
use migrate_core::policy::CONTROL_PLANE_POOL;

use super::super::world::World;
use super::{Judge, has_canary};

impl Judge {
    pub(super) fn drain_begins(&mut self, world: &World, pool: &str, node: &str) {
        assert!(!self.given_up.contains(node), "{node} was given up");
        assert!(!self.not_ready.contains(node), "{node} is not Ready");
        let slot = world.plan.slots.iter().find(|slot| slot.node == node);
        self.ends_in_time(world, slot.unwrap().length);
        let had = self.in_flight.insert(node.to_owned(), pool.to_owned());
        assert_eq!(had, None);
        self.seen_since_begin.remove(node);
        // The width, with whatever is not well counted.
        let (away, width) = (self.away(pool), width(world, pool));
        assert!(
            away.len() <= width,
            "{away:?} away, at most {width} of {pool} may be"
        );
        // Workers wait for the whole control plane.
        if world.scenario.control_plane_nodes_first && pool != CONTROL_PLANE_POOL {
            let left = self.control_plane_left(world);
            assert!(left.is_empty(), "{node} before {left:?}");
        }
        self.runner_goes_last(world, pool, node);
        // The canary goes alone, and soaks alone.
        if pool != CONTROL_PLANE_POOL {
            assert!(self.soaking.is_empty(), "{node} beside {:?}", self.soaking);
        }
        if has_canary(world, pool) && !self.verified_pools.contains(pool) {
            let others = self.in_flight.iter().filter(|(_, p)| *p == pool).count();
            assert_eq!(others, 1, "{node} beside a canary");
        }
        // Budgets: exact as long as their allowance is what it was.
        for (key, capacity) in world.capacities() {
            let draining = self.running.values().filter(|a| a.phase == Phase::Drain);
            let names = draining.map(|a| a.target.name()).chain([node]);
            let shares = names
                .filter_map(|name| world.touches.get(name)?.get(key))
                .map(|&pods| {
                    if world.scenario.budget_status {
                        1
                    } else {
                        pods.min(*capacity).max(1)
                    }
                });
            let touched = world
                .touches
                .get(node)
                .is_some_and(|touches| touches.contains_key(key));
            let held: u32 = shares.sum();
            assert!(
                !touched || held <= *capacity,
                "{held} of {key} held, allowed {capacity}"
            );
        }
    }

    /// Nodes of `pool` that are in work or not well.
    pub(super) fn away(&self, pool: &str) -> Vec<&String> {
        let of_pool = self.pools.iter().filter(|(_, of)| *of == pool);
        let names = of_pool.map(|(name, _)| name);
        names
            .filter(|name| {
                let unwell = self.well.get(*name).is_some_and(|well| !well);
                self.in_flight.contains_key(*name) || unwell
            })
            .collect()
    }
}

pub(super) fn width(world: &World, pool: &str) -> usize {
    let pool = world.plan.pools.iter().find(|planned| planned.name == pool);
    pool.unwrap().width as usize
}
