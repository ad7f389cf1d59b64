//! What a machine can be asked: who waits on what, who stands where.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use migrate_core::{Moment, Phase};

use super::nodes::READY;
use super::{Gate, Machine, Mode, State, next_phase};

/// Why the next phase of a target has not begun, in ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Obstacle {
    /// This target comes first.
    Before {
        target: u32,
    },
    Budget {
        budget: u32,
        needed: u32,
        free: u32,
    },
    Canary {
        slot: u32,
    },
    /// Of somebody whose pods are on its node.
    Consent,
    ControlPlane {
        member: u32,
    },
    ControlPlaneNode {
        slot: u32,
    },
    /// So many others of its group come before the runner's node.
    HostsRunner {
        left: u32,
    },
    NodeAway {
        pool: u32,
    },
    NotReady,
    /// Pods that were displaced before have not had their time.
    Pace {
        until: Moment,
    },
    Paused,
    PoolSlot {
        pool: u32,
    },
    PreviousPhase {
        running: Phase,
    },
    /// So many more of a stage of the pool's ramp are to be verified.
    Ramp {
        pool: u32,
        left: u32,
    },
    /// Nodes in work leave too little room for its pods.
    Room {
        room: u32,
    },
    /// What is left of the pool's width is kept for failures.
    Reserve {
        pool: u32,
    },
    Retry {
        at: Moment,
        attempt: u8,
    },
    Soak {
        slot: u32,
        until: Moment,
    },
    Start,
    Stopped,
    Window {
        opens: Option<Moment>,
    },
    /// Another zone of the pool is in work.
    Zone {
        pool: u32,
        zone: u32,
    },
}

/// Counts of targets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) done: u32,
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) skipped: u32,
}

impl Machine {
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }

    pub(crate) fn state(&self, target: u32) -> State {
        self.states[target as usize]
    }

    /// Why `target` was skipped.
    pub(crate) fn reason(&self, target: u32) -> Option<&str> {
        self.reasons.get(&target).map(String::as_str)
    }

    /// The node in a slot now.
    pub(crate) fn node_in(&self, slot: u32) -> u32 {
        self.slot_nodes[slot as usize]
    }

    /// Disruptions that `budget` allows at once, ours included.
    pub(crate) fn allowed(&self, budget: u32) -> u32 {
        self.accounts[budget as usize].allowed
    }

    /// How many slots of `pool` may be in work or away.
    pub(crate) fn slots_at_most(&self, pool: u32) -> u32 {
        let surge = self.layout.rules[pool as usize].surge;
        self.layout.widths[pool as usize].saturating_add(surge)
    }

    /// How many of the width of `pool` are kept for failures.
    pub(crate) fn reserve(&self, pool: u32) -> u32 {
        self.layout.rules[pool as usize].reserve
    }

    pub(crate) fn pool_of(&self, slot: u32) -> u32 {
        self.layout.pool_of(slot)
    }

    /// Nodes that count against a pool although no slot of it is in flight there.
    pub(crate) fn away(&self, pool: u32) -> impl Iterator<Item = u32> + '_ {
        let of_pool = move |node: &super::Node| node.pool == pool && node.is_left_away();
        (0..)
            .zip(&self.nodes)
            .filter(move |(_, node)| of_pool(node))
            .map(|(id, _)| id)
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (target, state) in (0..).zip(&self.states) {
            let count = match state {
                State::Done => &mut counts.done,
                State::Skipped | State::Gone => &mut counts.skipped,
                _ if !self.has_begun(target) => &mut counts.waiting,
                _ => &mut counts.running,
            };
            *count += 1;
        }
        counts
    }

    /// Attempts that wait for their time, by target.
    pub(crate) fn retries(&self) -> BTreeMap<u32, Moment> {
        self.timers
            .iter()
            .map(|Reverse((at, target))| (*target, *at))
            .collect()
    }

    /// The next phase of `target` that has not begun, and why it has not;
    /// `None` when all have. `retries` is what [`retries`](Self::retries) says.
    pub(crate) fn obstacle(
        &self,
        target: u32,
        retries: &BTreeMap<u32, Moment>,
    ) -> Option<(Phase, Obstacle)> {
        let slot = self.slot_of(target);
        let task = self.task_of(target);
        let first = self.first_phase(target);
        if let Some(task) = task.filter(|_| self.state(target).is_untouched()) {
            return Some((first, self.task_obstacle(task)?));
        }
        match (self.state(target), slot) {
            (State::Done | State::Skipped | State::Gone, _) => None,
            (State::Running(phase), _) => {
                let next = next_phase(phase)?;
                Some((next, Obstacle::PreviousPhase { running: phase }))
            }
            (State::Backoff(phase), _) => {
                let at = *retries.get(&target)?;
                let attempt = self.attempts[target as usize] + 1;
                Some((phase, Obstacle::Retry { at, attempt }))
            }
            (State::Soaking, _) => Some((Phase::Confirm, self.soak_of(slot?)?)),
            (State::Due(phase) | State::Failed(phase), _) => Some((phase, self.permission()?)),
            (_, None) if target != self.member => Some((
                first,
                Obstacle::ControlPlane {
                    member: self.member,
                },
            )),
            (_, None) => {
                let window = || {
                    self.next_window(None)
                        .map(|opens| Obstacle::Window { opens })
                };
                let task = self.is_task_before_members().then(|| self.comes_first());
                let obstacle = task.flatten().or_else(|| self.permission());
                Some((first, obstacle.or_else(window)?))
            }
            (state, Some(slot)) => Some((first, self.slot_obstacle(slot, state)?)),
        }
    }

    /// The phase that `target` begins with.
    pub(super) fn first_phase(&self, target: u32) -> Phase {
        match (self.slot_of(target), self.task_of(target)) {
            (Some(slot), _) => self.first_phase_of(slot),
            (_, Some(task)) => self.layout.tasks[task as usize].first,
            _ => Phase::Upgrade,
        }
    }

    fn slot_obstacle(&self, slot: u32, state: State) -> Option<Obstacle> {
        let id = self.layout.pool_of(slot);
        let pool = &self.pools[id as usize];
        if state == State::Gated {
            if self.member < self.layout.members {
                let member = self.member;
                return Some(Obstacle::ControlPlane { member });
            }
            if !self.is_open(id) {
                let node = || self.control_plane_node().or_else(|| self.comes_first());
                return self.permission().or_else(node);
            }
            return match pool.gate {
                Gate::Canary(slot) => Some(self.soak_of(slot).unwrap_or(Obstacle::Canary { slot })),
                Gate::Wanted | Gate::Open => None,
            };
        }
        if self.is_task_in_work() {
            return self.comes_first();
        }
        if let Some(runner) = self.runner_in_work(id) {
            let target = self.layout.members + runner;
            return Some(Obstacle::Before { target });
        }
        if self.waits_as_runner(slot) {
            let left = self.others_left(slot);
            return self.permission().or(Some(Obstacle::HostsRunner { left }));
        }
        if !self.may_begin(id) {
            let soaking = self.soaking.keys().next();
            return self
                .control_plane_node()
                .or_else(|| self.soak_of(*soaking?));
        }
        if let Some(opens) = self.next_window(Some(slot)) {
            return self.permission().or(Some(Obstacle::Window { opens }));
        }
        if !self.is_ready(slot) {
            let node = self.slot_nodes[slot as usize];
            return Some(match self.nodes[node as usize].has(READY) {
                true => Obstacle::Consent,
                false => Obstacle::NotReady,
            });
        }
        if self.is_elsewhere(slot) {
            let zone = pool.zone;
            return Some(Obstacle::Zone { pool: id, zone });
        }
        if let Some(need) = self.blocking(slot) {
            if let Some(room) = self.layout.room_of(need.budget) {
                return Some(Obstacle::Room { room });
            }
            let account = self.accounts[need.budget as usize];
            return Some(Obstacle::Budget {
                budget: need.budget,
                needed: account.share(need.pods),
                free: account.free(),
            });
        }
        let pace = || self.paced().map(|until| Obstacle::Pace { until });
        self.no_room(slot)
            .or_else(|| self.permission())
            .or_else(pace)
    }

    /// The soak time of `slot`, if it is in it or being confirmed.
    fn soak_of(&self, slot: u32) -> Option<Obstacle> {
        let until = *self.soaking.get(&slot)?;
        Some(Obstacle::Soak { slot, until })
    }

    /// The control-plane node that the workers wait for.
    pub(super) fn control_plane_node(&self) -> Option<Obstacle> {
        let slots = self.layout.slots_of(self.layout.control_plane?);
        let is_left = |slot: &&u32| {
            let state = self.states[(self.layout.members + **slot) as usize];
            !state.is_over()
        };
        let slot = *slots.iter().find(is_left)?;
        Some(Obstacle::ControlPlaneNode { slot })
    }

    /// What keeps everything from beginning, if anything does.
    pub(super) fn permission(&self) -> Option<Obstacle> {
        match self.mode {
            Mode::Idle => Some(Obstacle::Start),
            Mode::Stopped(_) => Some(Obstacle::Stopped),
            Mode::Running if self.paused => Some(Obstacle::Paused),
            Mode::Running | Mode::Finished => None,
        }
    }
}
