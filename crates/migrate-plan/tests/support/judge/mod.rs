//! Judges a rollout from its log.

mod begin;
mod drain;
mod groups;
mod loss;
pub(crate) mod surge;

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Action, ActionId, Moment, Phase, Target};
use migrate_plan::{ActionResult, Command, Input, NODE_GONE, Recorded, StopReason, TargetState};

use super::world::{Entry, World};

/// Judges a log, entry by entry, without asking the rollout anything.
#[derive(Default)]
pub(crate) struct Judge {
    running: BTreeMap<ActionId, Action>,
    completed: BTreeSet<ActionId>,
    /// Phases completed by each slot, by the node the plan names.
    members_done: BTreeSet<String>,
    last_phase: BTreeMap<String, Phase>,
    /// Begun and not yet verified or given up.
    in_flight: BTreeMap<String, String>,
    given_up: BTreeSet<String>,
    /// They stopped the run, and have their place until it is started again.
    stopping: BTreeSet<String>,
    /// Uids as last told.
    uids: BTreeMap<String, String>,
    /// Told to be gone, or another machine, while an action of theirs ran.
    lost: BTreeSet<String>,
    /// Ready and uncordoned, as last told; absent means gone.
    well: BTreeMap<String, bool>,
    not_ready: BTreeSet<String>,
    /// Seen cordoned or not Ready since their drain began: what is seen well before
    /// that says nothing of a cordon that was left behind.
    seen_away: BTreeSet<String>,
    pools: BTreeMap<String, String>,
    /// Nodes that came for others.
    origin: BTreeMap<String, String>,
    /// By a node that came for another: the rest of those that came with it, which
    /// are verified after it, in its slot.
    further: BTreeMap<String, Vec<String>>,
    /// Their canary is verified, and confirmed if policy says so.
    verified_pools: BTreeSet<String>,
    /// Nodes of the plan that went first of their pool.
    canaries: BTreeSet<String>,
    /// Nodes of the plan that were verified after the canary of their pool.
    verified: BTreeSet<String>,
    /// Their canary, which is verified and not confirmed.
    soaking: BTreeMap<String, String>,
    /// As last told.
    gone: BTreeSet<String>,
    runner: Option<String>,
    begun: BTreeSet<ActionId>,
    /// Begun before the run was aborted.
    upgrades: BTreeSet<ActionId>,
    verified_at: BTreeMap<String, Moment>,
    /// At the end, for another reason than that the run was aborted.
    skipped: BTreeSet<String>,
    /// Nodes that were begun and given up, and were there.
    failed: u32,
    now: Moment,
    /// Pods displaced before have had their time then.
    paced_until: Moment,
    /// Addons and backups that are through, by name.
    tasks_done: BTreeSet<String>,
    paused: bool,
    stopped: bool,
    aborting: bool,
}

impl Judge {
    pub(crate) fn watch(world: &World) {
        let mut judge = Self::default();
        for node in &world.model.nodes {
            judge
                .well
                .insert(node.name.clone(), node.ready && !node.unschedulable);
            if !node.ready {
                judge.not_ready.insert(node.name.clone());
            }
            judge.uids.insert(node.name.clone(), node.uid.clone());
            let pool = world.policy.pools.pool_of(node).to_owned();
            judge.pools.insert(node.name.clone(), pool);
        }
        let mut slots = world.plan.slots.iter();
        judge.runner = slots
            .find(|slot| slot.hosts_runner)
            .map(|slot| slot.node.clone());
        for standing in world.rollout.standings() {
            // Nor is a node that went while it waited to be tried again.
            let others = [StopReason::Aborted.to_string(), NODE_GONE.to_owned()];
            if matches!(&standing.state, TargetState::Skipped { reason } if !others.contains(reason))
            {
                judge.skipped.insert(standing.target.name().to_owned());
            }
        }
        let log = world.decided();
        for (at, entry) in log.iter().enumerate() {
            match entry {
                Entry::In(recorded) => {
                    judge.now = recorded.at;
                    judge.told(world, &log[at + 1..], recorded);
                }
                Entry::Out(now, command) => {
                    judge.now = *now;
                    judge.commanded(world, command);
                }
            }
        }
    }

    /// Whether this failure was the last word on `target`: nothing of it is
    /// begun afterwards unless the rollout is started again.
    fn is_given_up(later: &[Entry], target: &Target) -> bool {
        !later.iter().any(
            |entry| matches!(entry, Entry::Out(_, Command::Begin { action }) if action.target == *target),
        )
    }

    fn told(&mut self, world: &World, later: &[Entry], recorded: &Recorded) {
        match &recorded.input {
            Input::ActionEnded { id, result } => {
                let Some(action) = self.running.remove(id) else {
                    return;
                };
                match result {
                    result if self.is_moot(world, &action, result) => {
                        if let ActionResult::Deferred { away } = result {
                            let _ = self.is_full(world, &action, away);
                        }
                        self.moot(world, action.target.name());
                    }
                    ActionResult::TooLate => {
                        self.begun.remove(id);
                        self.upgrades.remove(id);
                        self.in_flight.remove(action.target.name());
                    }
                    ActionResult::Succeeded(outcome) => {
                        self.completed.insert(id.clone());
                        self.succeeded(world, &action, outcome);
                    }
                    ActionResult::Deferred { away } if self.is_full(world, &action, away) => {
                        self.in_flight.remove(action.target.name());
                    }
                    _ if Self::is_given_up(later, &action.target) => {
                        let node = action.target.name().to_owned();
                        // A stop keeps it in flight.
                        let stops =
                            matches!(later.first(), Some(Entry::Out(_, Command::Stop { .. })));
                        if stops && self.in_flight.contains_key(&node) {
                            self.stopping.insert(node);
                        } else if self.in_flight.remove(&node).is_some() {
                            // Away until it is seen to have come back, unless it is
                            // gone.
                            if let Some(well) = self.well.get_mut(&node) {
                                // Not one that waited to be tried again at the end.
                                self.failed += u32::from(self.skipped.contains(&node));
                                assert!(self.failed <= world.scenario.max_failed, "{node}");
                                *well &= self.seen_away.contains(&node);
                            }
                            self.given_up.insert(node);
                        }
                    }
                    _ => {}
                }
            }
            Input::NodeSeen {
                node,
                ready,
                unschedulable,
                uid,
                ..
            } if self.pools.contains_key(node) => {
                if !ready || *unschedulable {
                    self.seen_away.insert(node.clone());
                }
                self.gone.remove(node);
                self.not_ready.remove(node);
                if !ready {
                    self.not_ready.insert(node.clone());
                }
                self.well.insert(node.clone(), *ready && !*unschedulable);
                if let Some(uid) = uid
                    && self.uids.insert(node.clone(), uid.clone()).as_ref() != Some(uid)
                {
                    self.lose(world, node);
                }
            }
            Input::NodeGone { node } => {
                self.well.remove(node);
                self.seen_away.remove(node);
                self.gone.insert(node.clone());
                self.lose(world, node);
            }
            Input::RunnerSeen { node } => self.runner.clone_from(node),
            Input::Paused { paused } => self.paused = *paused,
            Input::Aborted => (self.aborting, self.stopped) = (true, false),
            Input::Cancelled => self.stopped |= !self.aborting,
            Input::Started => {
                // What had stopped the run may be another machine by now.
                if self.stopped && !self.aborting {
                    self.stopping.clear();
                    self.moot_what_is_lost(world);
                }
                self.stopped &= self.aborting;
            }
            _ => {}
        }
    }

    fn succeeded(&mut self, world: &World, action: &Action, outcome: &migrate_core::Outcome) {
        let name = action.target.name().to_owned();
        match &action.target {
            Target::ControlPlane { .. } if action.phase == Phase::Verify => {
                self.members_done.insert(name);
            }
            Target::Node { pool, .. } => {
                self.last_phase.insert(name.clone(), action.phase);
                if let migrate_core::Outcome::ReplacedBy { nodes } = outcome {
                    self.in_flight.remove(&name);
                    self.well.remove(&name);
                    for node in nodes {
                        self.well.insert(node.clone(), true);
                        self.pools.insert(node.clone(), pool.clone());
                        self.last_phase.insert(node.clone(), action.phase);
                        self.origin.insert(node.clone(), name.clone());
                    }
                    self.in_flight.insert(nodes[0].clone(), pool.clone());
                    self.further.insert(nodes[0].clone(), nodes[1..].to_vec());
                }
                if action.phase == Phase::Verify {
                    self.in_flight.remove(&name);
                    let mut further = self.further.remove(&name).unwrap_or_default();
                    if !further.is_empty() {
                        // Its slot is in work until all of them are verified.
                        let next = further.remove(0);
                        self.in_flight.insert(next.clone(), pool.clone());
                        self.further.insert(next, further);
                        return;
                    }
                    self.verified_at.insert(name.clone(), self.now);
                    let is_new = !self.verified_pools.contains(pool);
                    let root = self.root(&name).to_owned();
                    if has_canary(world, pool) && is_new {
                        self.canaries.insert(root);
                    } else if !self.canaries.contains(&root) {
                        self.verified.insert(root);
                    }
                    if has_canary(world, pool) && world.scenario.soak > 0 && is_new {
                        self.soaking.insert(pool.clone(), name.clone());
                    } else {
                        self.verified_pools.insert(pool.clone());
                    }
                } else if action.phase == Phase::Confirm {
                    self.soaking.remove(pool);
                    self.verified_pools.insert(pool.clone());
                }
                if action.phase != Phase::Drain {
                    self.lost.remove(&name);
                }
            }
            Target::Addon { .. } if action.phase != Phase::Verify => {}
            Target::Addon { .. } | Target::Backup => {
                self.tasks_done.insert(name);
            }
            _ => {}
        }
    }
}

/// Whether the first node of `pool` goes alone.
fn has_canary(world: &World, pool: &str) -> bool {
    world.scenario.canary && pool != CONTROL_PLANE_POOL
}
