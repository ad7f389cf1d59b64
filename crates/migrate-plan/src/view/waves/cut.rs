//! Which node is in which wave, and when each begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::policy::{CONTROL_PLANE_POOL, Calendar};
use migrate_core::{ClusterModel, Moment, Phase, Plan, PlannedTask, Point, Policy, Target};
use rustc_hash::FxHashMap;

use super::super::rows::{Row, rows};
use super::{Gate, Wave, Waves};
use crate::intern::Interned;

/// Waves as they are laid one after the other.
struct Laid {
    waves: Vec<Wave>,
    at: Duration,
    calendar: Calendar,
    start: Moment,
}

/// A wave of workers while it fills.
#[derive(Default)]
struct Open<'r, 'p> {
    rows: Vec<&'r Row<'p>>,
    /// By budget what is taken, by pool how many it takes away.
    taken: FxHashMap<u32, u32>,
    away: BTreeMap<&'r str, u32>,
    /// By pool how many of it were away before.
    back: BTreeMap<&'r str, u32>,
}

/// Nodes by name, what they touch, and what is away.
struct World<'w> {
    interned: Interned<'w>,
    ids: FxHashMap<&'w str, u32>,
    widths: BTreeMap<&'w str, u32>,
    /// By pool, away for good: in no schedule.
    lost: BTreeMap<&'w str, u32>,
    was_away: BTreeSet<&'w str>,
}

pub(super) fn cut(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Waves {
    let all = rows(plan);
    let begun: Vec<&Row<'_>> = all.iter().filter(|row| !row.actions.is_empty()).collect();
    let world = World::new(plan, model, policy, &begun);
    let mut laid = Laid {
        waves: Vec::new(),
        at: Duration::ZERO,
        calendar: policy.rollout.calendar(),
        start: model.taken_at,
    };
    let nodes_first = policy.rollout.control_plane_nodes_first;
    let is_first = |row: &Row<'_>| nodes_first && row.pool() == Some(CONTROL_PLANE_POOL);
    let is_member = |row: &Row<'_>| matches!(row.target, Target::ControlPlane { .. });
    let all_of = |is: &dyn Fn(&Row<'_>) -> bool| {
        let of = begun.iter().copied().filter(|row| is(row));
        of.collect::<Vec<_>>()
    };
    let tasks = |laid: &mut Laid, at: Point| {
        let planned = |row: &Row<'_>| {
            let is_it = |task: &&PlannedTask| task.target == row.target;
            plan.tasks.iter().find(is_it).map(|task| task.at)
        };
        for row in all_of(&|row| planned(row) == Some(at)) {
            laid.lay(&[row], Duration::ZERO, |_| Gate::Done);
        }
    };
    tasks(&mut laid, Point::BeforeControlPlane);
    let members = all_of(&is_member);
    let lengths = members.iter().map(|row| length(row));
    let mut left: Duration = lengths.fold(Duration::ZERO, Duration::saturating_add);
    for member in members {
        laid.lay(&[member], left, |_| Gate::Settled);
        left = left.saturating_sub(length(member));
    }
    for node in all_of(&is_first) {
        laid.lay(&[node], Duration::ZERO, |_| Gate::Settled);
    }
    tasks(&mut laid, Point::AfterControlPlane);
    tasks(&mut laid, Point::BeforeWorkers);
    let mut workers = all_of(&|row| row.slot.is_some() && !is_first(row));
    let is_runner = |row: &Row<'_>| row.slot.is_some_and(|slot| slot.hosts_runner);
    let runner: Vec<_> = workers
        .iter()
        .copied()
        .filter(|row| is_runner(row))
        .collect();
    workers.retain(|row| !is_runner(row));
    let mut canaries = Vec::new();
    if policy.pools.canary {
        let mut pools = BTreeSet::new();
        let (first, others) = workers.into_iter().partition(|row: &&Row<'_>| {
            let pool = row.pool().filter(|pool| *pool != CONTROL_PLANE_POOL);
            pool.is_some_and(|pool| pools.insert(pool.to_owned()))
        });
        (canaries, workers) = (first, others);
    }
    for wave in world.fill(canaries) {
        laid.lay_nodes(&wave);
    }
    for wave in world.fill(workers) {
        laid.lay_nodes(&wave);
    }
    for node in runner {
        laid.lay_nodes(&[node]);
    }
    tasks(&mut laid, Point::AfterAll);
    Waves {
        barrier: laid.at,
        sliding: plan.makespan(),
        waves: laid.waves,
    }
}

fn length(row: &Row<'_>) -> Duration {
    let work = row.work();
    work.map_or(Duration::ZERO, |(start, end)| end.saturating_sub(start))
}

impl Laid {
    /// One more wave, when so much is left of a window as the longest of `rows`
    /// takes, and `least`.
    fn lay(&mut self, rows: &[&Row<'_>], least: Duration, gate: impl FnOnce(Duration) -> Gate) {
        let longest = rows.iter().map(|row| length(row)).max();
        let longest = longest.unwrap_or_default();
        let start = self.opening(longest.max(least));
        let end = start.saturating_add(longest);
        self.waves.push(Wave {
            number: u32::try_from(self.waves.len() + 1).unwrap_or(u32::MAX),
            start,
            end,
            targets: rows.iter().map(|row| row.target.clone()).collect(),
            gate: gate(end),
        });
        self.at = end;
    }

    /// Nodes, and the soak of those that are left alone after it, verification at
    /// its end included, each from its own end on.
    fn lay_nodes(&mut self, rows: &[&Row<'_>]) {
        let soaks = rows.iter().filter_map(|row| {
            let confirm = row.action(Phase::Confirm)?;
            Some(confirm.end.saturating_sub(row.work()?.1))
        });
        let Some(soak) = soaks.max() else {
            return self.lay(rows, Duration::ZERO, |_| Gate::Verified);
        };
        self.lay(rows, Duration::ZERO, |end| Gate::Soaked {
            until: end.saturating_add(soak),
        });
        self.at = self.at.saturating_add(soak);
    }

    /// The first time with `length` left of its window; at once if none ever has.
    fn opening(&self, length: Duration) -> Duration {
        let mut at = self.start + self.at;
        while let Some(opening) = self.calendar.opening(at) {
            if opening.length() >= length {
                return opening.from.since(self.start);
            }
            at = opening.until;
        }
        self.at
    }
}

impl<'w> World<'w> {
    fn new(
        plan: &'w Plan,
        model: &'w ClusterModel,
        policy: &'w Policy,
        begun: &[&Row<'_>],
    ) -> Self {
        let slots = begun.iter().filter_map(|row| row.slot);
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
        let pools = plan.pools.iter();
        let names = model.nodes.iter().map(|node| node.name.as_str());
        Self {
            interned: Interned::new(model, policy),
            ids: names.zip(0..).collect(),
            widths: pools.map(|pool| (pool.name.as_str(), pool.width)).collect(),
            lost,
            was_away,
        }
    }

    /// `rows` in waves, each in the first that has room. Nodes that are away
    /// already go first: they take no room, but what they had is free only then.
    fn fill<'r, 'p>(&self, rows: Vec<&'r Row<'p>>) -> Vec<Vec<&'r Row<'p>>> {
        let is_away = |row: &&Row<'_>| {
            let slot = row.slot;
            slot.is_some_and(|slot| self.was_away.contains(slot.node.as_str()))
        };
        let (away, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_away);
        let mut waves: Vec<Open<'r, 'p>> = Vec::new();
        let mut still_away: BTreeMap<&str, u32> = BTreeMap::new();
        for row in &away {
            *still_away
                .entry(row.pool().unwrap_or_default())
                .or_default() += 1;
        }
        for row in away {
            self.place(row, &mut waves, 0, |_, _| true);
        }
        // Of each pool the first wave that still has room for it.
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for row in others {
            let pool = row.pool().unwrap_or_default();
            let width = self.widths.get(pool).copied().unwrap_or(1);
            let lost = self.lost.get(pool).copied().unwrap_or(0);
            let total = still_away.get(pool).copied().unwrap_or(0);
            let has_room = |waves: &[Open<'_, '_>], at: usize| {
                let back = waves.iter().take(at).filter_map(|wave| wave.back.get(pool));
                let away = total.saturating_sub(back.sum());
                let here = waves.get(at).and_then(|wave| wave.away.get(pool));
                let here = here.copied().unwrap_or(0);
                // One goes in any case where nothing else would ever.
                here + away + lost < width || (here == 0 && at >= waves.len())
            };
            let from = first.entry(pool).or_default();
            while *from < waves.len() && !has_room(&waves, *from) {
                *from += 1;
            }
            self.place(row, &mut waves, *from, has_room);
        }
        let filled = waves.into_iter().map(|mut wave| {
            wave.rows.sort_by_key(|row| row.start());
            wave.rows
        });
        filled.collect()
    }

    fn place<'r, 'p>(
        &self,
        row: &'r Row<'p>,
        waves: &mut Vec<Open<'r, 'p>>,
        from: usize,
        has_room: impl Fn(&[Open<'_, '_>], usize) -> bool,
    ) {
        let node = row.slot.map(|slot| slot.node.as_str()).unwrap_or_default();
        let touches = match self.ids.get(node) {
            Some(&id) => self.interned.touches(id),
            None => &[],
        };
        let share = |touch: &crate::intern::Touch| {
            let budget = &self.interned.budgets[touch.budget as usize];
            let allowed = budget.steady.max(budget.allowed).max(1);
            (touch.pods.min(allowed), allowed)
        };
        let gives = |wave: &Open<'_, '_>| {
            touches.iter().all(|touch| {
                let (share, allowed) = share(touch);
                let taken = wave.taken.get(&touch.budget).copied().unwrap_or(0);
                taken.saturating_add(share) <= allowed
            })
        };
        let mut at = from;
        while at < waves.len() && !(has_room(waves, at) && gives(&waves[at])) {
            at += 1;
        }
        if at == waves.len() {
            waves.push(Open::default());
        }
        let wave = &mut waves[at];
        for touch in touches {
            *wave.taken.entry(touch.budget).or_default() += share(touch).0;
        }
        let pool = row.pool().unwrap_or_default();
        let of_pool = match self.was_away.contains(node) {
            true => &mut wave.back,
            false => &mut wave.away,
        };
        *of_pool.entry(pool).or_default() += 1;
        wave.rows.push(row);
    }
}
