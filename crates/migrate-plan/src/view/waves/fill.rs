//! Which node is in which wave.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::policy::{CONTROL_PLANE_POOL, ZonePolicy};
use migrate_core::{ClusterModel, Phase, Plan, PlannedRoom, Policy};
use rustc_hash::FxHashMap;

use super::super::rows::Row;
use crate::intern::{Interned, Touch};

/// A wave of workers while it fills.
#[derive(Default)]
struct Open<'r, 'p> {
    rows: Vec<&'r Row<'p>>,
    /// By budget what is taken, by room what is, by pool how many it takes away.
    taken: FxHashMap<u32, u32>,
    in_rooms: BTreeMap<usize, u64>,
    /// Of what is taken of rooms, what was so before.
    was_in_rooms: BTreeMap<usize, u64>,
    away: BTreeMap<&'r str, u32>,
    /// By pool how many of it go behind replacements.
    replaced: BTreeMap<&'r str, u32>,
    /// By pool how many of it were away before.
    back: BTreeMap<&'r str, u32>,
    /// By pool the zone that is in work, where zones matter.
    zones: BTreeMap<&'r str, &'r str>,
}

/// A pool's rules.
#[derive(Clone, Copy)]
struct Pool<'w> {
    width: u32,
    /// How many may be behind replacements.
    surge: u32,
    /// How many of the width are kept for failures.
    reserve: u32,
    stages: &'w [u32],
}

/// A pool on its ramp: which stage its next node is in.
struct Climb<'w> {
    stages: std::slice::Iter<'w, u32>,
    /// Nodes that the stage still takes.
    left: u32,
    /// The first wave of the stage, and the first after all waves of it.
    first: usize,
    next: usize,
}

/// Nodes by name, what they touch, and what is away.
pub(super) struct World<'w> {
    interned: Interned<'w>,
    ids: FxHashMap<&'w str, u32>,
    pools: BTreeMap<&'w str, Pool<'w>>,
    /// By pool, away for good: in no schedule.
    lost: BTreeMap<&'w str, u32>,
    was_away: BTreeSet<&'w str>,
    /// By node of a worker, where zones go one at a time.
    zones: FxHashMap<&'w str, &'w str>,
    rooms: &'w [PlannedRoom],
    /// By room: what of it is taken by nodes that are away for good.
    missing: Vec<u64>,
}

impl<'w> World<'w> {
    pub(super) fn new(
        plan: &'w Plan,
        model: &'w ClusterModel,
        policy: &'w Policy,
        begun: &[&Row<'_>],
    ) -> Self {
        // The runner's node goes when all of these have gone.
        let slots = begun.iter().filter_map(|row| row.slot);
        let slots = slots.filter(|slot| !slot.hosts_runner);
        let begun: BTreeSet<&str> = slots.map(|slot| slot.node.as_str()).collect();
        let mut lost: BTreeMap<&str, u32> = BTreeMap::new();
        let mut was_away = BTreeSet::new();
        for node in &model.nodes {
            if node.ready && !node.unschedulable {
                continue;
            }
            was_away.insert(node.name.as_str());
            if !begun.contains(node.name.as_str()) {
                *lost.entry(policy.pools.pool_of(node)).or_default() += 1;
            }
        }
        let pools = plan.pools.iter().map(|pool| {
            let rules = Pool {
                width: pool.width,
                surge: pool.surge,
                reserve: policy.pools.reserve(&pool.name, pool.nodes),
                stages: policy.pools.stages(&pool.name),
            };
            (pool.name.as_str(), rules)
        });
        let zones = match policy.pools.zones {
            ZonePolicy::OneAtATime => model.nodes.as_slice(),
            _ => &[],
        };
        let zones = zones.iter().filter_map(|node| {
            let matters = policy.pools.pool_of(node) != CONTROL_PLANE_POOL;
            matters.then(|| (node.name.as_str(), node.zone().unwrap_or_default()))
        });
        let names = model.nodes.iter().map(|node| node.name.as_str());
        let missing = |room: &PlannedRoom| {
            let lost = was_away.iter().filter(|node| !begun.contains(*node));
            lost.filter_map(|node| room.offers.get(*node))
                .fold(0, |sum: u64, offer| sum.saturating_add(*offer))
        };
        let missing = plan.rooms.iter().map(missing).collect();
        Self {
            rooms: &plan.rooms,
            missing,
            interned: Interned::new(model, policy),
            ids: names.zip(0..).collect(),
            pools: pools.collect(),
            lost,
            was_away,
            zones: zones.collect(),
        }
    }

    /// Whether the node of `row` was away before.
    pub(super) fn was_away(&self, row: &Row<'_>) -> bool {
        row.slot
            .is_some_and(|slot| self.was_away.contains(slot.node.as_str()))
    }

    /// Pods that the drain of `row` displaces.
    pub(super) fn displaced(&self, row: &Row<'_>) -> u32 {
        let id = row.slot.and_then(|slot| self.ids.get(slot.node.as_str()));
        id.map_or(0, |id| self.interned.loads[*id as usize].pods)
    }

    /// Canaries in waves: they come before any stage.
    pub(super) fn fill_with_canaries<'r, 'p>(
        &'r self,
        rows: Vec<&'r Row<'p>>,
    ) -> Vec<Vec<&'r Row<'p>>> {
        self.fill_by(rows, |_| &[])
    }

    /// `rows` in waves, each in the first that has room.
    pub(super) fn fill<'r, 'p>(&'r self, rows: Vec<&'r Row<'p>>) -> Vec<Vec<&'r Row<'p>>> {
        self.fill_by(rows, |pool| pool.stages)
    }

    /// Nodes that are away already go first: they take no room, but what they had is
    /// free only then.
    fn fill_by<'r, 'p>(
        &'r self,
        rows: Vec<&'r Row<'p>>,
        stages: impl Fn(&Pool<'r>) -> &'r [u32],
    ) -> Vec<Vec<&'r Row<'p>>> {
        // Behind replacements they go like others.
        let (away, others): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|row| self.was_away(row) && !is_replaced(row));
        let mut waves: Vec<Open<'r, 'p>> = Vec::new();
        let mut still_away: BTreeMap<&str, u32> = BTreeMap::new();
        for row in others.iter().filter(|row| self.was_away(row)) {
            *still_away
                .entry(row.pool().unwrap_or_default())
                .or_default() += 1;
        }
        let climbs = self
            .pools
            .iter()
            .map(|(name, pool)| (*name, Climb::new(stages(pool))));
        let mut climbs: BTreeMap<&str, Climb<'_>> = climbs.collect();
        for row in away {
            let pool = row.pool().unwrap_or_default();
            *still_away.entry(pool).or_default() += 1;
            let climb = climbs.get_mut(pool);
            let first = climb.map_or(0, |climb| climb.step());
            let at = self.place(row, &mut waves, first, |_, _| true);
            if let Some(climb) = climbs.get_mut(pool) {
                climb.placed(at);
            }
        }
        // Of each pool the first wave that still has room for it.
        let mut first: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        for row in others {
            let pool = row.pool().unwrap_or_default();
            let rules = self.pools.get(pool);
            let (width, reserve) = rules.map_or((1, 0), |rules| (rules.width, rules.reserve));
            let surge = rules.map_or(0, |rules| rules.surge);
            let is_behind = is_replaced(row);
            let lost = self.lost.get(pool).copied().unwrap_or(0);
            let total = still_away.get(pool).copied().unwrap_or(0);
            let has_room = |waves: &[Open<'_, '_>], at: usize| {
                if is_behind {
                    let behind = waves.get(at).and_then(|wave| wave.replaced.get(pool));
                    return behind.copied().unwrap_or(0) < surge.max(1);
                }
                let back = waves.iter().take(at).filter_map(|wave| wave.back.get(pool));
                let away = total.saturating_sub(back.sum());
                let here = waves.get(at).and_then(|wave| wave.away.get(pool));
                let here = here.copied().unwrap_or(0);
                // One goes in any case where nothing else would ever.
                here.saturating_add(reserve.max(away.saturating_add(lost))) < width
                    || (here == 0 && at >= waves.len())
            };
            let from = first.entry((pool, is_behind)).or_default();
            if let Some(climb) = climbs.get_mut(pool) {
                *from = (*from).max(climb.step());
            }
            while *from < waves.len() && !has_room(&waves, *from) {
                *from += 1;
            }
            let at = self.place(row, &mut waves, *from, has_room);
            if let Some(climb) = climbs.get_mut(pool) {
                climb.placed(at);
            }
        }
        let filled = waves.into_iter().map(|mut wave| {
            wave.rows.sort_by_key(|row| row.start());
            wave.rows
        });
        // A stage may begin after waves that nothing else fills.
        filled.filter(|rows| !rows.is_empty()).collect()
    }

    /// Puts `row` into the first wave from `from` on that has room for it, and tells
    /// which that is.
    fn place<'r, 'p>(
        &'r self,
        row: &'r Row<'p>,
        waves: &mut Vec<Open<'r, 'p>>,
        from: usize,
        has_room: impl Fn(&[Open<'_, '_>], usize) -> bool,
    ) -> usize {
        let node = row.slot.map(|slot| slot.node.as_str()).unwrap_or_default();
        let touches = match self.ids.get(node) {
            Some(&id) => self.interned.touches(id),
            None => &[],
        };
        let share = |touch: &Touch| {
            let budget = &self.interned.budgets[touch.budget as usize];
            let allowed = budget.steady.max(budget.allowed).max(1);
            (touch.pods.min(allowed), allowed)
        };
        let pool = row.pool().unwrap_or_default();
        let zone = self.zones.get(node).copied();
        let is_open = |wave: &Open<'_, '_>| {
            let in_work = wave.zones.get(pool).copied();
            in_work.is_none() || in_work == zone
        };
        let gives = |wave: &Open<'_, '_>| {
            touches.iter().all(|touch| {
                let (share, allowed) = share(touch);
                let taken = wave.taken.get(&touch.budget).copied().unwrap_or(0);
                taken.saturating_add(share) <= allowed
            })
        };
        let (replaced, was_away) = (is_replaced(row), self.was_away.contains(node));
        let offers = self.rooms.iter().enumerate().filter_map(|(id, room)| {
            let offer = room.offers.get(node).filter(|_| !replaced)?;
            Some((id, room.spare, (*offer).min(room.spare.max(1))))
        });
        let offers: Vec<(usize, u64, u64)> = offers.collect();
        // What was away before is so until its wave is done. One goes alone in any case.
        let leaves_room = |waves: &[Open<'_, '_>], at: usize| {
            offers.iter().all(|(id, spare, offer)| {
                let later = waves[at + 1..].iter();
                let later = later.filter_map(|wave| wave.was_in_rooms.get(id));
                let others = later.chain([&self.missing[*id], offer]);
                let others = others.fold(0, |sum: u64, offer| sum.saturating_add(*offer));
                let taken = waves[at].in_rooms.get(id);
                was_away || taken.is_none_or(|taken| taken.saturating_add(others) <= *spare)
            })
        };
        let mut at = from;
        let fits = |waves: &[Open<'_, '_>], at: usize| {
            let wave = &waves[at];
            has_room(waves, at) && is_open(wave) && gives(wave) && leaves_room(waves, at)
        };
        while at < waves.len() && !fits(waves, at) {
            at += 1;
        }
        while waves.len() <= at {
            waves.push(Open::default());
        }
        let wave = &mut waves[at];
        for touch in touches {
            *wave.taken.entry(touch.budget).or_default() += share(touch).0;
        }
        for (id, _, offer) in offers {
            let taken = [
                Some(&mut wave.in_rooms),
                was_away.then_some(&mut wave.was_in_rooms),
            ];
            for taken in taken.into_iter().flatten() {
                let taken = taken.entry(id).or_default();
                *taken = taken.saturating_add(offer);
            }
        }
        if let Some(zone) = zone {
            wave.zones.insert(pool, zone);
        }
        let counted = [
            (replaced, &mut wave.replaced),
            (was_away, &mut wave.back),
            (!replaced && !was_away, &mut wave.away),
        ];
        for (_, of_pool) in counted.into_iter().filter(|(counts, _)| *counts) {
            *of_pool.entry(pool).or_default() += 1;
        }
        wave.rows.push(row);
        at
    }
}

/// Whether its node goes behind a replacement.
pub(super) fn is_replaced(row: &Row<'_>) -> bool {
    row.action(Phase::Provision).is_some()
}

impl<'w> Climb<'w> {
    fn new(stages: &'w [u32]) -> Self {
        Self {
            stages: stages.iter(),
            left: 0,
            first: 0,
            next: 0,
        }
    }

    /// The first wave that one more node may be in.
    fn step(&mut self) -> usize {
        if self.left == 0 {
            self.left = self.stages.next().copied().unwrap_or(u32::MAX);
            self.first = self.next;
        }
        self.left -= 1;
        self.first
    }

    /// It went into wave `at`.
    fn placed(&mut self, at: usize) {
        self.next = self.next.max(at + 1);
    }
}
