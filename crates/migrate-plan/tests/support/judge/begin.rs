//! What may begin: order, alone or beside others, after what came before.

use std::time::Duration;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{Action, Phase, Point, Target};
use migrate_plan::Command;

use super::super::world::World;
use super::Judge;

impl Judge {
    pub(super) fn commanded(&mut self, world: &World, command: &Command) {
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
                } else {
                    assert!(self.in_flight.contains_key(name), "{action}");
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
            let tasks = world.plan.tasks.iter();
            let left = tasks.filter(|of| of.at == task.at);
            let left = left.filter(|of| !self.tasks_done.contains(of.target.name()));
            let members = world.plan.control_plane.iter();
            let lengths = left.map(|of| of.length).chain(members.map(|of| of.length));
            self.ends_in_time(world, lengths.sum());
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
    pub(super) fn ends_in_time(&self, world: &World, length: Duration) {
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
}

/// Whether nodes of `pool` come after all tasks but the last.
pub(super) fn is_held(world: &World, pool: &str) -> bool {
    pool != CONTROL_PLANE_POOL || !world.scenario.control_plane_nodes_first
}
