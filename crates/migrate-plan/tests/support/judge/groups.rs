//! Nodes that come before all others, and the one that comes after.

use migrate_core::Phase;
use migrate_core::policy::CONTROL_PLANE_POOL;

use super::super::world::World;
use super::Judge;
use super::begin::is_held;

impl Judge {
    /// Control-plane nodes that are there and not through, or in work.
    pub(super) fn control_plane_left(&self, world: &World) -> Vec<String> {
        self.left_of(world, |pool| pool == CONTROL_PLANE_POOL)
    }

    /// Nodes of pools in `group` that are there and not through, or in work.
    fn left_of(&self, world: &World, group: impl Fn(&str) -> bool) -> Vec<String> {
        let slots = world.plan.slots.iter();
        let planned = slots.filter(|slot| group(&slot.pool));
        let is_over = |node: &String| {
            self.last_phase
                .get(node)
                .is_some_and(|last| *last >= Phase::Verify)
                || !self.well.contains_key(node)
                || self.given_up.contains(node)
                || self.origin.values().any(|replaced| replaced == node)
        };
        let left = planned.map(|slot| &slot.node).filter(|node| !is_over(node));
        let in_work = self.in_flight.iter();
        let in_work = in_work.filter(|(_, pool)| group(pool));
        left.chain(in_work.map(|(node, _)| node)).cloned().collect()
    }

    /// The runner's node goes last of its group, and alone.
    pub(super) fn runner_goes_last(&self, world: &World, pool: &str, node: &str) {
        let first = |pool: &str| !is_held(world, pool) && world.scenario.control_plane_nodes_first;
        let mut others = self.left_of(world, |other| first(other) == first(pool));
        // One that could not begin for long was skipped at some time.
        let is_left_out = |other: &String| {
            let is_out = self.skipped.contains(other) || self.gone.contains(other);
            is_out && !self.in_flight.contains_key(other)
        };
        others.retain(|other| other != node && !is_left_out(other));
        if self.runner.as_deref() == Some(node) {
            assert_eq!(others, [""; 0], "{node} hosts the runner");
        } else if let Some(runner) = &self.runner {
            let is_beside = others.contains(runner) && self.in_flight.contains_key(runner);
            assert!(!is_beside, "{node} beside {runner}, which hosts the runner");
        }
    }
}
