//! What may be drained: the width of a pool, its canary, the control plane, and
//! budgets.

use std::collections::BTreeSet;
use std::time::Duration;

use migrate_core::policy::{CONTROL_PLANE_POOL, ZonePolicy};
use migrate_core::{Phase, Pod};

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
        self.seen_away.remove(node);
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
        self.keeps_room(world, node);
        self.runner_goes_last(world, pool, node);
        self.keeps_pool_rules(world, pool, node);
        self.keeps_its_pace(world, node);
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
                    // What it took of less, nobody else knows.
                    if world.scenario.budget_status || world.recovering.contains(key) {
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

    /// What is away together offers no more than there is to spare, unless nothing else of it
    /// is in work.
    fn keeps_room(&self, world: &World, node: &str) {
        if self.well.get(node).is_some_and(|well| !well) {
            return;
        }
        for room in &world.plan.rooms {
            let offer = |name: &str| {
                let offer = room.offers.get(name).copied().unwrap_or(0);
                offer.min(room.spare.max(1))
            };
            let roots = |names: &mut dyn Iterator<Item = &String>| {
                let roots = names.map(|name| self.root(name).to_owned());
                roots
                    .filter(|name| offer(name) > 0)
                    .collect::<BTreeSet<_>>()
            };
            let in_work = roots(&mut self.in_flight.keys());
            let unwell = self.well.iter().filter(|(_, well)| !**well);
            let missing = unwell.map(|(name, _)| name).chain(&self.gone);
            // What came in the place of one offers what that did.
            let is_replaced = |name: &&String| self.origin.values().any(|old| old == *name);
            let away = &in_work | &roots(&mut missing.filter(|name| !is_replaced(name)));
            let taken: u64 = away.iter().map(|name| offer(name)).sum();
            let alone = in_work.len() == usize::from(in_work.contains(self.root(node)));
            assert!(
                offer(self.root(node)) == 0 || taken <= room.spare || alone,
                "{node} begins, {away:?} are away: {taken} of {} of {}",
                room.spare,
                room.resource
            );
        }
    }

    /// The pods of the drain before have had their time.
    fn keeps_its_pace(&mut self, world: &World, node: &str) {
        let rate = u64::from(world.policy.rollout.displaced_per_minute);
        if rate == 0 {
            return;
        }
        assert!(
            self.now >= self.paced_until,
            "{node} before {:?}",
            self.paced_until
        );
        let on_node = |pod: &&Pod| pod.node.as_deref() == Some(node);
        let pods = world.model.pods.iter().filter(on_node).count() as u64;
        self.paced_until = self.now + Duration::from_millis((pods * 60_000).div_ceil(rate));
    }

    /// What policy asks of a pool besides its width.
    fn keeps_pool_rules(&self, world: &World, pool: &str, node: &str) {
        if pool == CONTROL_PLANE_POOL {
            return;
        }
        let in_work = self.in_flight.iter().filter(|(_, of)| *of == pool);
        let in_work: BTreeSet<&str> = in_work.map(|(node, _)| self.root(node)).collect();
        // A node that somebody has cordoned takes nothing from its pool.
        let is_away = |node: &str| self.well.get(node).is_some_and(|well| !well);
        if world.scenario.reserve > 0 && !is_away(node) {
            let others = self.away(pool).len() - in_work.len();
            let kept = others.max(world.scenario.reserve as usize);
            let (in_work, width) = (in_work.len(), width(world, pool));
            assert!(
                in_work + kept <= width,
                "{in_work} in work, {kept} kept of {width}"
            );
        }
        if world.policy.pools.zones == ZonePolicy::OneAtATime {
            let zone = |name: &str| {
                let mut nodes = world.model.nodes.iter();
                nodes.find(|node| node.name == name).unwrap().zone()
            };
            let zones: BTreeSet<_> = in_work.iter().map(|name| zone(name)).collect();
            assert_eq!(zones.len(), 1, "{node}: {in_work:?} are in work");
        }
        if !has_canary(world, pool) || self.verified_pools.contains(pool) {
            let verified = self
                .verified
                .iter()
                .filter(|name| !in_work.contains(name.as_str()));
            let verified = verified.filter(|name| self.pools[*name] == pool).count() as u32;
            let mut end = 0;
            let mut ends = world.policy.pools.ramp.iter().map(|stage| {
                end += stage;
                end
            });
            let allowed = ends.find(|end| *end > verified).unwrap_or(u32::MAX);
            assert!(
                verified + in_work.len() as u32 <= allowed,
                "{node} after {verified}, beside {in_work:?}, of a stage up to {allowed}"
            );
        }
    }

    /// The node of the plan in whose place `node` is.
    pub(super) fn root<'j>(&'j self, node: &'j str) -> &'j str {
        self.origin.get(node).map_or(node, |old| self.root(old))
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
