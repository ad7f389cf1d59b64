//! What room a cluster has, and how wide its pools may be for it.

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{
    ClusterModel, Finding, Moment, ObjectName, Plan, PlannedPool, Policy, Severity, WidthLimit,
};

use super::measured::millis;
use super::{Job, Planner};
use crate::bounds::{PoolSlots, RoomLoad};
use crate::intern::Interned;
use crate::placement::{Landscape, Narrowed, PodTable, Slack};

/// Not even one node of each pool has room to be away.
const TOO_LITTLE: &str = "KM-CAPACITY-002";
/// A pool is narrower than policy asks for.
const NARROWED: &str = "KM-CAPACITY-003";

/// Pods and budgets as numbers, for the schedule and for where pods go.
#[derive(Debug)]
pub(super) struct Numbers<'m> {
    pub(super) interned: Interned<'m>,
    pub(super) table: PodTable<'m>,
}

impl<'m> Numbers<'m> {
    pub(super) fn of(model: &'m ClusterModel, policy: &Policy) -> Self {
        let mut table = PodTable::new(model);
        let interned = Interned::visiting(model, policy, |visited| table.add(visited));
        Self { interned, table }
    }

    /// Those of a model whose pods are in their documented order, if they are.
    pub(super) fn in_order(model: &'m ClusterModel, policy: &Policy) -> Option<Self> {
        let mut table = PodTable::new(model);
        let add = |visited| table.add(visited);
        let interned = Interned::visiting_in_order(model, policy, add)?;
        Some(Self { interned, table })
    }
}

/// The room of a cluster, and what is to be drained.
#[derive(Debug)]
pub(super) struct Room<'p> {
    pub(super) land: Landscape<'p>,
    /// Of the sets of nodes that pods are tied to.
    pub(super) slacks: Vec<Slack>,
    /// By node: the pool that it is drained beside others of; [`u32::MAX`] of those
    /// that are not drained, or one by one.
    pools: Vec<u32>,
    /// By pool of the plan: nodes that are away and stay so, and how many may have to be
    /// away at once for those that are cordoned until they are done, which go first.
    lost: Vec<u32>,
    cordoned: Vec<u32>,
    pub(super) model: &'p ClusterModel,
    pub(super) start: Moment,
}

impl Planner<'_> {
    /// Keeps in the plan where each pod is predicted to go
    /// ([`Relocation::destinations`](migrate_core::Relocation::destinations)), which
    /// makes it as large as the cluster has pods.
    #[must_use]
    pub fn with_destinations(mut self) -> Self {
        self.destinations = true;
        self
    }

    /// What is known of room; nothing where no node says what it offers.
    pub(super) fn room<'p>(
        &'p self,
        table: PodTable<'p>,
        interned: &Interned<'_>,
        jobs: &[Job<'_>],
    ) -> Option<Room<'p>> {
        let pool = |node: u32| interned.pools.id_of(node);
        let land = table.complete(pool)?;
        let mut pools = vec![u32::MAX; self.model.nodes.len()];
        let one_by_one = self.policy.rollout.control_plane_nodes_first;
        let is_beside = |job: &&Job<'_>| !(one_by_one && job.pool == CONTROL_PLANE_POOL);
        for job in jobs.iter().filter(is_beside) {
            pools[job.id as usize] = pool(job.id);
        }
        // What is cordoned takes pods once it is done, what is not Ready never.
        let takes = |node: u32| {
            let is_drained = pools[node as usize] != u32::MAX;
            let node = &self.model.nodes[node as usize];
            node.ready && (is_drained || !node.unschedulable)
        };
        let slacks = land.slacks(takes);
        let mut lost = vec![0; interned.pools.all().len()];
        let mut cordoned = lost.clone();
        for (id, node) in (0..).zip(&self.model.nodes) {
            if !node.ready || node.unschedulable {
                let away = if takes(id) { &mut cordoned } else { &mut lost };
                away[pool(id) as usize] += 1;
            }
        }
        // Others wait for a canary: one that takes a place itself has to go beside them.
        for canary in jobs.iter().filter(|job| job.canary) {
            let at_once = &mut cordoned[pool(canary.id) as usize];
            if *at_once > 0 && !canary.node.unschedulable {
                *at_once += 1;
            }
        }
        // The runner's own goes last: another has to go beside it.
        let own = self.runner_on;
        let own = own.and_then(|own| jobs.iter().find(|job| job.node.name == own));
        if let Some(own) = own.filter(|own| own.node.unschedulable && takes(own.id)) {
            let at_once = &mut cordoned[pool(own.id) as usize];
            *at_once = 2.max(*at_once);
        }
        Some(Room {
            land,
            slacks,
            pools,
            lost,
            cordoned,
            model: self.model,
            start: self.model.taken_at,
        })
    }
}

impl Room<'_> {
    /// How many nodes of each pool may be away besides those that stay so.
    fn widths(&self, planned: &[PlannedPool]) -> Vec<u32> {
        let pools = planned.iter().zip(&self.lost);
        let widths = pools.map(|(pool, lost)| pool.width.saturating_sub(*lost).max(1));
        widths.collect()
    }

    /// Narrows `planned` to what there is room for; never so far that nodes which are
    /// away already, or what policy keeps for failures, keep all others from beginning.
    pub(super) fn narrow(&self, planned: &mut [PlannedPool], policy: &Policy) -> Vec<Finding> {
        let widths = self.widths(planned);
        let narrowed = self.land.narrowed(&self.slacks, &self.pools, &widths);
        let mut found = Vec::new();
        let away = self.lost.iter().zip(&self.cordoned);
        let of_pools = planned.iter_mut().zip(narrowed).zip(away);
        for ((pool, narrowed), (lost, cordoned)) in of_pools {
            let Some(narrowed) = narrowed.filter(|_| pool.width > 0) else {
                continue;
            };
            let reserve = policy.pools.reserve(&pool.name, pool.nodes);
            let width = lost.saturating_add(narrowed.width.max(*cordoned));
            let width = width.max(reserve.saturating_add(1));
            let resource = self.land.resource(narrowed.resource);
            let limit = WidthLimit::new(pool.width, resource, narrowed.among);
            let is_narrower = width < pool.width;
            if is_narrower {
                pool.width = width;
                pool.limit = Some(limit.clone());
            }
            if is_narrower || narrowed.is_too_little {
                found.push(of_width(pool, &limit, narrowed));
            }
        }
        found
    }

    /// Whether one more node of `pool` has room to be away, and that of no other pool
    /// is less for it.
    pub(super) fn may_widen(&self, planned: &[PlannedPool], pool: &str) -> bool {
        let Some(at) = planned.iter().position(|it| it.name == pool) else {
            return false;
        };
        let mut widths = self.widths(planned);
        let narrowed = |widths: &[u32]| self.land.narrowed(&self.slacks, &self.pools, widths);
        let before = narrowed(&widths);
        widths[at] = widths[at].saturating_add(1);
        let after = narrowed(&widths);
        planned[at].limit.is_none() && after[at].is_none() && after == before
    }

    /// What each set of nodes has to spare, and what the slots of `pools` take of
    /// it. Where too little is left for one of them, nothing is bounded: its pods
    /// wait until it is back.
    pub(super) fn loads(
        &self,
        plan: &Plan,
        jobs: &[Job<'_>],
        pools: &[PoolSlots<'_>],
    ) -> Vec<RoomLoad> {
        let widths = self.widths(&plan.pools);
        let mut rests = vec![0u64; self.model.nodes.len()];
        let surges = |name: &str| plan.pools.iter().any(|it| it.name == name && it.surge > 0);
        // Behind replacements nothing of it is taken, and which nodes go so is not bounded.
        for slot in pools
            .iter()
            .filter(|it| !surges(it.name))
            .flat_map(|it| it.slots)
        {
            let job = &jobs[*slot];
            rests[job.id as usize] = millis(job.times.after_drain());
        }
        let mut loads = Vec::new();
        for set in &self.slacks {
            for (resource, &slack) in set.slack.iter().enumerate() {
                let (mut area, mut largest) = (0u128, 0);
                for &node in &set.nodes {
                    let offer = self.land.leavable.row(node)[resource];
                    area += u128::from(rests[node as usize]) * u128::from(offer);
                    largest = offer.max(largest);
                }
                let has_room = || self.land.holds(set, resource, &self.pools, &widths);
                if area > 0 && slack > 0 && has_room() {
                    loads.push(RoomLoad {
                        resource: self.land.resource(resource).to_owned(),
                        nodes: u32::try_from(set.nodes.len()).unwrap_or(u32::MAX),
                        slack,
                        area,
                        largest,
                    });
                }
            }
        }
        loads
    }
}

/// That `pool` is narrower than policy asks for, or too wide even so.
fn of_width(pool: &PlannedPool, limit: &WidthLimit, narrowed: Narrowed) -> Finding {
    let (asked, resource, nodes) = (limit.asked, &limit.resource, limit.nodes);
    let object = ObjectName::cluster("Pool", &pool.name);
    let cure = format!(
        "more {resource} on these nodes, another node, or lower requests; an autoscaler that adds \
         nodes while pods wait does the same"
    );
    if narrowed.is_too_little {
        let evidence = format!(
            "by requests, the {nodes} nodes that its pods may use have too little {resource} to \
             spare for one node of each pool to be away: pods will wait"
        );
        return Finding::new(TOO_LITTLE, Severity::Warning, object, evidence, cure);
    }
    let evidence = format!(
        "capacity limits the width to {} where policy asks for {asked}: by requests, the {nodes} \
         nodes that its pods may use have no more {resource} to spare",
        pool.width
    );
    Finding::new(NARROWED, Severity::Info, object, evidence, cure)
}
