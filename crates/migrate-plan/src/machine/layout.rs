//! What never changes during a rollout, in flat arrays.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use migrate_core::policy::Calendar;
use migrate_core::{OnDeadline, Phase, Point};

use super::queue::NONE;
use crate::intern::{Interned, Share};

/// A slot as the plan gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotSpec {
    /// Position of its node in the model.
    pub(crate) node: u32,
    /// Position of its pool in the plan.
    pub(crate) pool: u32,
    /// First of its pool, alone.
    pub(crate) canary: bool,
    /// The runner's own pod is on its node.
    pub(crate) hosts_runner: bool,
    /// Predicted, where there are windows.
    pub(crate) length: Duration,
    /// Its zone, or [`u32::MAX`] where those of its pool do not matter.
    pub(crate) zone: u32,
}

/// What holds the slots of a pool back besides its width.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolRules {
    /// Ends of the stages of its ramp: so many are verified before one more begins.
    pub(crate) stages: Vec<u32>,
    /// How many of its width are kept for nodes that fail.
    pub(crate) reserve: u32,
    /// How many of its nodes may be behind replacements at once.
    pub(crate) surge: u32,
    /// How long one of these takes until it is Ready, where there are windows.
    pub(crate) provision: Duration,
}

/// A task as the plan gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskSpec {
    pub(crate) at: Point,
    pub(crate) first: Phase,
    /// Predicted, where there are windows.
    pub(crate) length: Duration,
}

/// What a rollout is laid out from.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) calendar: Calendar,
    /// Predicted, where there are windows.
    pub(crate) member_lengths: Vec<Duration>,
    /// The pool that comes before all others, if one does.
    pub(crate) control_plane: Option<u32>,
    /// Control-plane members.
    pub(crate) members: u32,
    /// Slots in priority order.
    pub(crate) slots: Vec<SlotSpec>,
    /// Tasks in their order.
    pub(crate) tasks: Vec<TaskSpec>,
    /// Width of each pool.
    pub(crate) widths: Vec<u32>,
    /// Rules of each pool.
    pub(crate) rules: Vec<PoolRules>,
    /// Pool of each node of the model, [`u32::MAX`] for one that has none.
    pub(crate) node_pools: Vec<u32>,
    /// Ready, and cordoned by somebody, of each node of the model.
    pub(crate) node_states: Vec<(bool, bool)>,
    pub(crate) then: OnDeadline,
    /// How long nothing may move before `then` applies.
    pub(crate) patience: Duration,
    /// How long a verified canary is left alone.
    pub(crate) canary_soak: Duration,
    /// How many slots may be given up.
    pub(crate) max_failed: u32,
    /// How many pods may be displaced in a minute, 0 for any number.
    pub(crate) displaced_per_minute: u32,
    pub(crate) rooms: Vec<RoomSpec>,
}

/// What nodes that are away together may take, but for one alone.
#[derive(Clone, Debug)]
pub(crate) struct RoomSpec {
    pub(crate) spare: u32,
    /// What each node takes, by its position in the model: no node twice. Ascending, so that
    /// those of one size are beside each other.
    pub(crate) offers: Vec<(u32, u32)>,
}

impl RoomSpec {
    /// What a node takes that offers so much: all there is to spare, where it offers more.
    fn amount(&self, offer: u32) -> u32 {
        offer.min(self.spare.max(1))
    }
}

/// One budget that a slot's pods count for, or one room that its node takes of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// The budget; of a room, the number of its account, which follow those of budgets.
    pub(super) budget: u32,
    pub(super) lane: u32,
    /// Pods; of a room, what the node offers.
    pub(super) pods: u32,
}

/// What a node takes of a room while it is away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) room: u32,
    pub(super) amount: u32,
}

/// The fixed part of a machine, shared by its clones.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) calendar: Calendar,
    pub(super) member_lengths: Vec<Duration>,
    pub(super) control_plane: Option<u32>,
    pub(super) members: u32,
    pub(super) slots: Vec<SlotSpec>,
    pub(super) tasks: Vec<TaskSpec>,
    pub(super) widths: Vec<u32>,
    pub(super) rules: Vec<PoolRules>,
    pub(super) then: OnDeadline,
    pub(super) patience: Duration,
    pub(super) canary_soak: Duration,
    pub(super) max_failed: u32,
    pub(super) displaced_per_minute: u32,
    /// How many accounts are those of budgets; those of rooms follow.
    pub(super) budgets: u32,
    /// What each room has to spare.
    pub(super) rooms: Vec<u32>,
    /// By node of the model, which part of `parts` is its own; one longer than the nodes, or empty
    /// where there is no room.
    part_starts: Vec<u32>,
    parts: Vec<Part>,
    /// Pods that the drain of each slot displaces, where they have a pace.
    pub(super) displaced: Vec<u32>,
    /// By slot, which part of `needs` is its own; one longer than the slots.
    need_starts: Vec<u32>,
    needs: Vec<Need>,
    /// How many lanes there are.
    pub(super) lanes: usize,
    /// Slots by pool, in priority order.
    pool_starts: Vec<u32>,
    pool_slots: Vec<u32>,
}

impl Layout {
    pub(super) fn new(spec: &Spec, interned: &Interned<'_>) -> Self {
        let mut layout = Self {
            calendar: spec.calendar.clone(),
            member_lengths: spec.member_lengths.clone(),
            control_plane: spec.control_plane,
            members: spec.members,
            slots: spec.slots.clone(),
            tasks: spec.tasks.clone(),
            widths: (spec.widths.iter().zip(&spec.rules))
                .map(|(width, rules)| (*width).max(u32::from(rules.surge == 0)))
                .collect(),
            rules: spec.rules.clone(),
            then: spec.then,
            patience: spec.patience,
            canary_soak: spec.canary_soak,
            max_failed: spec.max_failed,
            displaced_per_minute: spec.displaced_per_minute,
            budgets: u32::try_from(interned.budgets.len()).unwrap_or(NONE),
            rooms: Vec::new(),
            part_starts: Vec::new(),
            parts: Vec::new(),
            displaced: match spec.displaced_per_minute {
                0 => vec![0; spec.slots.len()],
                _ => {
                    let slots = spec.slots.iter();
                    slots
                        .map(|s| interned.loads[s.node as usize].pods)
                        .collect()
                }
            },
            need_starts: vec![0; spec.slots.len() + 1],
            needs: Vec::new(),
            lanes: 0,
            pool_starts: vec![0; spec.widths.len() + 1],
            pool_slots: vec![0; spec.slots.len()],
        };
        layout.sort_into_pools();
        layout.lay_rooms(spec);
        layout.lay_lanes(spec, interned);
        layout
    }

    fn sort_into_pools(&mut self) {
        for slot in &self.slots {
            self.pool_starts[slot.pool as usize + 1] += 1;
        }
        for pool in 0..self.widths.len() {
            self.pool_starts[pool + 1] += self.pool_starts[pool];
        }
        let mut next = self.pool_starts.clone();
        for (id, slot) in (0..).zip(&self.slots) {
            let place = &mut next[slot.pool as usize];
            self.pool_slots[*place as usize] = id;
            *place += 1;
        }
    }

    /// What each node takes of each room.
    fn lay_rooms(&mut self, spec: &Spec) {
        if spec.rooms.is_empty() {
            return;
        }
        let of_nodes = spec.rooms.iter().flat_map(|room| &room.offers);
        self.part_starts = vec![0; spec.node_pools.len() + 1];
        for (node, _) in of_nodes {
            self.part_starts[*node as usize + 1] += 1;
        }
        for node in 0..spec.node_pools.len() {
            self.part_starts[node + 1] += self.part_starts[node];
        }
        let total = self.part_starts.last().map_or(0, |end| *end as usize);
        self.parts = vec![
            Part {
                room: NONE,
                amount: 0
            };
            total
        ];
        let mut next = self.part_starts.clone();
        for (id, room) in (0..).zip(&spec.rooms) {
            for &(node, offer) in &room.offers {
                let amount = room.amount(offer);
                let place = &mut next[node as usize];
                self.parts[*place as usize] = Part { room: id, amount };
                *place += 1;
            }
            self.rooms.push(room.spare);
        }
    }

    /// What each slot needs, and one lane for every pool and budget that meet, and for every
    /// pool, room and [size] of what nodes take of it.
    ///
    /// [size]: least_of_size
    ///
    /// The budget that most wait for is the likeliest to block, so it comes first in the
    /// rows of its slots, where it is found with the first look and watched by those it
    /// blocks. Of equal ones the first by id. So budgets are put in order once, and each
    /// adds its part to the rows in turn.
    fn lay_lanes(&mut self, spec: &Spec, interned: &Interned<'_>) {
        for (slot, spec) in self.slots.iter().enumerate() {
            let needs = interned.touches(spec.node).len() + self.parts_of(spec.node).len();
            self.need_starts[slot + 1] = u32::try_from(needs).unwrap_or(u32::MAX);
        }
        for slot in 0..self.slots.len() {
            self.need_starts[slot + 1] += self.need_starts[slot];
        }
        let total = self.need_starts.last().map_or(0, |end| *end as usize);
        let nothing = Need {
            budget: NONE,
            lane: NONE,
            pods: 0,
        };
        self.needs = vec![nothing; total];
        let mut slot_of = vec![NONE; interned.loads.len()];
        for (slot, spec) in (0..).zip(&self.slots) {
            slot_of[spec.node as usize] = slot;
        }
        let mut next = self.need_starts.clone();
        // By pool: the last account and size that it has met, and their lane.
        let mut met = vec![((NONE, 0), NONE); self.widths.len()];
        let mut lanes = 0;
        let mut add = |node: u32, budget: u32, size: u32, pods: u32| {
            let slot = slot_of[node as usize];
            let Some(spec) = self.slots.get(slot as usize) else {
                return;
            };
            let (last, lane) = &mut met[spec.pool as usize];
            if std::mem::replace(last, (budget, size)) != (budget, size) {
                *lane = lanes;
                lanes += 1;
            }
            let place = &mut next[slot as usize];
            self.needs[*place as usize] = Need {
                budget,
                lane: *lane,
                pods,
            };
            *place += 1;
        };
        for (_, budget) in pressures(interned, &slot_of) {
            for &Share { node, pods } in interned.shares_of(budget as usize) {
                add(node, budget, 0, pods);
            }
        }
        for (account, room) in (self.budgets..).zip(&spec.rooms) {
            for &(node, offer) in &room.offers {
                let amount = room.amount(offer);
                add(node, account, least_of_size(amount), amount);
            }
        }
        self.lanes = lanes as usize;
    }

    /// What a node of the model takes of rooms while it is away.
    pub(super) fn parts_of(&self, node: u32) -> &[Part] {
        let node = node as usize;
        match self.part_starts.get(node..node + 2) {
            Some(&[from, to]) => &self.parts[from as usize..to as usize],
            _ => &[],
        }
    }

    /// The room whose account it is.
    pub(super) fn room_of(&self, account: u32) -> Option<u32> {
        account.checked_sub(self.budgets)
    }

    pub(super) fn pool_of(&self, slot: u32) -> u32 {
        self.slots[slot as usize].pool
    }

    /// Whether `slot` is one of those that come before all other slots.
    pub(super) fn is_control_plane(&self, slot: u32) -> bool {
        self.control_plane == Some(self.pool_of(slot))
    }

    pub(super) fn slots_of(&self, pool: u32) -> &[u32] {
        let pool = pool as usize;
        &self.pool_slots[self.pool_starts[pool] as usize..self.pool_starts[pool + 1] as usize]
    }

    /// Positions of a slot's needs; the amounts taken have the same positions.
    pub(super) fn need_range(&self, slot: u32) -> Range<usize> {
        let slot = slot as usize;
        self.need_starts[slot] as usize..self.need_starts[slot + 1] as usize
    }

    /// The need at one of these positions.
    pub(super) fn need(&self, at: usize) -> Need {
        self.needs[at]
    }

    pub(super) fn needs(&self, slot: u32) -> &[Need] {
        &self.needs[self.need_range(slot)]
    }

    pub(super) fn needs_len(&self) -> usize {
        self.needs.len()
    }
}

/// The least amount of the size of `amount`, which is within an eighth of it: nodes that wait for
/// room are looked at by their size, lest those that are too large be in the way of others.
pub(super) fn least_of_size(amount: u32) -> u32 {
    let bits = u32::BITS - amount.leading_zeros();
    let rest = bits.saturating_sub(4);
    amount >> rest << rest
}

/// Budgets that the slots' nodes have pods of, the most wanted first: these pods over what
/// the budget allows, in thousandths.
fn pressures(interned: &Interned<'_>, slot_of: &[u32]) -> Vec<(Reverse<u64>, u32)> {
    let pressures = interned
        .shares()
        .zip(0..)
        .filter_map(|((budget, shares), id)| {
            let shares = shares.iter();
            let wanted = shares.filter(|share| slot_of[share.node as usize] != NONE);
            let pods: u64 = wanted.map(|share| u64::from(share.pods)).sum();
            let pressure = 1000 * pods / u64::from(budget.steady.max(1));
            (pods > 0).then_some((Reverse(pressure), id))
        });
    let mut pressures: Vec<_> = pressures.collect();
    pressures.sort_unstable();
    pressures
}
