//! How other tools choose nodes and wait for drains, written from what their
//! documentation and behaviour say, for the simulated cluster.
//!
//! Each is a handful of choices ([`Tool`]); one engine ([`run`]) does the rest for
//! all. Where something is not documented the choice is the one that is better for
//! the tool: pools side by side, no delay between two nodes, retries every 5 s.
//! No code of any tool was used.

mod engine;
mod order;
mod planned;

use migrate_core::{Phase, Policy, Role};
use migrate_plan::TargetKind;

use crate::cluster::Tally;
use crate::instance::Instance;
use crate::random::Random;
pub use engine::run;
pub use planned::{Marking, run_planned};

/// Seconds in the milliseconds of the simulated cluster.
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// In which order nodes are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Order {
    /// As the cloud lists them; here by name.
    Listed,
    /// By zone, the oldest first in each.
    ZoneAge,
    /// By a hash of node and plan: arbitrary, and the same each time.
    Hash,
    /// Drawn.
    Random,
    /// In batches none of which has two nodes that share a budget without enough
    /// to spare, nodes that share with many others first; a batch begins when the
    /// one before is done.
    Colours,
    /// As the plan has them.
    Planned,
}

/// How many nodes at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Width {
    /// So many of each pool.
    OfPool(u32),
    /// So many per cent of each pool, at most so many, at least 1.
    Percent(u32, u32),
    /// So many of all.
    Total(u32),
    /// As the policy of the cluster says for each pool, at most so many.
    Policy(u32),
}

/// How pods are kept off nodes that are still to be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Old {
    /// Not at all.
    AsTheyAre,
    /// A taint has the scheduler prefer others.
    Tainted,
    /// They are all cordoned before the first drain.
    Cordoned,
}

/// What follows when the patience with a drain is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Then {
    /// The update fails; somebody starts it again, here at once.
    Fail,
    /// What is left is deleted.
    Force,
}

/// One tool's choices. Times are milliseconds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tool {
    /// Its name, with the setting if that is not its default.
    pub name: String,
    /// In which order nodes are taken.
    pub order: Order,
    /// One pool after the other.
    pub pools_in_turn: bool,
    /// How many nodes at once.
    pub width: Width,
    /// A node is begun only if the budgets of all nodes in flight allow it too.
    pub is_joint: bool,
    /// A refused eviction is tried again after.
    pub retry: u64,
    /// After so long of retries there is a pause of so long.
    pub pause: Option<(u64, u64)>,
    /// How long a drain may last.
    pub patience: Option<(u64, Then)>,
    /// From the end of a drain until the node is changed.
    pub after_drain: u64,
    /// From the node being changed until the next may begin.
    pub after_node: u64,
    /// New nodes are begun at ticks of so long; 0: at once.
    pub poll: u64,
    /// How pods are kept off nodes still to be changed.
    pub old: Old,
    /// Nodes of each pool that are added before, and stay.
    pub surge: Surge,
}

/// How many nodes are added to each pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Surge {
    /// None.
    Nothing,
    /// So many.
    Nodes(u32),
    /// As many as may be away at once, but so many at least.
    Width(u32),
}

/// What an upgrade came to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// From the first drain to the last node being done, in milliseconds.
    pub makespan: u64,
    /// Evictions for each pod.
    pub moves_per_pod: f64,
    /// What else was counted.
    pub tally: Tally,
    /// Nodes that are done; fewer than all where it came to a standstill.
    pub done: usize,
}

impl Tool {
    fn new(name: &str, order: Order, width: Width) -> Self {
        Self {
            name: name.to_owned(),
            order,
            pools_in_turn: false,
            width,
            is_joint: false,
            retry: 5 * SECOND,
            pause: None,
            patience: None,
            after_drain: 0,
            after_node: 0,
            poll: 0,
            old: Old::AsTheyAre,
            surge: Surge::Nothing,
        }
    }

    /// kOps: instance groups one after the other, in each as many at once as its
    /// `maxSurge` (1) allows, old nodes tainted; 5 s after a drain, an interval of 15 s,
    /// and a validation that must hold twice, 30 s apart.
    pub fn kops(width: Width) -> Self {
        let tool = Self::new("kOps: groups in turn", Order::Listed, width);
        Self {
            pools_in_turn: true,
            patience: Some((15 * MINUTE, Then::Fail)),
            after_drain: 5 * SECOND,
            after_node: 15 * SECOND + 30 * SECOND,
            old: Old::Tainted,
            surge: Surge::Width(1),
            ..tool
        }
    }

    /// OpenShift's machine config operator: by zone and age, `maxUnavailable` (1) of
    /// each pool, a drain of 90 s and another attempt a minute later.
    pub fn openshift(width: Width) -> Self {
        let tool = Self::new("OpenShift: zone, then age", Order::ZoneAge, width);
        Self {
            pause: Some((90 * SECOND, MINUTE)),
            ..tool
        }
    }

    /// The system upgrade controller: by a hash, `concurrency` (1 to 2 in its
    /// examples) of all nodes.
    pub fn suc(width: Width) -> Self {
        Self::new("system-upgrade-controller: hash", Order::Hash, width)
    }

    /// EKS managed node groups: at random, `maxUnavailable` (1; a count to 100 or a
    /// percentage) of each group, twice the zones or as many as may be away added
    /// before, old nodes cordoned after that; 15 minutes for a drain, and a minute
    /// after it.
    pub fn eks(width: Width) -> Self {
        let tool = Self::new("EKS: random", Order::Random, width);
        Self {
            patience: Some((15 * MINUTE, Then::Fail)),
            after_drain: MINUTE,
            old: Old::Cordoned,
            surge: Surge::Width(6),
            ..tool
        }
    }

    /// GKE surge upgrades: in no defined order, 20 of a pool at once with as many
    /// added before; budgets are kept to for an hour.
    pub fn gke(width: Width) -> Self {
        let tool = Self::new("GKE surge: no order", Order::Hash, width);
        Self {
            patience: Some((60 * MINUTE, Then::Force)),
            surge: Surge::Width(1),
            ..tool
        }
    }

    /// As the cluster autoscaler removes nodes: greedily those whose pods the budgets
    /// allow to leave together with those of all nodes in flight (its drain parallelism
    /// is 1), a look every 10 s, retries every 10 s.
    pub fn autoscaler(width: Width) -> Self {
        let tool = Self::new("cluster-autoscaler: joint budgets", Order::Listed, width);
        Self {
            is_joint: true,
            retry: 10 * SECOND,
            poll: 10 * SECOND,
            ..tool
        }
    }

    /// Batches by colouring the graph of nodes that share a budget, each with a
    /// barrier.
    pub fn colours(width: Width) -> Self {
        Self::new("batches by colouring, barrier", Order::Colours, width)
    }

    /// What a plan could do whose drains held each budget for their own pods of it
    /// alone: the plan's order and widths, without canaries and verification.
    /// `is_joint`: a node waits in line rather than cordoned.
    pub fn planned(is_joint: bool) -> Self {
        let name = match is_joint {
            true => "plan's order, holds by pod, joint (not built)",
            false => "plan's order, holds by pod (not built)",
        };
        let tool = Self::new(name, Order::Planned, Width::Policy(u32::MAX));
        Self {
            is_joint,
            retry: SECOND,
            ..tool
        }
    }

    /// All of them as they come, or with `maxUnavailable` set as the cluster's policy
    /// has it wherever the tool can be told.
    pub fn all(as_policy: bool) -> Vec<Self> {
        let or = |default: Width, most: u32| match as_policy {
            true => Width::Policy(most),
            false => default,
        };
        vec![
            Self::kops(or(Width::OfPool(1), u32::MAX)),
            Self::openshift(or(Width::OfPool(1), u32::MAX)),
            Self::suc(or(Width::Total(2), u32::MAX)),
            Self::eks(or(Width::OfPool(1), 100)),
            Self::gke(or(Width::OfPool(20), 20)),
            Self::autoscaler(or(Width::Total(1), u32::MAX)),
            Self::colours(Width::Policy(u32::MAX)),
        ]
    }
}

/// What changing each worker of the model takes, in milliseconds: lognormal around
/// what its pool takes in the mean, and the same for whoever does it.
pub fn change_times(instance: &Instance, sigma: f64) -> Vec<u64> {
    let random = &mut Random::stream(instance.seed, 5);
    let mean = |pool: &str| {
        let of_pool = TargetKind::Nodes {
            pool: pool.to_owned(),
        };
        let mut phases = instance.measured.phases.iter();
        let found = phases.find(|it| it.of == of_pool && it.phase == Phase::Upgrade);
        found.map_or(240_000, |it| it.total_millis / u64::from(it.targets.get()))
    };
    let workers = instance.model.nodes.iter();
    let workers = workers.filter(|node| node.role == Role::Worker);
    let times = workers.map(|node| {
        let mean = mean(instance.policy.pools.pool_of(node)) as f64;
        // The mean of a lognormal is above its median by e^(sigma²/2).
        let median = mean / (sigma * sigma / 2.0).exp();
        random.lognormal(median, sigma) as u64
    });
    times.collect()
}

/// How many nodes of each pool, as the tool is told.
fn width_of(width: Width, policy: &Policy, pool: &str, size: usize) -> usize {
    let size_of_pool = u32::try_from(size).unwrap_or(u32::MAX);
    let nodes = match width {
        Width::OfPool(nodes) => nodes,
        Width::Percent(percent, most) => (size_of_pool * percent / 100).clamp(1, most),
        Width::Total(_) => u32::MAX,
        Width::Policy(most) => policy.pools.width(pool, size_of_pool).min(most),
    };
    usize::try_from(nodes).unwrap_or(usize::MAX)
}
