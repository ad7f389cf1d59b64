//! What is to be done with each node, in which order, and whether it can be.

use migrate_core::Node;

use super::times::Times;
use super::{Planner, measured, pins, transfers};
use crate::intern::{Interned, Share};

/// A node that is to be upgraded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'m> {
    /// Position in the model.
    pub(super) id: u32,
    pub(super) node: &'m Node,
    pub(super) pool: &'m str,
    pub(super) times: Times,
    /// That its drain displaces.
    pub(super) pods: u32,
    pub(super) outlook: Outlook,
    pub(super) canary: bool,
    /// How many nodes of its pool go before it, where the earlier plan has it pinned.
    pub(super) pinned: Option<u32>,
}

/// Whether a node can be drained, the best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Outlook {
    Goes,
    /// Two budgets guard a pod of it: it is planned as if one of them were gone.
    GoesIfCured,
    /// A budget never lets a pod of it go, nobody has agreed to move one, or it is not
    /// Ready: it has no time in the schedule.
    Stays,
}

impl<'a> Planner<'a> {
    /// The nodes that are not at the target, in no order.
    pub(super) fn jobs(&self, interned: &Interned<'a>) -> Vec<Job<'a>> {
        let renewed = self.renewed();
        let mut outlooks = vec![Outlook::Goes; self.model.nodes.len()];
        for &node in &interned.doubly_guarded {
            outlooks[node as usize] = Outlook::GoesIfCured;
        }
        // By node: how often pods of a budget have to wait for others of it.
        let mut turns = vec![1u32; self.model.nodes.len()];
        for (budget, shares) in interned.shares() {
            for &Share { node, pods } in shares {
                if budget.steady == 0 {
                    outlooks[node as usize] = Outlook::Stays;
                }
                if pods > budget.steady.max(1) && !renewed.covers(budget, node) {
                    let turns = &mut turns[node as usize];
                    *turns = pods.div_ceil(budget.steady.max(1)).max(*turns);
                }
            }
        }
        for &node in &interned.asking {
            outlooks[node as usize] = Outlook::Stays;
        }
        let pools = self.pools(interned);
        let surges: Vec<bool> = pools.iter().map(|pool| pool.surge > 0).collect();
        let fetch = transfers::alone(&self.links, 1, 0);
        let mut jobs = Vec::new();
        for (id, node) in (0..).zip(&self.model.nodes) {
            if self.is_to_change(node) {
                let (durations, policy) = (&self.durations, self.policy);
                let load = interned.loads[id as usize];
                let pods = load.pods.saturating_sub(renewed.pods(id));
                let load = (pods > 0).then_some(load);
                let turns = turns[id as usize];
                let times = Times::of_node(durations, policy, load, turns, node.role);
                jobs.push(Job {
                    id,
                    node,
                    pool: interned.pools.name_of(id),
                    times: match surges[interned.pools.id_of(id) as usize] {
                        true => times.replacing(durations),
                        false => times,
                    }
                    .fetching(fetch)
                    .pulling(transfers::alone(&self.links, 0, pods.into())),
                    pods,
                    outlook: match node.ready {
                        true => outlooks[id as usize],
                        false => Outlook::Stays,
                    },
                    canary: false,
                    pinned: None,
                });
            }
        }
        if let Some(means) = &self.measured {
            measured::apply(means, &mut jobs);
            for job in &mut jobs {
                let pulls = transfers::alone(&self.links, 0, job.pods.into());
                job.times = job.times.pulling(pulls);
            }
        }
        if let Some(parent) = self.parent {
            pins::take_over(&mut jobs, parent);
        }
        jobs
    }
}
