//! Judges a rollout from its log.

mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Action, ActionId, Moment, Phase, Point, Target};
use migrate_plan::{ActionResult, Command, Input, Recorded, StopReason, TargetState};

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
    /// Told to be gone since their drain began.
    lost: BTreeSet<String>,
    /// Ready and uncordoned, as last told; absent means gone.
    well: BTreeMap<String, bool>,
    not_ready: BTreeSet<String>,
    seen_since_begin: BTreeSet<String>,
    pools: BTreeMap<String, String>,
    /// Nodes that came for others.
    origin: BTreeMap<String, String>,
    /// Their canary is verified, and confirmed if policy says so.
    verified_pools: BTreeSet<String>,
    /// Their canary is verified and not confirmed.
    soaking: BTreeSet<String>,
    /// As last seen: a node that others were put off for may be there all the same.
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
            let pool = world.policy.pools.pool_of(node).to_owned();
            judge.pools.insert(node.name.clone(), pool);
        }
        let mut slots = world.plan.slots.iter();
        judge.runner = slots
            .find(|slot| slot.hosts_runner)
            .map(|slot| slot.node.clone());
        for standing in world.rollout.standings() {
            // Nor is a node that went while it waited to be tried again.
            let others = [
                StopReason::Aborted.to_string(),
                "its node is gone".to_owned(),
            ];
            if matches!(&standing.state, TargetState::Skipped { reason } if !others.contains(reason))
            {
                judge.skipped.insert(standing.target.name().to_owned());
            }
        }
        for (at, entry) in world.log.iter().enumerate() {
            match entry {
                Entry::In(recorded) => {
                    judge.now = recorded.at;
                    judge.told(world, at, recorded);
                }
                Entry::Out(now, command) => {
                    judge.now = *now;
                    judge.commanded(world, command);
                }
            }
        }
    }

    /// Whether this failure was the last word on its target: nothing of it is
    /// begun afterwards unless the rollout is started again.
    fn is_given_up(world: &World, at: usize, id: &ActionId) -> bool {
        !world.log[at + 1..].iter().any(
            |entry| matches!(entry, Entry::Out(_, Command::Begin { action }) if action.id == *id),
        )
    }

    fn told(&mut self, world: &World, at: usize, recorded: &Recorded) {
        match &recorded.input {
            Input::ActionEnded { id, result } => {
                let Some(action) = self.running.remove(id) else {
                    return;
                };
                match result {
                    // Nothing that is there has been drained.
                    result
                        if action.phase == Phase::Drain
                            && self.lost.contains(action.target.name())
                            && !self.aborting =>
                    {
                        if let ActionResult::Deferred { away } = result {
                            let _ = self.is_full(world, &action, away);
                        }
                        self.in_flight.remove(action.target.name());
                    }
                    ActionResult::Succeeded(outcome) => {
                        self.completed.insert(id.clone());
                        self.succeeded(world, &action, outcome);
                    }
                    ActionResult::Deferred { away } if self.is_full(world, &action, away) => {
                        self.in_flight.remove(action.target.name());
                    }
                    _ if Self::is_given_up(world, at, id) => {
                        let node = action.target.name().to_owned();
                        // A stop keeps it in flight.
                        let stops = matches!(
                            world.log.get(at + 1),
                            Some(Entry::Out(_, Command::Stop { .. }))
                        );
                        if !stops && self.in_flight.remove(&node).is_some() {
                            // Away until somebody has looked, unless it is gone.
                            if let Some(well) = self.well.get_mut(&node) {
                                // Not one that waited to be tried again at the end.
                                self.failed += u32::from(self.skipped.contains(&node));
                                assert!(self.failed <= world.scenario.max_failed, "{node}");
                                *well &= self.seen_since_begin.contains(&node);
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
                ..
            } if self.pools.contains_key(node) => {
                self.seen_since_begin.insert(node.clone());
                self.gone.remove(node);
                self.not_ready.remove(node);
                if !ready {
                    self.not_ready.insert(node.clone());
                }
                self.well.insert(node.clone(), *ready && !*unschedulable);
            }
            Input::NodeGone { node } => {
                self.well.remove(node);
                self.gone.insert(node.clone());
                self.lose(world, node);
            }
            Input::Paused { paused } => self.paused = *paused,
            Input::RunnerSeen { node } => self.runner.clone_from(node),
            Input::Aborted => (self.aborting, self.stopped) = (true, false),
            Input::Cancelled => self.stopped |= !self.aborting,
            Input::Started => self.stopped &= self.aborting,
            _ => {}
        }
    }

    /// A node is gone. Unless its drain runs or its upgrade was begun, it is in
    /// flight no more, and what comes back has not been drained.
    fn lose(&mut self, world: &World, node: &str) {
        let Some(pool) = self.in_flight.get(node).cloned() else {
            return;
        };
        self.lost.insert(node.to_owned());
        let target = Target::Node {
            pool,
            node: node.to_owned(),
        };
        let id = |phase| ActionId::new(&world.plan.id, &target, phase);
        let drain = id(Phase::Drain);
        if !self.running.contains_key(&drain) && !self.upgrades.contains(&id(Phase::Upgrade)) {
            self.completed.remove(&drain);
            self.last_phase.remove(node);
            self.in_flight.remove(node);
        }
    }

    /// Takes note of nodes that were seen to be away, and whether they fill the
    /// pool of the node that was to be drained.
    fn is_full(&mut self, world: &World, action: &Action, away: &[String]) -> bool {
        let Target::Node { pool, .. } = &action.target else {
            return false;
        };
        for node in away {
            if !self.in_flight.contains_key(node) {
                self.well.insert(node.clone(), false);
                self.not_ready.insert(node.clone());
            }
        }
        self.away(pool).len() > width(world, pool)
    }

    /// Nodes of `pool` that are in work or not well.
    fn away(&self, pool: &str) -> Vec<&String> {
        let of_pool = self.pools.iter().filter(|(_, of)| *of == pool);
        let names = of_pool.map(|(name, _)| name);
        names
            .filter(|name| {
                let unwell = self.well.get(*name).is_some_and(|well| !well);
                self.in_flight.contains_key(*name) || unwell
            })
            .collect()
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
                }
                if action.phase == Phase::Verify {
                    self.in_flight.remove(&name);
                    self.verified_at.insert(name.clone(), self.now);
                    let is_new = !self.verified_pools.contains(pool);
                    if has_canary(world, pool) && world.scenario.soak > 0 && is_new {
                        self.soaking.insert(pool.clone());
                    } else {
                        self.verified_pools.insert(pool.clone());
                    }
                } else if action.phase == Phase::Confirm {
                    self.soaking.remove(pool);
                    self.verified_pools.insert(pool.clone());
                }
                // A drained node that is gone is given up.
                if action.phase == Phase::Drain
                    && !self.well.contains_key(&name)
                    && self.gives_up_gone(world, &name)
                {
                    self.given_up.insert(name.clone());
                    self.in_flight.remove(&name);
                }
            }
            Target::Addon { .. } if action.phase != Phase::Verify => {}
            Target::Addon { .. } | Target::Backup => {
                self.tasks_done.insert(name);
            }
            _ => {}
        }
    }

    fn gives_up_gone(&self, world: &World, node: &str) -> bool {
        !world.log.iter().any(|entry| {
            matches!(entry, Entry::Out(_, Command::Begin { action })
                if action.target.name() == node && action.phase == Phase::Upgrade)
        })
    }

    fn commanded(&mut self, world: &World, command: &Command) {
        let action = match command {
            Command::Begin { action } => action,
            Command::Stop { .. } => {
                self.stopped = true;
                return;
            }
            _ => return,
        };
        assert!(!self.paused, "{action} begun in a pause");
        assert!(!self.stopped, "{action} begun after a stop");
        assert!(!self.completed.contains(&action.id), "{action} begun again");
        if self.aborting {
            // Of a target that was changed, what is left.
            let goes_on = match action.phase {
                Phase::Drain | Phase::BackUp => false,
                Phase::Upgrade => self.upgrades.contains(&action.id),
                _ => true,
            };
            assert!(goes_on, "{action} begun while the run is aborted");
        } else if action.phase == Phase::Upgrade {
            self.upgrades.insert(action.id.clone());
        }
        let name = action.target.name();
        let same_target = |other: &&Action| other.target.name() == name;
        assert_eq!(
            self.running.values().find(same_target),
            None,
            "two actions on {name}"
        );
        // A task goes alone, and whatever begins comes after those before it.
        let is_task = |target: &Target| matches!(target, Target::Addon { .. } | Target::Backup);
        let mut others = self.running.values();
        let alone = if is_task(&action.target) {
            self.running.is_empty() && self.in_flight.is_empty()
        } else {
            !others.any(|other| is_task(&other.target))
        };
        assert!(alone, "{action} beside {:?}", self.running);
        if !self.aborting {
            let up_to = match &action.target {
                Target::ControlPlane { .. } => Point::BeforeControlPlane,
                Target::Node { pool, .. } if is_held(world, pool) => Point::BeforeWorkers,
                Target::Node { .. } => Point::BeforeControlPlane,
                _ => Point::AfterAll,
            };
            let tasks = world.plan.tasks.iter();
            let before = tasks.take_while(|task| task.at <= up_to && task.target != action.target);
            for task in before {
                assert!(self.tasks_done.contains(task.target.name()), "{action}");
            }
        }
        match &action.target {
            Target::Addon { .. } | Target::Backup => self.task_begins(world, action),
            Target::ControlPlane { .. } => {
                if action.phase == Phase::Upgrade && self.begun.insert(action.id.clone()) {
                    let members = world.plan.control_plane.iter();
                    let left = members.filter(|member| !self.members_done.contains(&member.name));
                    self.ends_in_time(world, left.map(|member| member.length).sum());
                }
                assert!(
                    self.running.is_empty(),
                    "{action} beside {:?}",
                    self.running
                );
            }
            Target::Node { pool, .. } => {
                assert_eq!(self.members_done.len(), world.plan.control_plane.len());
                let before = match action.phase {
                    Phase::Drain => None,
                    Phase::Upgrade => Some(Phase::Drain),
                    Phase::Confirm => Some(Phase::Verify),
                    _ => Some(Phase::Upgrade),
                };
                assert_eq!(self.last_phase.get(name).copied(), before, "{action}");
                if action.phase == Phase::Drain {
                    self.lost.remove(name);
                }
                if action.phase == Phase::Drain && !self.in_flight.contains_key(name) {
                    self.drain_begins(world, pool, name);
                } else if action.phase == Phase::Confirm {
                    let soaked = self.now.since(self.verified_at[name]).as_secs();
                    assert!(soaked >= world.scenario.soak, "{name} after {soaked} s");
                } else if action.phase == Phase::Verify {
                    // One of several that came for one canary.
                    self.soaking.remove(pool);
                    self.in_flight
                        .entry(name.to_owned())
                        .or_insert_with(|| pool.clone());
                }
            }
            _ => unreachable!(),
        }
        self.running.insert(action.id.clone(), action.clone());
    }

    fn task_begins(&mut self, world: &World, action: &Action) {
        let mut tasks = world.plan.tasks.iter();
        let task = tasks.find(|task| task.target == action.target).unwrap();
        let is_first = self.begun.insert(action.id.clone());
        if self.aborting || !is_first || action.phase == Phase::Verify {
            return;
        }
        self.ends_in_time(world, task.length);
        if task.at == Point::BeforeControlPlane {
            assert!(self.members_done.is_empty() && self.last_phase.is_empty());
            return;
        }
        assert_eq!(self.members_done.len(), world.plan.control_plane.len());
        if world.scenario.control_plane_nodes_first {
            assert_eq!(self.control_plane_left(world), [""; 0], "{action}");
        }
        let workers = self
            .last_phase
            .keys()
            .filter(|node| !node.starts_with("control-plane-"));
        if task.at == Point::AfterAll {
            let all = world
                .plan
                .slots
                .iter()
                .filter(|slot| self.well.contains_key(&slot.node));
            let done = |node: &String| {
                let replaced = self.origin.values().any(|old| old == node);
                let phase = self.last_phase.get(node);
                replaced || phase.is_some_and(|phase| *phase >= Phase::Verify)
            };
            assert!(all.clone().all(|slot| done(&slot.node)), "{action}");
        } else if world.scenario.control_plane_nodes_first {
            // A node that came in place of a control-plane node has another name.
            let of_workers = |node: &&String| self.pools[*node] != CONTROL_PLANE_POOL;
            assert_eq!(workers.filter(of_workers).count(), 0, "{action}");
        }
    }

    /// What begins now and lasts for `length` does not leave its window.
    fn ends_in_time(&self, world: &World, length: Duration) {
        let of_day = self.now.as_millis() % 86_400_000;
        let end = of_day + u64::try_from(length.as_millis()).unwrap();
        let window = 9 * 3_600_000..=11 * 3_600_000;
        let is_in = window.contains(&of_day) && window.contains(&end);
        assert!(
            is_in || !world.scenario.windows,
            "{} for {length:?}",
            self.now
        );
    }

    fn drain_begins(&mut self, world: &World, pool: &str, node: &str) {
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
}

/// Whether nodes of `pool` come after all tasks but the last.
fn is_held(world: &World, pool: &str) -> bool {
    pool != CONTROL_PLANE_POOL || !world.scenario.control_plane_nodes_first
}

/// Whether the first node of `pool` goes alone.
fn has_canary(world: &World, pool: &str) -> bool {
    world.scenario.canary && pool != CONTROL_PLANE_POOL
}

fn width(world: &World, pool: &str) -> usize {
    let pool = world.plan.pools.iter().find(|planned| planned.name == pool);
    pool.unwrap().width as usize
}
