//! Nodes that are deleted or made anew, and drains that find their pool full.

use migrate_core::{Action, ActionId, Phase, Target};
use migrate_plan::ActionResult;

use super::super::world::World;
use super::drain::width;
use super::{Judge, has_canary};

impl Judge {
    /// Another machine has the name of a node, or none. What was done to it is
    /// moot, once nothing of it runs.
    pub(super) fn lose(&mut self, world: &World, node: &str) {
        let soaks = self.soaking.values().any(|canary| canary == node);
        if !self.in_flight.contains_key(node) && !soaks {
            return;
        }
        self.lost.insert(node.to_owned());
        let mut running = self.running.values();
        let is_at_work = running.any(|action| action.target.name() == node);
        if Self::is_planned(world, node) && !is_at_work && !self.stopping.contains(node) {
            self.moot(world, node);
        }
    }

    /// Whether the end of `action` says nothing of the machine that is there now,
    /// so that this is to go the whole way.
    pub(super) fn is_moot(&self, world: &World, action: &Action, result: &ActionResult) -> bool {
        let name = action.target.name();
        let is_node = matches!(action.target, Target::Node { .. });
        if !is_node || !Self::is_planned(world, name) {
            return false;
        }
        let is_gone = !self.well.contains_key(name);
        let pool = &self.pools[name];
        let is_canary = has_canary(world, pool) && !self.verified_pools.contains(pool);
        match (action.phase, result) {
            (_, ActionResult::NotDrained) => true,
            (Phase::Drain, _) => self.lost.contains(name) && !self.aborting,
            // A canary that is gone stops the run.
            (_, ActionResult::Failed { .. }) if is_gone => !self.aborting && !is_canary,
            (_, ActionResult::Failed { .. }) => self.lost.contains(name),
            // It cannot soak.
            (Phase::Verify, ActionResult::Succeeded(_)) => {
                is_gone && is_canary && world.scenario.soak > 0 && !self.aborting
            }
            _ => false,
        }
    }

    /// Forgets what was done to a node.
    pub(super) fn moot(&mut self, world: &World, node: &str) {
        let pool = self.pools[node].clone();
        let target = Target::Node {
            pool: pool.clone(),
            node: node.to_owned(),
        };
        for phase in [Phase::Drain, Phase::Upgrade, Phase::Verify, Phase::Confirm] {
            let id = ActionId::new(&world.plan.id, &target, phase);
            self.completed.remove(&id);
            self.upgrades.remove(&id);
        }
        self.last_phase.remove(node);
        // A canary that soaked is one no longer: another may go first meanwhile.
        self.canaries.remove(node);
        self.in_flight.remove(node);
        self.lost.remove(node);
        if self.soaking.get(&pool).is_some_and(|canary| canary == node) {
            self.soaking.remove(&pool);
        }
    }

    /// Forgets what was done to nodes that were lost, and that nothing runs on.
    pub(super) fn moot_what_is_lost(&mut self, world: &World) {
        let runs = |node: &str| self.running.values().any(|of| of.target.name() == node);
        let lost = self.lost.iter();
        let lost = lost.filter(|node| Self::is_planned(world, node) && !runs(node));
        let lost: Vec<_> = lost.cloned().collect();
        for node in &lost {
            self.moot(world, node);
        }
    }

    fn is_planned(world: &World, node: &str) -> bool {
        world.plan.slots.iter().any(|slot| slot.node == node)
    }

    /// Takes note of nodes that were seen to be away, and whether they fill the
    /// pool of the node that was to be drained.
    pub(super) fn is_full(&mut self, world: &World, action: &Action, away: &[String]) -> bool {
        let Target::Node { pool, .. } = &action.target else {
            return false;
        };
        for node in away {
            if !self.in_flight.contains_key(node) {
                self.well.insert(node.clone(), false);
                self.not_ready.insert(node.clone());
                // It is there after all.
                self.gone.remove(node);
            }
        }
        self.away(pool).len() > width(world, pool)
    }
}
