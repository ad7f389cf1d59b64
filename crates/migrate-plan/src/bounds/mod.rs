//! Lower bounds of a rollout, in time linear in what it has to do.
//!
//! Each bound is what the machine's own rules cost at least, in whatever order:
//! see the functions; those of the scheduler and of links, which no rule of the machine is
//! about, are what the predicted drains and upgrades cost that wait for them.

mod budgets;
mod busiest;
mod capacity;
mod links;
mod pace;
mod pool;
mod scheduler;
mod slots;
mod windows;

use std::time::Duration;

use migrate_core::Moment;
use migrate_core::cost::{Bound, BoundKind, Bounds, Relief, UsefulWidth};
use migrate_core::policy::Calendar;

pub(crate) use budgets::{BudgetLoad, Hold};
pub(crate) use busiest::Busiest;
pub(crate) use capacity::{RoomLoad, load_by_size};
pub(crate) use links::LinkLoad;
pub(crate) use pace::PaceLoad;
pub(crate) use pool::PoolSlots;
pub(crate) use scheduler::SchedulerLoad;
pub(crate) use slots::Lengths;
use windows::stretched;

/// What a rollout has to do, in whole milliseconds.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// Σ of what goes one by one before the pools (T_cp): members, control-plane
    /// nodes that come first, tasks.
    pub(crate) before: u64,
    /// Σ of what goes one by one after them: the runner's node, tasks.
    pub(crate) after: u64,
    pub(crate) pools: &'a [PoolSlots<'a>],
    /// The bounds of the [`Busiest`] budgets, and their ids.
    pub(crate) budgets: Vec<(u64, usize)>,
    pub(crate) rooms: &'a [RoomLoad],
    /// Where drains have a pace.
    pub(crate) pace: Option<PaceLoad>,
    pub(crate) scheduler: SchedulerLoad,
    pub(crate) links: Vec<LinkLoad>,
    pub(crate) calendar: Calendar,
    pub(crate) start: Moment,
}

/// Of what one more may help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum One {
    Nothing,
    /// Of this pool.
    Slot(usize),
    /// Of this budget.
    Pod(usize),
    /// Of the nodes of this room.
    Node(usize),
    /// As much throughput of this link.
    Link(usize),
}

impl Work<'_> {
    /// All bounds of a rollout that is predicted to take `makespan`. `key` names
    /// a budget, `with_one_more` is its load if it lets one more pod go at once, `may_widen`
    /// says whether one more node of a pool has room to be away, `has_all_of` whether the
    /// nodes of a room are among those of another one of the plan.
    pub(crate) fn bounds(
        &self,
        makespan: Duration,
        key: impl Fn(usize) -> String,
        with_one_more: impl Fn(usize) -> BudgetLoad,
        may_widen: impl Fn(&str) -> bool,
        has_all_of: impl Fn(usize, usize) -> bool,
    ) -> Bounds {
        let mut limits = vec![(BoundKind::ControlPlane, self.time(0), One::Nothing)];
        for (at, pool) in self.pools.iter().enumerate() {
            let name = pool.name.to_owned();
            let (bound, by_zones) = pool.bound(pool.left());
            let kind = match by_zones {
                true => BoundKind::Zones { pool: name },
                false => BoundKind::Slots { pool: name },
            };
            limits.push((kind, self.time(bound), One::Slot(at)));
        }
        if let Some(pace) = self.pace {
            // It goes on while windows are closed, so it is no work.
            let time = self.before.saturating_add(pace.bound());
            let time = time.saturating_add(self.after);
            limits.push((BoundKind::Pace, time, One::Nothing));
        }
        let chains = self.pools.iter();
        let chains = chains.map(|pool| (pool.lengths.chain_bound(), pool.longest));
        // Of equal ones the first by name.
        let chain = chains.max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)));
        if let Some((length, node)) = chain {
            let node = node.to_owned();
            limits.push((BoundKind::Node { node }, self.time(length), One::Nothing));
        }
        for &(bound, id) in &self.budgets {
            let kind = BoundKind::Budget { budget: key(id) };
            limits.push((kind, self.time(bound), One::Pod(id)));
        }
        // Of equal ones the first.
        let scarcest = self.rooms.iter().enumerate().rev();
        if let Some((at, room)) = scarcest.max_by_key(|(_, room)| room.bound()) {
            let kind = BoundKind::Capacity {
                resource: room.resource.clone(),
                nodes: room.nodes,
            };
            limits.push((kind, self.time(room.bound()), One::Node(at)));
        }
        // As with a pace, it goes on while windows are closed. Where nobody waits for it and
        // something else limits more, it is no news.
        let placed = self.scheduler.bound();
        let placed = placed.map(|bound| self.before.saturating_add(bound));
        let placed = placed.map(|bound| bound.saturating_add(self.after));
        let is_best = |bound: &u64| limits.iter().all(|(_, time, _)| time < bound);
        if let Some(time) = placed.filter(|it| self.scheduler.is_queued || is_best(it)) {
            limits.push((BoundKind::Scheduler, time, One::Nothing));
        }
        for (at, link) in self.links.iter().enumerate() {
            if let Some(time) = self.fetched(link) {
                let link = link.name().to_owned();
                limits.push((BoundKind::Bandwidth { link }, time, One::Link(at)));
            }
        }
        let others = |one: One| {
            let others = limits.iter().filter(|(.., other)| *other != one);
            others.map(|(_, time, _)| *time).max().unwrap_or(0)
        };
        let widths = self.pools.iter().enumerate().map(|(at, pool)| {
            let others = others(One::Slot(at));
            let limit = others.saturating_add(others / 50);
            let useful = pool.useful_width(limit, |bound| self.time(bound));
            UsefulWidth::new(pool.name, pool.width, useful.saturating_add(pool.lost))
        });
        let widths = widths.collect();
        let best = limits
            .iter()
            .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        let relief = best.and_then(|(kind, time, more)| {
            let then = match *more {
                One::Nothing => return None,
                One::Slot(at) => {
                    let pool = &self.pools[at];
                    if !may_widen(pool.name) {
                        return None;
                    }
                    self.time(pool.bound(pool.left().saturating_add(1)).0)
                }
                One::Pod(id) => self.time(with_one_more(id).bound()),
                // It is one of other rooms only where those have all nodes of this one.
                One::Node(at) => {
                    let bound = |other: &RoomLoad| match has_all_of(other.at, self.rooms[at].at) {
                        true => other.with_one_more().bound(),
                        false => other.bound(),
                    };
                    self.time(self.rooms.iter().map(bound).max().unwrap_or(0))
                }
                One::Link(at) => self.fetched(&self.links[at].clone().twice_as_fast())?,
            };
            let then = others(*more).max(then);
            let saves = Duration::from_millis(time.checked_sub(then)?);
            (!saves.is_zero()).then(|| Relief::new(kind.clone(), saves))
        });
        let limits = limits
            .into_iter()
            .map(|(kind, time, _)| Bound::new(kind, Duration::from_millis(time)));
        let mut bounds = Bounds::new(limits.collect(), makespan);
        bounds.relief = relief;
        bounds.widths = widths;
        bounds
    }

    /// When all has come over `link`, and what follows is done. As with a pace, it goes on
    /// while windows are closed.
    fn fetched(&self, link: &LinkLoad) -> Option<u64> {
        let time = self.before.saturating_add(link.bound()?);
        Some(time.saturating_add(self.after))
    }

    /// With what goes one by one before and after, and the times between windows
    /// (B6 and the calendar).
    fn time(&self, bound: u64) -> u64 {
        let work = self.before.saturating_add(bound).saturating_add(self.after);
        stretched(&self.calendar, self.start, work)
    }
}
