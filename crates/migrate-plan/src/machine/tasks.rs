//! Tasks: what is done between members and nodes, each alone, at its point.

use std::time::Duration;

use migrate_core::Point;

use super::{Machine, Obstacle, Stage, State};

/// Why a task after all others was left out.
const NOT_ALL: &str = "a node was left out";

impl Machine {
    /// Begins what is due at points up to `point`, one task at a time, each to
    /// the end of its last phase. Tells whether none is left there.
    pub(super) fn dispatch_tasks(&mut self, point: Point) -> bool {
        while let Some(task) = self.current_task().filter(|task| task.at <= point) {
            let target = self.task_target(self.task);
            let state = self.states[target as usize];
            match state {
                State::Gated if self.task_fits() => self.begin(target, task.first),
                State::Due(phase) => self.begin(target, phase),
                state if state.is_over() => {
                    self.task += 1;
                    continue;
                }
                _ => {}
            }
            return false;
        }
        true
    }

    /// Tasks after all nodes: only if all of them are at the target.
    pub(super) fn dispatch_last_tasks(&mut self) {
        let is_over = self.stage == Stage::Workers && self.remaining == self.tasks_left;
        if !is_over || self.tasks_left == 0 {
            return;
        }
        let left_out = |slot| self.states[(self.layout.members + slot) as usize] == State::Skipped;
        if (0..self.slots()).any(left_out) {
            for task in self.task..self.tasks() {
                let target = self.task_target(task);
                if self.states[target as usize] == State::Gated {
                    self.reasons.insert(target, NOT_ALL.to_owned());
                    self.set(target, State::Skipped);
                }
            }
        }
        self.dispatch_tasks(Point::AfterAll);
    }

    /// Whether a task is under way, so that nothing else begins.
    pub(super) fn is_task_in_work(&self) -> bool {
        self.task < self.tasks() && self.states[self.task_target(self.task) as usize].is_busy()
    }

    /// What a task that has not begun waits on.
    pub(super) fn task_obstacle(&self, task: u32) -> Option<Obstacle> {
        let at = self.layout.tasks[task as usize].at;
        if at > Point::BeforeControlPlane {
            if self.member < self.layout.members {
                let member = self.member;
                return Some(Obstacle::ControlPlane { member });
            }
            if let Some(node) = self.control_plane_node() {
                return Some(node);
            }
        }
        if task > self.task {
            return self.comes_first();
        }
        let is_left = |slot: &u32| !self.states[(self.layout.members + slot) as usize].is_over();
        if at == Point::AfterAll
            && let Some(slot) = (0..self.slots()).find(is_left)
        {
            let target = self.layout.members + slot;
            return Some(Obstacle::Before { target });
        }
        let window = || {
            let opens = self.window_for(self.task_length())?;
            Some(Obstacle::Window { opens })
        };
        self.permission().or_else(window)
    }

    /// The task that comes next, for whoever waits for it.
    pub(super) fn comes_first(&self) -> Option<Obstacle> {
        let target = self.task_target(self.task);
        (self.task < self.tasks()).then_some(Obstacle::Before { target })
    }

    /// Whether the next task comes before all members.
    pub(super) fn is_task_before_members(&self) -> bool {
        self.current_task()
            .is_some_and(|task| task.at == Point::BeforeControlPlane)
    }

    fn current_task(&self) -> Option<super::TaskSpec> {
        self.layout.tasks.get(self.task as usize).copied()
    }

    fn task_target(&self, task: u32) -> u32 {
        self.layout.members + self.slots() + task
    }

    pub(super) fn tasks(&self) -> u32 {
        u32::try_from(self.layout.tasks.len()).unwrap_or(u32::MAX)
    }

    /// The task of `target`, if it is one.
    pub(crate) fn task_of(&self, target: u32) -> Option<u32> {
        target.checked_sub(self.layout.members + self.slots())
    }

    /// What is predicted for the next task. What comes before the control plane
    /// does not begin unless that can follow.
    pub(super) fn task_length(&self) -> Duration {
        let tasks = self.layout.tasks.iter().skip(self.task as usize);
        if !self.is_task_before_members() {
            return tasks.take(1).map(|task| task.length).sum();
        }
        let before = tasks.take_while(|task| task.at == Point::BeforeControlPlane);
        before.fold(self.members_length(), |sum, task| {
            sum.saturating_add(task.length)
        })
    }

    fn task_fits(&mut self) -> bool {
        let length = self.task_length();
        self.fits_alone(length)
    }
}
