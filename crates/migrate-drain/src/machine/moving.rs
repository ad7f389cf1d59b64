//! Moving single pods off a node that stays in use.
//!
//! It is a drain of these pods only: the same budgets, requests, deadlines and
//! answers. What it lacks is the cordon, and so also the claim that the node is
//! empty in the end. Whether the scheduler takes the node again for the next pod
//! is for whoever asked to look at.

use migrate_core::spread::PodMove;
use migrate_core::steps::{DrainEvent, DrainFailureKind, DrainOutcome};

use super::Drain;
use super::io::Output;
use super::state::{NodeDrain, Stage, Timer};

impl Drain {
    /// Takes note of pods that are to be moved, if their node is not changing.
    pub(super) fn begin_move(&mut self, node: String, pods: Vec<PodMove>) {
        let busy = match self.nodes.get(&node) {
            Some(other) if other.only.is_some() => return,
            Some(_) => true,
            None => self.releases.contains_key(&node),
        };
        if busy {
            let outcome = DrainOutcome::Failed {
                kind: DrainFailureKind::Overtaken,
                reason: "its node is being drained or given back".to_owned(),
                retryable: true,
            };
            let ended = DrainEvent::Moved { node, outcome };
            self.outputs.push_back(Output::Done(ended));
            return;
        }
        self.next_seq += 1;
        let deadline = self.now + self.options.pod_deadline;
        let mut moving = NodeDrain::new(self.next_seq, deadline);
        moving.only = Some(pods);
        self.nodes.insert(node.clone(), moving);
        self.timer(deadline, Timer::Node(node.clone()));
        self.dirty.insert(node);
    }

    /// Everything has been seen: asks those that are still there. The workload of
    /// one that has gone is waited for like that of the others, for an earlier
    /// runner may have moved it.
    pub(super) fn open_move(&mut self, node: &str) {
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        drain.stage = Stage::Draining;
        let pods = drain.only.clone().unwrap_or_default();
        for one in &pods {
            self.touch_workload(node, &one.workload, &one.pod);
            let is_here = |uid: &str| {
                let pod = self.view.pod(uid);
                pod.is_some_and(|pod| pod.node.as_deref() == Some(node))
            };
            if is_here(&one.pod.uid) {
                self.review_pod(node, &one.pod.uid);
            }
        }
        self.dirty.insert(node.to_owned());
    }

    /// The node is wanted for something else.
    pub(super) fn leave_move(&mut self, node: &str, why: &str) {
        if self.nodes.get(node).is_some_and(|it| it.only.is_some()) {
            let outcome = DrainOutcome::Failed {
                kind: DrainFailureKind::Overtaken,
                reason: why.to_owned(),
                retryable: true,
            };
            self.finish(node, outcome);
        }
    }
}
