//! Pods that find no room when their nodes are drained: on the way, or anywhere at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use migrate_core::cost::Bytes;
use migrate_core::{Finding, ObjectName, Severity, listed};

use super::Job;
use super::room::Room;
use crate::placement::{Homeless, Moves, Stuck};

/// Pods that find no room when they have to go.
const HOMELESS: &str = "KM-CAPACITY-001";
/// Nodes whose pods no other node ever takes.
const STUCK: &str = "KM-CAPACITY-004";
/// How many names a list shows.
const NAMES_SHOWN: usize = 5;

/// Pods of one pool of nodes without room.
#[derive(Default)]
struct OfPool {
    /// They find some, or may.
    waiting: Vec<Homeless>,
    /// They never do.
    stuck: Vec<(Homeless, Stuck)>,
}

impl Room<'_> {
    /// By the pool of the node that they have to leave.
    pub(super) fn of_homeless(&self, jobs: &[Job<'_>], moves: &Moves) -> Vec<Finding> {
        if moves.homeless.is_empty() {
            return Vec::new();
        }
        let mut pools: BTreeMap<&str, OfPool> = BTreeMap::new();
        let by_id: BTreeMap<u32, &str> = jobs.iter().map(|job| (job.id, job.pool)).collect();
        let stuck = self.land.stuck(&moves.homeless);
        for (homeless, stuck) in moves.homeless.iter().zip(stuck) {
            let Some(pool) = by_id.get(&homeless.from) else {
                continue;
            };
            let of_pool = pools.entry(pool).or_default();
            match stuck {
                Some(why) => of_pool.stuck.push((*homeless, why)),
                None => of_pool.waiting.push(*homeless),
            }
        }
        let found = pools.into_iter().flat_map(|(pool, of_pool)| {
            let waiting = self.of_waiting(jobs, pool, &of_pool.waiting);
            let stuck = self.of_stuck(jobs, pool, &of_pool.stuck);
            waiting.into_iter().chain(stuck)
        });
        found.collect()
    }

    fn of_waiting(&self, jobs: &[Job<'_>], pool: &str, waiting: &[Homeless]) -> Option<Finding> {
        if waiting.is_empty() {
            return None;
        }
        let mut names: BTreeMap<ObjectName, u64> = BTreeMap::new();
        for one in waiting {
            *names.entry(self.land.object(one.pod)).or_default() += 1;
        }
        let names = names.iter();
        let names = names.map(|(object, pods)| format!("{object}: {pods}"));
        let for_good = waiting.iter().filter(|one| one.until == u64::MAX).count();
        let for_good = match for_good {
            0 => "each finds some once another node is back".to_owned(),
            pods => format!("{pods} of them find none at all"),
        };
        let cure = match self.more_nodes(jobs, pool, waiting) {
            Ok(nodes) => format!("{nodes}, or fewer nodes away at once"),
            Err(larger) => format!("lower requests, or {larger}"),
        };
        Some(Finding::new(
            HOMELESS,
            Severity::Warning,
            ObjectName::cluster("Pool", pool),
            format!(
                "by their requests, pods are predicted to find no room when their nodes are \
                 drained: {} ({}); {for_good}",
                waiting.len(),
                listed(names, NAMES_SHOWN),
            ),
            cure,
        ))
    }

    /// A blocker: the drain of their nodes waits for them until its deadline, and fails.
    fn of_stuck(
        &self,
        jobs: &[Job<'_>],
        pool: &str,
        stuck: &[(Homeless, Stuck)],
    ) -> Option<Finding> {
        if stuck.is_empty() {
            return None;
        }
        let nodes: BTreeSet<&str> = stuck
            .iter()
            .map(|(one, _)| self.node(one.from).name.as_str())
            .collect();
        let mut reasons: BTreeMap<ObjectName, &Stuck> = BTreeMap::new();
        for (one, why) in stuck {
            reasons.entry(self.land.object(one.pod)).or_insert(why);
        }
        let reasons = reasons.iter();
        let reasons = reasons.map(|(object, why)| format!("{object}: {}", self.reason(why)));
        let pods: Vec<Homeless> = stuck.iter().map(|(one, _)| *one).collect();
        let more = match self.more_nodes(jobs, pool, &pods) {
            Ok(nodes) => nodes,
            Err(larger) => larger,
        };
        Some(Finding::new(
            STUCK,
            Severity::Blocker,
            ObjectName::cluster("Pool", pool),
            format!(
                "nodes that cannot be drained, since by their requests pods on them fit on no other \
                 node, whatever else is moved and were all others there: {} ({}); {}",
                nodes.len(),
                listed(&nodes, NAMES_SHOWN),
                listed(reasons, NAMES_SHOWN),
            ),
            format!(
                "lower these requests, or fewer replicas during the upgrade; or {more}; or waive it \
                 where an autoscaler adds nodes while pods wait"
            ),
        ))
    }

    fn reason(&self, why: &Stuck) -> String {
        let amount = |resource, of| Amount(self.land.resource(resource), of);
        match *why {
            Stuck::Large {
                resource,
                asked,
                most,
            } => format!(
                "asks for {}, and no other node that admits it has more than {} for it",
                amount(resource, asked),
                amount(resource, most),
            ),
            Stuck::Uneven => {
                "no other node that admits it has enough of all that it asks for".to_owned()
            }
            Stuck::Sum { resource, missing } => format!(
                "all pods that are tied to the nodes which admit it ask for {} more than the others \
                 of these have",
                amount(resource, missing),
            ),
            Stuck::Count {
                resource,
                pods,
                places,
            } => format!(
                "{pods} pods that are tied to the nodes which admit it ask for as much {}, and the \
                 others of these have places for {places}",
                self.land.resource(resource),
            ),
        }
    }

    /// What adds room for all of `homeless` that wait at the same time: so many more nodes of the
    /// largest shape of the pool, or else a larger one.
    fn more_nodes(
        &self,
        jobs: &[Job<'_>],
        pool: &str,
        homeless: &[Homeless],
    ) -> Result<String, String> {
        let jobs = jobs.iter().filter(|job| job.pool == pool);
        let largest = jobs.max_by_key(|job| {
            let offered = &job.node.allocatable;
            (
                offered.cpu_milli,
                offered.memory_bytes,
                std::cmp::Reverse(&job.node.name),
            )
        });
        let Some(largest) = largest else {
            return Ok("another node".to_owned());
        };
        let offered = &largest.node.allocatable;
        let shape = format!(
            "{} ({:.1} CPU, {:.1} GiB)",
            largest.node.name,
            offered.cpu_milli as f64 / 1000.0,
            offered.memory_bytes as f64 / f64::from(1 << 30),
        );
        match self.land.nodes_for(homeless, largest.id) {
            None => Err(format!(
                "a larger node than {shape}, the largest of the pool, for these"
            )),
            Some(1) => Ok(format!("one more node like {shape}")),
            Some(nodes) => Ok(format!("{nodes} more nodes like {shape}")),
        }
    }
}

/// So much of the resource of this name.
struct Amount<'a>(&'a str, u64);

impl fmt::Display for Amount<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self("cpu", milli) => write!(f, "{} CPU", milli as f64 / 1000.0),
            Self("memory", bytes) => write!(f, "{} memory", Bytes(bytes)),
            Self(name, of) => write!(f, "{of} {name}"),
        }
    }
}
