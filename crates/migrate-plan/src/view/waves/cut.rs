//! The waves of a plan one after the other, and when each begins.

use std::collections::BTreeSet;
use std::time::Duration;

use migrate_core::policy::{CONTROL_PLANE_POOL, Calendar, LongestAhead};
use migrate_core::{ClusterModel, Moment, Phase, Plan, PlannedTask, Point, Policy, Target};

use super::super::rows::{Row, rows};
use super::fill::World;
use super::{Gate, Wave, Waves};
use crate::machine::time_of;

/// Waves as they are laid one after the other.
struct Laid<'w> {
    waves: Vec<Wave>,
    at: Duration,
    calendar: Calendar,
    ahead: LongestAhead,
    start: Moment,
    world: &'w World<'w>,
    /// Pods that may be displaced in a minute, 0 for any number.
    rate: u32,
    /// Pods displaced so far have had their time then.
    paced_until: Duration,
}

pub(super) fn cut(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Waves {
    let all = rows(plan);
    let begun: Vec<&Row<'_>> = all.iter().filter(|row| !row.actions.is_empty()).collect();
    let world = World::new(plan, model, policy, &begun);
    let mut laid = Laid {
        waves: Vec::new(),
        at: Duration::ZERO,
        calendar: policy.rollout.calendar(),
        ahead: LongestAhead::new(),
        start: model.taken_at,
        world: &world,
        rate: policy.rollout.displaced_per_minute,
        paced_until: Duration::ZERO,
    };
    let nodes_first = policy.rollout.control_plane_nodes_first;
    let is_first = |row: &Row<'_>| nodes_first && row.pool() == Some(CONTROL_PLANE_POOL);
    let is_member = |row: &Row<'_>| matches!(row.target, Target::ControlPlane { .. });
    let all_of = |is: &dyn Fn(&Row<'_>) -> bool| {
        let of = begun.iter().copied().filter(|row| is(row));
        of.collect::<Vec<_>>()
    };
    let planned = |row: &Row<'_>| {
        let is_it = |task: &&PlannedTask| task.target == row.target;
        plan.tasks.iter().find(is_it)
    };
    let tasks_at = |at: Point| all_of(&|row| planned(row).is_some_and(|task| task.at == at));
    let tasks = |laid: &mut Laid<'_>, at: Point| {
        for row in tasks_at(at) {
            let least = planned(row).map_or(Duration::ZERO, |task| task.length);
            laid.lay(&[row], least, |_| Gate::Done);
        }
    };
    // One of these begins only if all that are left can follow.
    let mut in_a_row = tasks_at(Point::BeforeControlPlane);
    in_a_row.extend(all_of(&is_member));
    let mut left = Vec::with_capacity(in_a_row.len());
    let (mut lengths, mut spans) = (Duration::ZERO, Duration::ZERO);
    for row in in_a_row.iter().rev() {
        let planned_length = match &row.target {
            Target::ControlPlane { member } => {
                let mut members = plan.control_plane.iter();
                members.find(|it| it.name == *member).map(|it| it.length)
            }
            _ => planned(row).map(|task| task.length),
        };
        lengths = lengths.saturating_add(planned_length.unwrap_or_default());
        spans = spans.saturating_add(length(row));
        left.push(lengths.max(spans));
    }
    left.reverse();
    for (row, left) in in_a_row.into_iter().zip(left) {
        laid.lay(&[row], left, |_| match row.target {
            Target::ControlPlane { .. } => Gate::Settled,
            _ => Gate::Done,
        });
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
    for wave in world.fill_with_canaries(canaries) {
        laid.lay_nodes(wave);
    }
    for wave in world.fill(workers) {
        laid.lay_nodes(wave);
    }
    for node in runner {
        laid.lay_nodes(vec![node]);
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

/// What has to be left of a window for `row`, as far as that is told for it alone.
fn needs(row: &Row<'_>) -> Duration {
    let planned = row.slot.map_or(Duration::ZERO, |slot| slot.length);
    length(row).max(planned)
}

/// The greatest of what `of` says of rows, each from where it begins.
fn longest(rows: &[&Row<'_>], offsets: &[Duration], of: impl Fn(&Row<'_>) -> Duration) -> Duration {
    let ends = rows.iter().zip(offsets);
    let ends = ends.map(|(row, offset)| offset.saturating_add(of(row)));
    ends.max().unwrap_or_default()
}

impl Laid<'_> {
    /// One more wave, when so much is left of a window as each of `rows` needs, and
    /// `least`.
    fn lay(&mut self, rows: &[&Row<'_>], least: Duration, gate: impl FnOnce(Duration) -> Gate) {
        let offsets = self.offsets(rows);
        let needed = longest(rows, &offsets, needs).max(least);
        let start = self.opening(self.earliest(rows), needed);
        let end = start.saturating_add(longest(rows, &offsets, length));
        let begins: Vec<Duration> = offsets.iter().map(|of| start.saturating_add(*of)).collect();
        if let (Some(begin), Some(row)) = (begins.last(), rows.last()) {
            self.paced_until = begin.saturating_add(self.pace_of(row));
        }
        self.waves.push(Wave {
            number: u32::try_from(self.waves.len() + 1).unwrap_or(u32::MAX),
            start,
            end,
            targets: rows.iter().map(|row| row.target.clone()).collect(),
            begins,
            gate: gate(end),
        });
        self.at = end;
    }

    /// Nodes, and the soak of those that are left alone after it, verification at
    /// its end included, each from its own end on. Where they have a pace and fit
    /// into no window with it, in several waves.
    fn lay_nodes(&mut self, mut rows: Vec<&Row<'_>>) {
        if self.rate > 0 {
            // Those that are away take nothing of a reserve only after the others.
            rows.sort_by_key(|row| (self.world.was_away(row), row.start()));
        }
        let mut rows = rows.as_slice();
        while !rows.is_empty() {
            let (now, later) = rows.split_at(self.fitting(rows));
            self.lay_together(now);
            rows = later;
        }
    }

    fn lay_together(&mut self, rows: &[&Row<'_>]) {
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

    /// How many of `rows`, at least one, fit into the longest window to come.
    fn fitting(&mut self, rows: &[&Row<'_>]) -> usize {
        if self.rate == 0 {
            return rows.len();
        }
        let from = self.start + self.earliest(rows);
        let longest = self.ahead.after(&self.calendar, from);
        // Where there is none, they begin at once.
        let longest = if longest.is_zero() {
            Duration::MAX
        } else {
            longest
        };
        let offsets = self.offsets(rows);
        let ends = rows.iter().zip(&offsets);
        let fits =
            |(row, offset): &(&&Row<'_>, &Duration)| offset.saturating_add(needs(row)) <= longest;
        ends.take_while(fits).count().max(1)
    }

    /// When each of `rows` begins after the wave does: at once, or when the pods of
    /// those before have had their time.
    fn offsets(&self, rows: &[&Row<'_>]) -> Vec<Duration> {
        let paced = rows.iter().scan(Duration::ZERO, |next, row| {
            let at = *next;
            *next = next.saturating_add(self.pace_of(row));
            Some(at)
        });
        paced.collect()
    }

    /// How long `row` keeps the next from beginning: its pods have their time from its
    /// drain on.
    fn pace_of(&self, row: &Row<'_>) -> Duration {
        let time = time_of(self.world.displaced(row), self.rate);
        let drain = row.action(Phase::Drain).map(|drain| drain.start);
        match (row.start(), drain) {
            (Some(start), Some(drain)) if self.rate > 0 => {
                time.saturating_add(drain.saturating_sub(start))
            }
            _ => time,
        }
    }

    /// When `rows` may begin as far as those before go.
    fn earliest(&self, rows: &[&Row<'_>]) -> Duration {
        match rows.iter().any(|row| row.slot.is_some()) {
            true => self.at.max(self.paced_until),
            false => self.at,
        }
    }

    /// The first time from `earliest` on with `length` left of its window; at once if
    /// none of the coming year has.
    fn opening(&mut self, earliest: Duration, length: Duration) -> Duration {
        let mut at = self.start + earliest;
        if self.ahead.after(&self.calendar, at) < length {
            return earliest;
        }
        while let Some(opening) = self.calendar.opening(at) {
            if opening.length() >= length {
                return opening.from.since(self.start);
            }
            at = opening.until;
        }
        earliest
    }
}
