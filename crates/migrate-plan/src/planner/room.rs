//! What room a cluster has, and how much of it may be away at once.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use migrate_core::policy::CONTROL_PLANE_POOL;
use migrate_core::{
    ClusterModel, Finding, Moment, ObjectName, Plan, PlannedPool, PlannedRoom, Policy, Severity,
};

use super::measured::millis;
use super::{Job, Planner};
use crate::bounds::{PoolSlots, RoomLoad};
use crate::intern::Interned;
use crate::placement::{Landscape, PodTable, PoolsAway, Slack, sum};

/// Not even one node has room to be away alone.
const TOO_LITTLE: &str = "KM-CAPACITY-002";
/// There may be fewer nodes of a pool away than policy lets be.
const SCARCE: &str = "KM-CAPACITY-003";

/// What may be away at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'l> {
    pub(super) pools: &'l [PlannedPool],
    pub(super) rooms: &'l [PlannedRoom],
}

impl<'l> Limits<'l> {
    pub(super) fn of(plan: &'l Plan) -> Self {
        Self {
            pools: &plan.pools,
            rooms: &plan.rooms,
        }
    }
}

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
    /// By node: its pool.
    pools: Vec<u32>,
    /// By node: it is drained beside others of its pool.
    is_beside: Vec<bool>,
    /// By pool of the plan: nodes that are away and stay so.
    lost: Vec<u32>,
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
        let mut is_beside = vec![false; self.model.nodes.len()];
        let one_by_one = self.policy.rollout.control_plane_nodes_first;
        let mut is_drained = vec![false; self.model.nodes.len()];
        for job in jobs {
            is_drained[job.id as usize] = true;
            is_beside[job.id as usize] = !(one_by_one && job.pool == CONTROL_PLANE_POOL);
        }
        // What is cordoned takes pods once it is done, what is not Ready never.
        let takes = |node: u32| {
            let is_drained = is_drained[node as usize];
            let node = &self.model.nodes[node as usize];
            node.ready && (is_drained || !node.unschedulable)
        };
        let slacks = land.slacks(takes, &is_drained);
        let mut lost = vec![0; interned.pools.all().len()];
        for (id, node) in (0..).zip(&self.model.nodes) {
            if !node.ready || (node.unschedulable && !takes(id)) {
                lost[pool(id) as usize] += 1;
            }
        }
        Some(Room {
            land,
            slacks,
            pools: (0..)
                .zip(&self.model.nodes)
                .map(|(id, _)| pool(id))
                .collect(),
            is_beside,
            lost,
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

    fn away<'r>(&'r self, widths: &'r [u32], reserves: &'r [u32]) -> PoolsAway<'r> {
        PoolsAway {
            of: &self.pools,
            is_drained: &self.is_beside,
            widths,
            reserves,
        }
    }

    /// The rooms that let fewer nodes be away than `planned` would, and what is said of them.
    pub(super) fn scarce(
        &self,
        planned: &[PlannedPool],
        policy: &Policy,
    ) -> (Vec<PlannedRoom>, Vec<Finding>) {
        let widths = self.widths(planned);
        let reserves = reserves(planned, policy);
        let pools = self.away(&widths, &reserves);
        let (mut rooms, mut told) = (Vec::new(), BTreeMap::new());
        for set in &self.slacks {
            for (resource, &slack) in set.slack.iter().enumerate() {
                let Some(scarcity) = self.land.scarce(set, resource, &pools) else {
                    continue;
                };
                let spare = slack.saturating_sub(scarcity.kept);
                let name = self.land.resource(resource);
                for (pool, offers) in &scarcity.offers {
                    let largest = offers.first().copied().unwrap_or(0);
                    let away = offers.iter().take(widths[*pool as usize] as usize);
                    let asked = sum(away.copied());
                    let scarce = Scarce {
                        is_too_little: Reverse(largest > slack),
                        part: spare.saturating_mul(1000) / asked.max(1),
                        resource: name,
                        nodes: set.nodes.len(),
                    };
                    let worst = told.entry(*pool).or_insert(scarce);
                    *worst = (*worst).min(scarce);
                }
                let offers = set.nodes.iter().map(|node| {
                    let name = self.model.nodes[*node as usize].name.clone();
                    (name, self.land.leavable.row(*node)[resource])
                });
                let offers = offers.filter(|(_, offer)| *offer > 0).collect();
                rooms.push(PlannedRoom::new(name, spare, offers));
            }
        }
        let told = told.iter();
        let told = told.map(|(pool, scarce)| scarce.finding(&planned[*pool as usize]));
        (rooms, told.collect())
    }

    /// Whether there is room for one more node of `pool` to be away, whichever those are.
    pub(super) fn may_widen(&self, planned: &[PlannedPool], policy: &Policy, pool: &str) -> bool {
        let Some(at) = planned.iter().position(|it| it.name == pool) else {
            return false;
        };
        let mut widths = self.widths(planned);
        widths[at] = widths[at].saturating_add(1);
        let reserves = reserves(planned, policy);
        let pools = self.away(&widths, &reserves);
        let mut sets = self.slacks.iter().flat_map(|set| {
            let resources = 0..set.slack.len();
            resources.map(move |resource| (set, resource))
        });
        sets.all(|(set, resource)| {
            let scarce = self.land.scarce(set, resource, &pools);
            scarce.is_none_or(|scarce| !scarce.offers.contains_key(&(at as u32)))
        })
    }

    /// What the rooms of `plan` have to spare, and what the slots of `pools` take of it. What
    /// is cordoned takes it without being asked, and what goes behind a replacement nothing.
    pub(super) fn loads(
        &self,
        plan: &Plan,
        jobs: &[Job<'_>],
        pools: &[PoolSlots<'_>],
    ) -> Vec<RoomLoad> {
        let surges = |name: &str| plan.pools.iter().any(|it| it.name == name && it.surge > 0);
        let slots = pools.iter().filter(|it| !surges(it.name));
        let jobs = slots.flat_map(|it| it.slots).map(|slot| &jobs[*slot]);
        let jobs: Vec<_> = jobs.filter(|job| !job.node.unschedulable).collect();
        let load = |(at, room): (usize, &PlannedRoom)| {
            let taken = jobs.iter().filter_map(|job| {
                let offer = room.offers.get(&job.node.name)?;
                Some((millis(job.times.total()), *offer))
            });
            RoomLoad {
                at,
                resource: room.resource.clone(),
                nodes: u32::try_from(room.offers.len()).unwrap_or(u32::MAX),
                spare: room.spare,
                taken: taken.collect(),
            }
        };
        let rooms = plan.rooms.iter().enumerate();
        rooms
            .map(load)
            .filter(|load| !load.taken.is_empty())
            .collect()
    }
}

/// By pool: for how many nodes that fail there is to be room.
fn reserves(planned: &[PlannedPool], policy: &Policy) -> Vec<u32> {
    let reserve = |pool: &PlannedPool| policy.pools.reserve(&pool.name, pool.nodes);
    planned.iter().map(reserve).collect()
}

/// Why fewer nodes of a pool may be away than policy lets be; the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Scarce<'r> {
    /// Reversed: not even one of its nodes has room.
    is_too_little: Reverse<bool>,
    /// What there is to spare, in thousandths of what the pool may have away by its width.
    part: u64,
    resource: &'r str,
    nodes: usize,
}

impl Scarce<'_> {
    fn finding(&self, pool: &PlannedPool) -> Finding {
        let Self {
            resource, nodes, ..
        } = self;
        let object = ObjectName::cluster("Pool", &pool.name);
        let cure = format!(
            "more {resource} on these nodes, another node, or lower requests; an autoscaler that \
             adds nodes while pods wait does the same"
        );
        if self.is_too_little.0 {
            let evidence = format!(
                "by requests, the {nodes} nodes that its pods may use have too little {resource} \
                 to spare for its largest node to be away, even alone: pods will wait"
            );
            return Finding::new(TOO_LITTLE, Severity::Warning, object, evidence, cure);
        }
        let evidence = format!(
            "capacity may keep fewer of its nodes away at once than the {} that policy lets be: by \
             requests, the {nodes} nodes that its pods may use have no more {resource} to spare",
            pool.width
        );
        Finding::new(SCARCE, Severity::Info, object, evidence, cure)
    }
}
