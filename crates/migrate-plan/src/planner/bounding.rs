//! The lower bounds of a plan, from what its schedule begins.

use std::collections::BTreeMap;

use migrate_core::cost::{Bounds, Link};
use migrate_core::policy::{CONTROL_PLANE_POOL, ZonePolicy};
use migrate_core::{ClusterModel, Moment, Phase, Plan, Point, Policy};
use rustc_hash::FxHashMap;

use super::Job;
use super::measured::millis;
use super::room::Room;
use super::scheduler::Scheduler;
use super::simulate::Step;
use crate::bounds::{
    BudgetLoad, Busiest, Hold, Lengths, LinkLoad, PaceLoad, PoolSlots, SchedulerLoad, Work,
};
use crate::intern::{Budget, Interned, Share};
use crate::machine::time_of;

/// What a schedule begins, by how it goes.
#[derive(Debug)]
struct Begun {
    /// Σ of what goes one by one before the pools, and after them.
    before: u64,
    after: u64,
    /// By pool.
    groups: Vec<Group>,
    /// By node of the model.
    nodes: Vec<bool>,
}

/// Those slots of a pool that go beside each other.
#[derive(Clone, Debug, Default)]
struct Group {
    slots: Vec<usize>,
    /// A canary of it has soaked.
    soaked: bool,
}

/// Lower bounds of what `steps` begin, for any order of it. What cannot begin is
/// in no schedule, and lengthens no bound. `None` where nothing begins.
#[expect(
    clippy::too_many_arguments,
    reason = "all that decides how long it takes"
)]
pub(super) fn bounds(
    plan: &Plan,
    steps: &[Step],
    jobs: &[Job<'_>],
    interned: &Interned<'_>,
    model: &ClusterModel,
    policy: &Policy,
    start: Moment,
    room: Option<&Room<'_>>,
    scheduler: Scheduler,
    links: &[Link],
) -> Option<Bounds> {
    if steps.is_empty() {
        return None;
    }
    let ids = plan.pools.iter().map(|pool| pool.name.as_str()).zip(0..);
    let ids: FxHashMap<&str, usize> = ids.collect();
    let calendar = policy.rollout.calendar();
    // A soak, and the look at its end, go on while windows are closed, so there they are no
    // work.
    let counts_soaks = calendar.is_always_open();
    let begun = begun(plan, steps, jobs, model, &ids, policy, counts_soaks);
    let mut lost = vec![0u32; plan.pools.len()];
    for ((node, is_begun), id) in model.nodes.iter().zip(&begun.nodes).zip(0..) {
        let is_lost = !is_begun && (!node.ready || node.unschedulable);
        if is_lost {
            lost[interned.pools.id_of(id) as usize] += 1;
        }
    }
    let soak = millis(policy.rollout.canary_soak);
    let mut has_canary = vec![false; plan.pools.len()];
    for slot in plan.slots.iter().filter(|slot| slot.canary) {
        if let Some(&pool) = ids.get(slot.pool.as_str()) {
            has_canary[pool] = true;
        }
    }
    let pools = plan.pools.iter().zip(&begun.groups).enumerate();
    let pools = pools.filter_map(|(at, (pool, group))| {
        let of_group = || group.slots.iter().map(|slot| &jobs[*slot]);
        let confirm = of_group().map(|job| millis(job.times.of(Phase::Confirm)));
        let after_canary = match confirm.min() {
            Some(confirm) if group.soaked && counts_soaks => soak.saturating_add(confirm),
            _ => 0,
        };
        let lengths = of_group().map(|job| millis(job.times.total())).collect();
        let canary = has_canary[at].then_some(after_canary);
        let lengths = Lengths::new(lengths, canary);
        let lengths = lengths.with_ramp(policy.pools.stages(&pool.name));
        let is_longest = |job: &&Job<'_>| millis(job.times.total()) == lengths.longest();
        let longest = of_group().filter(is_longest);
        let longest = longest.map(|job| job.node.name.as_str()).min()?;
        let reserve = policy.pools.reserve(&pool.name, pool.nodes);
        // A node that somebody has cordoned takes nothing of the reserve.
        let cordoned = of_group().filter(|job| job.node.unschedulable).count();
        let cordoned = u32::try_from(cordoned).unwrap_or(u32::MAX);
        let lost = lost[at].max(reserve.saturating_sub(cordoned));
        let (name, width) = (pool.name.as_str(), pool.slots());
        // Behind replacements nothing is lost.
        let lost = match pool.surge {
            0 => lost,
            _ => lost.min(pool.width),
        };
        Some(PoolSlots {
            name,
            width,
            lost,
            lengths,
            zones: zones(of_group(), policy).map_or_else(Vec::new, |zones| {
                let of_zone = |lengths| Lengths::new(lengths, canary);
                zones.into_values().map(of_zone).collect()
            }),
            longest,
            slots: &group.slots,
        })
    });
    let pools: Vec<PoolSlots<'_>> = pools.collect();
    let allowed = |budget: &Budget<'_>| budget.steady.max(budget.allowed);
    let held = Held::new(&pools, jobs, interned);
    let budgets = held.busiest(allowed);
    let with_one_more = |id: usize| {
        let allowed = allowed(&interned.budgets[id]).saturating_add(1);
        held.load(interned.shares_of(id), allowed)
    };
    let rooms = room.map_or_else(Vec::new, |room| room.loads(plan, jobs, &pools));
    let key = |id: usize| interned.budgets[id].source.key().to_string();
    let rate = policy.rollout.displaced_per_minute;
    let drained = || {
        let slots = pools.iter().flat_map(|pool| pool.slots);
        slots.map(|slot| &jobs[*slot])
    };
    let pace = (rate > 0).then(|| {
        let mut load = PaceLoad::default();
        for job in drained() {
            let pods = interned.loads[job.id as usize].pods;
            let from_drain = job
                .times
                .total()
                .saturating_sub(job.times.of(Phase::Provision));
            load.add(millis(time_of(pods, rate)), millis(from_drain));
        }
        load
    });
    let mut placed =
        SchedulerLoad::new(scheduler.per_pod(), is_queued(plan, steps, jobs, scheduler));
    for job in drained() {
        placed.add(job.pods, millis(job.times.after_drain()));
    }
    let mut links: Vec<LinkLoad> = links.iter().cloned().map(LinkLoad::new).collect();
    for job in drained() {
        let (head, rest) = (
            millis(job.times.before_fetch()),
            millis(job.times.after_fetch()),
        );
        let after_drain = millis(job.times.after_drain());
        for link in &mut links {
            link.add(head, rest);
            link.add_pods(job.pods, after_drain);
        }
    }
    let work = Work {
        pace,
        scheduler: placed,
        links,
        before: begun.before,
        after: begun.after,
        pools: &pools,
        budgets,
        rooms: &rooms,
        calendar,
        start,
    };
    let may_widen = |pool: &str| room.is_none_or(|room| room.may_widen(&plan.pools, policy, pool));
    let has_all_of = |room: usize, other: usize| {
        let [room, other] = [room, other].map(|at| &plan.rooms[at].offers);
        other.keys().all(|node| room.contains_key(node))
    };
    Some(work.bounds(plan.makespan(), key, with_one_more, may_widen, has_all_of))
}

/// Whether a drain lasted longer than alone, since the scheduler had pods of others.
fn is_queued(plan: &Plan, steps: &[Step], jobs: &[Job<'_>], mut scheduler: Scheduler) -> bool {
    let mut drains = steps.iter().filter(|step| step.phase == Phase::Drain);
    drains.any(|step| {
        let slot = (step.target as usize).checked_sub(plan.control_plane.len());
        let job = slot.and_then(|slot| jobs.get(slot));
        job.is_some_and(|job| {
            let alone = job.times.of(Phase::Drain);
            scheduler.drain(step.begin, job.pods, alone) > alone
        })
    })
}

/// Lengths of workers by zone, where one zone is in work at a time.
fn zones<'j>(
    jobs: impl Iterator<Item = &'j Job<'j>>,
    policy: &Policy,
) -> Option<BTreeMap<Option<&'j str>, Vec<u64>>> {
    if policy.pools.zones != ZonePolicy::OneAtATime {
        return None;
    }
    let mut zones: BTreeMap<Option<&str>, Vec<u64>> = BTreeMap::new();
    for job in jobs.filter(|job| job.pool != CONTROL_PLANE_POOL) {
        let of_zone = zones.entry(job.node.zone()).or_default();
        of_zone.push(millis(job.times.total()));
    }
    Some(zones)
}

/// Sorts out what goes one by one and what goes beside each other.
fn begun(
    plan: &Plan,
    steps: &[Step],
    jobs: &[Job<'_>],
    model: &ClusterModel,
    ids: &FxHashMap<&str, usize>,
    policy: &Policy,
    counts_soaks: bool,
) -> Begun {
    let nodes_first = policy.rollout.control_plane_nodes_first;
    let mut begun = Begun {
        before: 0,
        after: 0,
        groups: vec![Group::default(); plan.pools.len()],
        nodes: vec![false; model.nodes.len()],
    };
    for step in steps {
        let mut length = millis(step.end.since(step.begin));
        let slot = (step.target as usize).checked_sub(plan.control_plane.len());
        let Some((slot, job)) = slot.and_then(|slot| Some((slot, jobs.get(slot)?))) else {
            let task = slot.and_then(|slot| plan.tasks.get(slot.checked_sub(jobs.len())?));
            match task.map(|task| task.at) {
                Some(Point::AfterAll) => begun.after = begun.after.saturating_add(length),
                _ => begun.before = begun.before.saturating_add(length),
            }
            continue;
        };
        // What goes one by one waits for nobody's transfer but for parts of a millisecond,
        // and these depend on the order.
        length = length.min(match step.phase {
            Phase::Provision => millis(job.times.of(step.phase)),
            Phase::Upgrade => millis(job.times.whole_upgrade()),
            _ => length,
        });
        if step.phase == Phase::Verify {
            begun.nodes[job.id as usize] = true;
        }
        if nodes_first && job.pool == CONTROL_PLANE_POOL {
            begun.before = begun.before.saturating_add(length);
        } else if plan.slots[slot].hosts_runner && job.pool != CONTROL_PLANE_POOL {
            if step.phase != Phase::Confirm || counts_soaks {
                begun.after = begun.after.saturating_add(length);
            }
        } else if let Some(&pool) = ids.get(job.pool) {
            match step.phase {
                Phase::Verify => begun.groups[pool].slots.push(slot),
                Phase::Confirm => begun.groups[pool].soaked = true,
                _ => {}
            }
        }
    }
    begun
}

/// What drains take, budget by budget.
#[derive(Debug)]
struct Held<'i, 'm> {
    interned: &'i Interned<'m>,
    /// By node: what budgets have to know of its drain, if it has one.
    drains: Vec<Option<DrainOf>>,
}

/// A drain by what budgets have to know of it.
#[derive(Clone, Copy, Debug)]
struct DrainOf {
    pool: u32,
    head: u64,
    drain: u64,
    rest: u64,
}

impl<'i, 'm> Held<'i, 'm> {
    fn new(pools: &[PoolSlots<'_>], jobs: &[Job<'_>], interned: &'i Interned<'m>) -> Self {
        let mut drains = vec![None; interned.loads.len()];
        for (id, pool) in (0..).zip(pools) {
            let head = pool.lengths.head();
            for job in pool.slots.iter().map(|slot| &jobs[*slot]) {
                let drain = millis(job.times.of(Phase::Drain));
                drains[job.id as usize] = Some(DrainOf {
                    pool: id,
                    head,
                    drain,
                    rest: millis(job.times.after_drain()),
                });
            }
        }
        Self { interned, drains }
    }

    /// The bounds of the budgets that have most to bear, and their ids. That of hardly any
    /// is worked out: sums, which need no order, tell of nearly all that it is less.
    fn busiest(&self, allowed: impl Fn(&Budget<'_>) -> u32) -> Vec<(u64, usize)> {
        let mut busiest = Busiest::new();
        for ((budget, shares), id) in self.interned.shares().zip(0..) {
            let mut sums = BudgetLoad::new(allowed(budget));
            for (pool, head, hold) in self.holds(shares) {
                sums.add(pool, head, hold);
            }
            if !sums.is_idle() && busiest.takes(sums.most()) {
                busiest.add(self.load(shares, allowed(budget)).bound(), id);
            }
        }
        busiest.into_vec()
    }

    /// What a budget has to bear of `shares` if it allows so much.
    fn load(&self, shares: &[Share], allowed: u32) -> BudgetLoad {
        let mut holds: Vec<(u32, u64, Hold)> = self.holds(shares).collect();
        // Those of one pool come one after the other.
        holds.sort_unstable_by_key(|(pool, ..)| *pool);
        let mut load = BudgetLoad::new(allowed);
        for &(pool, head, hold) in &holds {
            load.add(pool, head, hold);
        }
        load
    }

    /// Pool, wait for its canary, and what is held, of each drain of `shares`.
    fn holds(&self, shares: &[Share]) -> impl Iterator<Item = (u32, u64, Hold)> {
        shares.iter().filter_map(|&Share { node, pods }| {
            let DrainOf {
                pool,
                head,
                drain,
                rest,
            } = self.drains[node as usize]?;
            Some((pool, head, Hold { pods, drain, rest }))
        })
    }
}
