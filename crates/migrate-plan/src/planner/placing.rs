//! Where pods go in a schedule: what the plan says of it.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::{
    Destination, Finding, Moment, Node, ObjectName, Phase, Plan, Relocation, Severity, WaitForRoom,
    listed,
};

use super::Job;
use super::room::Room;
use super::simulate::Step;
use crate::placement::{Moves, Stop};

/// Workloads that end on one node.
const CROWDED: &str = "KM-SPREAD-003";
/// How many names a list shows.
const NAMES_SHOWN: usize = 5;

impl Room<'_> {
    /// Predicts where pods go, and gives what there is to be said about it.
    pub(super) fn place(
        &self,
        plan: &mut Plan,
        jobs: &[Job<'_>],
        steps: &[Step],
        destinations: bool,
    ) -> Vec<Finding> {
        let stops = self.stops(jobs, steps, plan.control_plane.len());
        let (relocation, found) = self.relocation(jobs, &stops, destinations);
        plan.relocation = Some(relocation);
        found
    }

    /// What `stops` do to pods, and what there is to be said about it.
    fn relocation(
        &self,
        jobs: &[Job<'_>],
        stops: &[Stop],
        destinations: bool,
    ) -> (Relocation, Vec<Finding>) {
        let available = |node: u32| {
            let node = &self.model.nodes[node as usize];
            node.ready && !node.unschedulable
        };
        let moves = self.land.run(stops, available, destinations);
        let mut relocation = Relocation::new(moves.pods, moves.evictions, moves.least);
        relocation.homeless = moves.homeless.len() as u64;
        relocation.waits = self.waits(&moves);
        let crowded = moves.crowded.iter();
        let crowded = crowded.map(|workload| self.land.workload(*workload));
        relocation.crowded = crowded.collect();
        relocation.crowded.sort_unstable();
        relocation.destinations = self.destinations(&moves);
        let mut found = self.of_homeless(jobs, &moves);
        found.extend(of_crowded(&relocation.crowded));
        (relocation, found)
    }

    /// When each node is away, in the order of their drains.
    fn stops(&self, jobs: &[Job<'_>], steps: &[Step], members: usize) -> Vec<Stop> {
        let slot = |step: &Step| (step.target as usize).checked_sub(members);
        let mut opens = vec![u64::MAX; jobs.len()];
        for step in steps.iter().filter(|step| step.phase == Phase::Verify) {
            if let Some(open) = slot(step).and_then(|slot| opens.get_mut(slot)) {
                *open = self.millis(step.end);
            }
        }
        let mut is_replaced = vec![false; jobs.len()];
        for step in steps.iter().filter(|step| step.phase == Phase::Provision) {
            if let Some(is_replaced) = slot(step).and_then(|slot| is_replaced.get_mut(slot)) {
                *is_replaced = true;
            }
        }
        let drains = steps.iter().filter(|step| step.phase == Phase::Drain);
        let stop = |step: &Step| {
            let slot = slot(step)?;
            Some(Stop {
                node: jobs.get(slot)?.id,
                close: self.millis(step.begin),
                open: opens[slot],
                is_replaced: is_replaced[slot],
            })
        };
        drains.filter_map(stop).collect()
    }

    fn millis(&self, at: Moment) -> u64 {
        super::measured::millis(at.since(self.start))
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        &self.model.nodes[node as usize]
    }

    /// By whose pods they are.
    fn waits(&self, moves: &Moves) -> Vec<WaitForRoom> {
        let mut waits: BTreeMap<ObjectName, (WaitForRoom, u64)> = BTreeMap::new();
        for homeless in &moves.homeless {
            let object = self.land.object(homeless.pod);
            let since = Duration::from_millis(homeless.since);
            let node = &self.node(homeless.from).name;
            let (wait, longest) = waits
                .entry(object)
                .or_insert_with_key(|object| (WaitForRoom::new(object.clone(), 0, node, since), 0));
            wait.pods += 1;
            *longest = (*longest).max(match homeless.until {
                u64::MAX => u64::MAX,
                until => until - homeless.since,
            });
        }
        let mut waits: Vec<WaitForRoom> = waits
            .into_values()
            .map(|(mut wait, longest)| {
                wait.longest = (longest < u64::MAX).then(|| Duration::from_millis(longest));
                wait
            })
            .collect();
        waits.sort_by(|a, b| b.pods.cmp(&a.pods).then_with(|| a.object.cmp(&b.object)));
        waits.truncate(Relocation::SHOWN);
        waits
    }

    fn destinations(&self, moves: &Moves) -> Vec<Destination> {
        let mut destinations: Vec<Destination> = Vec::new();
        let of_drain = moves.hops.chunk_by(|a, b| a.from == b.from);
        for hops in of_drain {
            let mut counts: BTreeMap<(u32, ObjectName), u32> = BTreeMap::new();
            for hop in hops {
                *counts
                    .entry((hop.to, self.land.object(hop.pod)))
                    .or_default() += 1;
            }
            let from = hops.first().map_or("", |hop| &self.node(hop.from).name);
            let destination =
                |((to, object), pods)| Destination::new(object, pods, from, &self.node(to).name);
            destinations.extend(counts.into_iter().map(destination));
        }
        destinations
    }
}

fn of_crowded(crowded: &[ObjectName]) -> Option<Finding> {
    (!crowded.is_empty()).then(|| {
        Finding::new(
            CROWDED,
            Severity::Info,
            ObjectName::cluster("Policy", "respread"),
            format!(
                "workloads whose pods are predicted to end on one node, although they stand on \
                 several: {} ({})",
                crowded.len(),
                listed(crowded, NAMES_SHOWN),
            ),
            "respread = true, or topologySpreadConstraints over kubernetes.io/hostname",
        )
    })
}
