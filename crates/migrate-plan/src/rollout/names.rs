//! The names behind a machine's ids.

use std::collections::BTreeSet;

use migrate_core::policy::{CONTROL_PLANE_POOL, ZonePolicy};
use migrate_core::{
    BudgetKey, ClusterModel, KubeVersion, Phase, Plan, PlannedPool, PlannedRoom, Policy, Target,
};

use crate::Error;
use crate::intern::Interned;
use crate::machine::{PoolRules, RoomSpec, SlotSpec, Spec, TaskSpec};
use crate::view::ensure_known;

/// Names by id and ids by name; fixed for a rollout.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) plan: String,
    to: KubeVersion,
    /// Versions there are newer than `to`, and none of them is done.
    pub(super) is_way_back: bool,
    members: Vec<(String, KubeVersion)>,
    /// Versions before, by slot.
    slots: Vec<KubeVersion>,
    tasks: Vec<Target>,
    /// The version of a task before.
    before: KubeVersion,
    pools: Vec<String>,
    /// By pool: the version it goes to, if that is one of its own.
    own_targets: Vec<Option<KubeVersion>>,
    zones: Vec<String>,
    /// The resources that rooms are of.
    rooms: Vec<String>,
    nodes: Vec<String>,
    nodes_by_name: Vec<u32>,
    uids: Vec<String>,
    budgets: Vec<BudgetKey>,
    budgets_by_key: Vec<u32>,
}

impl Names {
    /// Checks that the plan belongs to `model` and `policy`.
    pub(super) fn new(plan: &Plan, model: &ClusterModel, policy: &Policy) -> Result<Self, Error> {
        ensure_known(plan)?;
        model.ensure_known()?;
        if plan.cluster != model.cluster {
            return Err(Error::OtherCluster {
                plan: plan.id.clone(),
                expected: plan.cluster.clone(),
                found: model.cluster.clone(),
            });
        }
        if !policy.has_identity(&plan.policy_hash) {
            return Err(Error::OtherPolicy {
                plan: plan.id.clone(),
                expected: plan.policy_hash.clone(),
                found: policy.identity(),
            });
        }
        let members = plan.control_plane.iter();
        let nodes: Vec<String> = model.nodes.iter().map(|node| node.name.clone()).collect();
        Ok(Self {
            plan: plan.id.clone(),
            to: plan.to.clone(),
            is_way_back: plan.way_back().is_some(),
            members: members.map(|m| (m.name.clone(), m.from.clone())).collect(),
            slots: plan.slots.iter().map(|slot| slot.from.clone()).collect(),
            tasks: plan.tasks.iter().map(|task| task.target.clone()).collect(),
            before: plan.from.clone(),
            pools: plan.pools.iter().map(|pool| pool.name.clone()).collect(),
            own_targets: plan.pools.iter().map(|pool| pool.to.clone()).collect(),
            zones: zones(model).into_iter().map(str::to_owned).collect(),
            rooms: plan
                .rooms
                .iter()
                .map(|room| room.resource.clone())
                .collect(),
            nodes_by_name: sorted_ids(&nodes),
            nodes,
            uids: model.nodes.iter().map(|node| node.uid.clone()).collect(),
            budgets: Vec::new(),
            budgets_by_key: Vec::new(),
        })
    }

    pub(super) fn with_budgets(mut self, interned: &Interned<'_>) -> Self {
        self.budgets = interned
            .budgets
            .iter()
            .map(|budget| budget.source.key())
            .collect();
        self.budgets_by_key = sorted_ids(&self.budgets);
        self
    }

    pub(super) fn nodes(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn node(&self, name: &str) -> Option<u32> {
        find(&self.nodes_by_name, |id| self.nodes[id].as_str().cmp(name))
    }

    pub(super) fn node_name(&self, node: u32) -> &str {
        &self.nodes[node as usize]
    }

    /// The uid that a node has in the model.
    pub(super) fn uid(&self, node: u32) -> Option<&str> {
        let uid = self.uids.get(node as usize)?;
        (!uid.is_empty()).then_some(uid)
    }

    pub(super) fn budget(&self, key: &BudgetKey) -> Option<u32> {
        find(&self.budgets_by_key, |id| self.budgets[id].cmp(key))
    }

    pub(super) fn budget_key(&self, budget: u32) -> &BudgetKey {
        &self.budgets[budget as usize]
    }

    /// Those of all budgets, by id.
    pub(super) fn budgets(&self) -> &[BudgetKey] {
        &self.budgets
    }

    pub(super) fn member(&self, member: u32) -> &str {
        &self.members[member as usize].0
    }

    pub(super) fn task(&self, task: u32) -> &Target {
        &self.tasks[task as usize]
    }

    pub(super) fn pool(&self, pool: u32) -> &str {
        &self.pools[pool as usize]
    }

    /// The version after, of nodes of `pool` or of what is in none.
    pub(super) fn to(&self, pool: Option<u32>) -> &KubeVersion {
        let own = pool.and_then(|pool| self.own_targets.get(pool as usize)?.as_ref());
        own.unwrap_or(&self.to)
    }

    /// Empty for nodes without one.
    pub(super) fn zone(&self, zone: u32) -> &str {
        self.zones.get(zone as usize).map_or("", String::as_str)
    }

    /// The resource that a room is of.
    pub(super) fn room(&self, room: u32) -> &str {
        &self.rooms[room as usize]
    }

    /// The version of a target before.
    pub(super) fn from(&self, target: u32) -> &KubeVersion {
        let target = target as usize;
        match target.checked_sub(self.members.len()) {
            Some(slot) => self.slots.get(slot).unwrap_or(&self.before),
            None => &self.members[target].1,
        }
    }
}

/// Puts a plan into ids that belongs to `model` and `policy`.
///
/// # Errors
/// As [`Rollout::new`](crate::Rollout::new).
pub(crate) fn checked_spec(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    interned: &Interned<'_>,
) -> Result<Spec, Error> {
    let names = Names::new(plan, model, policy)?;
    spec(plan, model, policy, interned, |_, name| names.node(name))
}

/// The rooms of the plan in ids. The machine counts in 32 bits: what is larger is counted in
/// [units](unit), offers rounded up and what there is to spare down.
fn rooms(plan: &Plan, model: &ClusterModel) -> Result<Vec<RoomSpec>, String> {
    if plan.rooms.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = model.nodes.iter().map(|node| node.name.as_str()).collect();
    let by_name = sorted_ids(&names);
    let node = |name: &str| find(&by_name, |id| names[id].cmp(name));
    let room = |room: &PlannedRoom| {
        let unit = unit(room);
        let count = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX);
        let offers = room.offers.iter().filter(|(_, offer)| **offer > 0);
        let offers = offers.map(|(name, offer)| {
            let node = node(name).ok_or_else(|| format!("the cluster has no node {name}"))?;
            Ok((node, count(offer.div_ceil(unit))))
        });
        let mut offers = offers.collect::<Result<Vec<_>, String>>()?;
        offers.sort_by_key(|(_, offer)| *offer);
        Ok(RoomSpec {
            spare: count(room.spare / unit),
            offers,
        })
    };
    plan.rooms.iter().map(room).collect()
}

/// What amounts of `room` are counted in, so that there are less than 2^31 to spare: 1, what
/// all offers are multiples of, with which no sum is told otherwise, or 2, 4, 8 … times that.
fn unit(room: &PlannedRoom) -> u64 {
    const MOST: u64 = 1 << (u32::BITS - 1);
    if room.spare < MOST {
        return 1;
    }
    // What offers more takes all there is.
    let offers = room.offers.values().filter(|offer| **offer <= room.spare);
    let common = offers.fold(0, |common, offer| gcd(common, *offer)).max(1);
    let bits = u64::BITS - (room.spare / common).leading_zeros();
    common << bits.saturating_sub(u32::BITS - 1)
}

fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}

/// Puts the plan into ids; `node` finds the node of the model that a slot names by the
/// slot's place in the plan, or by its name.
pub(crate) fn spec(
    plan: &Plan,
    model: &ClusterModel,
    policy: &Policy,
    interned: &Interned<'_>,
    node: impl Fn(usize, &str) -> Option<u32>,
) -> Result<Spec, Error> {
    let inconsistent = |problem: String| Error::Inconsistent {
        plan: plan.id.clone(),
        problem,
    };
    let pools: Vec<&str> = plan.pools.iter().map(|pool| pool.name.as_str()).collect();
    let by_name = sorted_ids(&pools);
    let pool_id = |name: &str| find(&by_name, |id| pools[id].cmp(name));
    let known = interned.pools.all().map(|(name, _)| pool_id(name));
    let known: Vec<u32> = known.map(|id| id.unwrap_or(u32::MAX)).collect();
    let node_pools = (0u32..).zip(&model.nodes);
    let node_pools = node_pools.map(|(id, _)| known[interned.pools.id_of(id) as usize]);
    let mut node_pools: Vec<u32> = node_pools.collect();
    let zones = match policy.pools.zones {
        ZonePolicy::OneAtATime => zones(model),
        _ => Vec::new(),
    };
    let mut taken = vec![false; model.nodes.len()];
    let mut slots = Vec::with_capacity(plan.slots.len());
    for (at, slot) in plan.slots.iter().enumerate() {
        let pool = pool_id(&slot.pool)
            .ok_or_else(|| inconsistent(format!("it has no pool {}", slot.pool)))?;
        let node = node(at, &slot.node)
            .ok_or_else(|| inconsistent(format!("the cluster has no node {}", slot.node)))?;
        if std::mem::replace(&mut taken[node as usize], true) {
            return Err(inconsistent(format!("node {} is in two slots", slot.node)));
        }
        node_pools[node as usize] = pool;
        let zone = model.nodes[node as usize].zone().unwrap_or_default();
        let zone = zones.binary_search(&zone).ok();
        slots.push(SlotSpec {
            node,
            pool,
            canary: slot.canary,
            hosts_runner: slot.hosts_runner,
            length: slot.length,
            zone: zone
                .filter(|_| slot.pool != CONTROL_PLANE_POOL)
                .and_then(|zone| u32::try_from(zone).ok())
                .unwrap_or(u32::MAX),
        });
    }
    let mut tasks = Vec::with_capacity(plan.tasks.len());
    for task in &plan.tasks {
        let first = match &task.target {
            Target::Addon { .. } => Phase::Upgrade,
            Target::Backup => Phase::BackUp,
            other => return Err(inconsistent(format!("{other} is no task"))),
        };
        let (at, length) = (task.at, task.length);
        tasks.push(TaskSpec { at, first, length });
    }
    let in_order = plan.tasks.is_sorted_by_key(|task| task.at);
    let targets: BTreeSet<_> = plan.tasks.iter().map(|task| &task.target).collect();
    if !in_order || targets.len() < tasks.len() {
        return Err(inconsistent(
            "its tasks are out of order, or one is there twice".to_owned(),
        ));
    }
    let nodes_first = policy.rollout.control_plane_nodes_first;
    let rooms = rooms(plan, model).map_err(inconsistent)?;
    Ok(Spec {
        rooms,
        control_plane: nodes_first.then(|| pool_id(CONTROL_PLANE_POOL)).flatten(),
        calendar: policy.rollout.calendar(),
        member_lengths: plan.control_plane.iter().map(|m| m.length).collect(),
        members: u32::try_from(plan.control_plane.len()).unwrap_or(u32::MAX),
        slots,
        tasks,
        widths: plan.pools.iter().map(|pool| pool.width).collect(),
        rules: plan.pools.iter().map(|pool| rules(pool, policy)).collect(),
        node_pools,
        node_states: model
            .nodes
            .iter()
            .map(|node| (node.ready, node.unschedulable))
            .collect(),
        then: policy.deadlines.then,
        patience: policy.deadlines.drain,
        canary_soak: policy.rollout.canary_soak,
        max_failed: policy.rollout.max_failed_nodes,
        displaced_per_minute: policy.rollout.displaced_per_minute,
    })
}

/// What holds the slots of `pool` back besides its width.
fn rules(pool: &PlannedPool, policy: &Policy) -> PoolRules {
    let stages = policy.pools.stages(&pool.name);
    let ends = stages.iter().scan(0u32, |end, stage| {
        *end = end.saturating_add(*stage);
        Some(*end)
    });
    PoolRules {
        stages: ends.collect(),
        reserve: policy.pools.reserve(&pool.name, pool.nodes),
        surge: pool.surge,
        provision: pool.provision,
    }
}

/// The zones of all nodes, in order; an empty name for those without one.
fn zones(model: &ClusterModel) -> Vec<&str> {
    let zones = model.nodes.iter().map(|n| n.zone().unwrap_or_default());
    let zones: BTreeSet<&str> = zones.collect();
    zones.into_iter().collect()
}

fn sorted_ids<T: Ord>(values: &[T]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..).take(values.len()).collect();
    ids.sort_unstable_by(|a, b| values[*a as usize].cmp(&values[*b as usize]));
    ids
}

fn find(ids: &[u32], compare: impl Fn(usize) -> std::cmp::Ordering) -> Option<u32> {
    ids.binary_search_by(|id| compare(*id as usize))
        .ok()
        .map(|at| ids[at])
}
