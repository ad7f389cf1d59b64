//! The stages of a node's drain up to its cordon.

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::steps::{DrainFailureKind, DrainOutcome};
use migrate_core::{
    Consent, Disposition, EventKind, NeedsConsent, Pod, PodId, Wait, WorkloadId, disposition,
};

use super::io::{Failure, Output};
use super::state::{Stage, Timer, backoff};
use super::{Drain, finding};

/// After this long an API server has dropped a request (`--request-timeout`, one
/// minute by default), so that it does not take effect any more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

impl Drain {
    /// Looks at a node that is being drained.
    pub(super) fn review(&mut self, node: &str) {
        let Some(drain) = self.nodes.get(node) else {
            return;
        };
        if let Some(failure) = &self.blind {
            let failure = failure.clone();
            return self.end_failed(node, failure);
        }
        if drain.deadline <= self.now {
            return self.give_up(node);
        }
        match drain.stage {
            Stage::New if self.synced && drain.only.is_some() => self.open_move(node),
            Stage::New if self.synced => self.assess(node),
            Stage::Cordoning if drain.retry.is_some_and(|at| at <= self.now) => {
                self.ask_cordon(node);
            }
            Stage::New | Stage::Cordoning => {}
            Stage::Draining | Stage::Looking => {
                self.queue_tied(node);
                self.report_waiting(node);
                self.conclude(node);
            }
        }
    }

    // Before the cordon.

    /// Decides whether the drain may begin: nothing has been changed yet.
    fn assess(&mut self, node: &str) {
        let Some(uid) = self.view.node(node).map(|node| node.uid.clone()) else {
            let reason = format!("there is no node {node}; correct the name");
            return self.fail(node, DrainFailureKind::NoSuchNode, reason);
        };
        if self.waits_for_places(node) {
            return;
        }
        let pods: Vec<Pod> = self.view.pods_on(node).cloned().collect();
        let mut consents: Vec<(PodId, NeedsConsent)> = Vec::new();
        for pod in &pods {
            let tied = self.tied(pod);
            match disposition(pod, &self.options.consent, tied.as_deref()) {
                Disposition::NeedsConsent(to) => consents.push((pod.id.clone(), to)),
                Disposition::Evict => {
                    if let Some(why) = tied {
                        let finding = finding::downtime(pod, &why);
                        self.event(EventKind::Found { finding });
                    }
                }
                _ => {}
            }
        }
        if !consents.is_empty() {
            consents.sort_by(|a, b| a.0.cmp(&b.0));
            return self.needs_consent(node, consents);
        }
        self.recall_tied(node);
        let (now, dry_run) = (self.now, self.options.dry_run);
        let deadline = now + self.options.drain_deadline;
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        drain.uid = Some(uid);
        drain.deadline = deadline;
        self.timer(deadline, Timer::Node(node.to_owned()));
        if dry_run {
            self.begin(node);
        } else {
            self.ask_cordon(node);
        }
    }

    /// Why only its node can host the pod, for pods that would be moved.
    pub(super) fn tied(&self, pod: &Pod) -> Option<String> {
        let mut all = Consent::default();
        all.downtime = true;
        match disposition(pod, &all, None) {
            Disposition::Leave(_) | Disposition::Wait(Wait::Terminating) => None,
            _ => self.view.only_host(&pod.id.uid),
        }
    }

    /// Pods tied to the node that an earlier attempt has moved already.
    fn recall_tied(&mut self, node: &str) {
        let mut missing: BTreeMap<WorkloadId, u32> = BTreeMap::new();
        for (id, workload) in self.tied_before.get(node).into_iter().flatten() {
            let here = self
                .view
                .pods_on(node)
                .any(|pod| pod.id.namespace == id.namespace && pod.id.name == id.name);
            if !here {
                *missing.entry(workload.clone()).or_default() += 1;
            }
        }
        for (workload, count) in missing {
            let away = self.away.entry(node.to_owned()).or_default();
            away.entry(workload).or_insert(count);
        }
    }

    pub(super) fn needs_consent(&mut self, node: &str, pods: Vec<(PodId, NeedsConsent)>) {
        for (pod, to) in &pods {
            self.event(EventKind::PodNeedsConsent {
                node: node.to_owned(),
                pod: pod.clone(),
                to: to.clone(),
            });
        }
        self.finish(node, DrainOutcome::NeedsConsent { pods });
    }

    // The cordon.

    pub(super) fn ask_cordon(&mut self, node: &str) {
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        drain.stage = Stage::Cordoning;
        drain.retry = None;
        // From now on it is among those that were asked.
        let room = self.room(node);
        self.outputs.push_back(Output::Cordon {
            node: node.to_owned(),
            room,
        });
    }

    /// Its pool was full when it was to be cordoned. After an attempt without
    /// an answer a cordon may still come: then it is not let go yet.
    pub(super) fn no_room(&mut self, node: &str, away: Vec<String>) {
        let now = self.now;
        let Some(drain) = self.nodes.get(node).filter(|d| d.stage == Stage::Cordoning) else {
            return;
        };
        let pools = self.options.pools.as_ref();
        let pool = pools
            .and_then(|pools| pools.name_of(node))
            .unwrap_or_default();
        let failed_at = drain.cordon.failed_at;
        if failed_at.is_none_or(|at| now >= at + REQUEST_TIMEOUT) {
            let pool = pool.to_owned();
            return self.finish(node, DrainOutcome::NoRoom { pool, away });
        }
        let reason = format!("pool {pool} is full with {}", away.join(", "));
        self.cordon_later(node, &reason);
    }

    pub(super) fn cordoned(&mut self, node: &str, was_unschedulable: bool) {
        let Some(drain) = self.nodes.get(node).filter(|d| d.stage == Stage::Cordoning) else {
            return;
        };
        let first = drain.cordon.at.is_none();
        if first && !was_unschedulable {
            self.event(EventKind::Cordoned {
                node: node.to_owned(),
            });
        }
        self.begin(node);
    }

    pub(super) fn cordon_failed(&mut self, node: &str, failure: &Failure) {
        let now = self.now;
        let Some(drain) = self
            .nodes
            .get_mut(node)
            .filter(|d| d.stage == Stage::Cordoning)
        else {
            return;
        };
        if failure.is_absence() {
            return self.lost(node);
        }
        if !failure.retryable {
            let reason = format!("cordon: {}", failure.reason);
            return self.fail(node, failure.kind, reason);
        }
        drain.cordon.failed_at = Some(now);
        self.cordon_later(node, &failure.reason);
    }

    fn cordon_later(&mut self, node: &str, reason: &str) {
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        drain.cordon.failures += 1;
        let at = self.now + backoff(drain.cordon.failures);
        drain.retry = Some(at);
        self.timer(at, Timer::Node(node.to_owned()));
        self.say_waiting(node, Some(format!("its cordon: {reason}")));
    }

    /// The cordon is confirmed: pods may be asked to go.
    fn begin(&mut self, node: &str) {
        let now = self.now;
        let cordoned = self.view.node(node).is_some_and(|node| node.unschedulable);
        let Some(drain) = self.nodes.get_mut(node) else {
            return;
        };
        drain.stage = Stage::Draining;
        drain.cordon.failures = 0;
        drain.cordon.seen = cordoned;
        drain.cordon.at = Some(now);
        self.timer(now + self.options.settle, Timer::Node(node.to_owned()));
        let uids: Vec<String> = self
            .view
            .pods_on(node)
            .map(|pod| pod.id.uid.clone())
            .collect();
        for uid in uids {
            self.review_pod(node, &uid);
        }
        self.dirty.insert(node.to_owned());
    }
}
