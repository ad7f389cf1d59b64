//! The drain as a pure state machine: no clock, no I/O, no tasks.
//!
//! [`Drain`] owns every node in flight. It is told what happened
//! ([`Drain::handle`]), says what to do ([`Drain::poll`]) and when it wants to
//! be woken ([`Drain::wake_at`]). The same inputs at the same moments always
//! give the same outputs.
//!
//! # Guarantees
//! Whatever inputs are lost, repeated or late:
//! * a pod is asked to go only after its node's cordon was confirmed, or because
//!   it was named ([`Input::Move`]), only
//!   with the uid last seen under its name, and only if every budget that
//!   counts it, real or assumed, can spare it with what is already on its way;
//! * every drain ends: by success, a missing consent, a refusal for good, or
//!   a deadline; and with it every request of that node;
//! * nothing comes out for a node that ended, or at all after a cancel, except
//!   [`Output::Abandon`].

mod answer;
mod ask;
mod conclude;
mod counted;
mod elsewhere;
mod finding;
mod hold;
mod io;
mod moving;
mod observe;
mod options;
mod pods;
mod release;
mod room;
mod slots;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use finding::codes;
pub use io::{Attachment, Failure, Input, Listed, Output, RequestId, Seen};
pub use options::Options;
pub use room::{Pools, Room};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use migrate_core::steps::{DrainEvent, DrainFailureKind, DrainOutcome};
use migrate_core::{
    BudgetKey, BudgetLedger, BudgetView, ClusterModel, EventKind, Hosts, Moment, PodId, WorkloadId,
};

use state::{Closed, Hold, NodeDrain, Rank, Release, Stage, Timer};
use view::View;

/// Drains of all nodes in flight, under one budget ledger.
#[derive(Clone, Debug)]
pub struct Drain {
    options: Options,
    now: Moment,
    view: View,
    ledger: BudgetLedger,
    /// By node, of the cluster before the run as far as it is known: pods that
    /// only it can host.
    tied_before: BTreeMap<String, Vec<(PodId, WorkloadId)>>,
    /// Ready pods by workload before the run.
    ready_before: BTreeMap<WorkloadId, u32>,
    synced: bool,
    cancelled: bool,
    /// Set once watching is impossible.
    blind: Option<Failure>,

    nodes: BTreeMap<String, NodeDrain>,
    releases: BTreeMap<String, Release>,
    /// By node that is not given back: pods of each workload that were asked
    /// to leave it and that only it can host.
    away: BTreeMap<String, BTreeMap<WorkloadId, u32>>,
    /// Ready pods of each touched workload when it was first touched.
    baseline: BTreeMap<WorkloadId, u32>,
    /// Pods that each counted workload wants.
    wanted: BTreeMap<WorkloadId, u32>,
    /// Uids of the pods of each that were asked to go.
    owed: BTreeMap<WorkloadId, BTreeSet<String>>,
    holds: BTreeMap<String, Hold>,

    requests: BTreeMap<RequestId, Request>,
    throttled_until: Option<Moment>,
    throttles: u32,
    /// Rounds of requests in a row whose credentials were not accepted.
    refusals_of_rights: u32,
    /// Budgets that the API said are exhausted while our ledger did not.
    closed: BTreeMap<BudgetKey, Closed>,
    queue: BTreeSet<Rank>,
    /// By namespace: node and uid of pods that wait for its budgets.
    blocked: BTreeMap<String, BTreeSet<(String, String)>>,

    /// Namespaces whose accounts may have changed.
    changed_accounts: BTreeSet<String>,
    /// Namespaces whose PodDisruptionBudgets have changed.
    changed_budgets: BTreeSet<String>,
    /// Nodes to look at.
    dirty: BTreeSet<String>,
    timers: BTreeSet<(Moment, Timer)>,
    outputs: VecDeque<Output>,
    next_seq: u64,
    next_request: u64,
}

/// A request in flight.
#[derive(Clone, Debug)]
struct Request {
    node: String,
    pod: PodId,
}

impl Drain {
    /// A machine that has seen nothing yet.
    pub fn new(options: Options) -> Self {
        let ledger = BudgetLedger::new(options.assumed_budgets.clone());
        let ledger = if options.guarded {
            ledger
        } else {
            ledger.unguarded()
        };
        Self {
            options,
            now: Moment::EPOCH,
            view: View::new(),
            ledger,
            tied_before: BTreeMap::new(),
            ready_before: BTreeMap::new(),
            synced: false,
            cancelled: false,
            blind: None,
            nodes: BTreeMap::new(),
            releases: BTreeMap::new(),
            away: BTreeMap::new(),
            baseline: BTreeMap::new(),
            wanted: BTreeMap::new(),
            owed: BTreeMap::new(),
            holds: BTreeMap::new(),
            requests: BTreeMap::new(),
            throttled_until: None,
            throttles: 0,
            refusals_of_rights: 0,
            closed: BTreeMap::new(),
            queue: BTreeSet::new(),
            blocked: BTreeMap::new(),
            changed_accounts: BTreeSet::new(),
            changed_budgets: BTreeSet::new(),
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_seq: 0,
            next_request: 0,
        }
    }

    /// Measures recovery against the cluster before the run instead of the
    /// moment a workload is first touched, so that a run that goes on after a
    /// crash does not take its own damage for normal. `before` is sorted, as
    /// observing a cluster leaves it.
    #[must_use]
    pub fn with_baseline(mut self, before: &ClusterModel) -> Self {
        let mut healthy: BTreeMap<&WorkloadId, u32> = BTreeMap::new();
        for pod in before.pods.iter().filter(|pod| pod.is_healthy()) {
            if let Some(id) = pod.workload.as_deref() {
                *healthy.entry(id).or_default() += 1;
            }
        }
        for workload in before.workloads.iter().filter(|w| w.replaces_pods()) {
            let seen = healthy.get(&workload.id).copied().unwrap_or(0);
            let ready = workload.ready.min(seen);
            self.ready_before.insert(workload.id.clone(), ready);
            if workload.id.is_counted() {
                self.wanted.insert(workload.id.clone(), workload.replicas);
            }
        }
        let mut hosts = Hosts::of(before);
        for pod in &before.pods {
            let stays = pod.mirror || pod.is_daemon() || pod.is_finished() || pod.is_step();
            if let (false, Some(node), Some(workload)) = (stays, &pod.node, pod.workload.as_deref())
                && hosts.only_host(pod).is_some()
            {
                let of_node = self.tied_before.entry(node.clone()).or_default();
                of_node.push((pod.id.clone(), workload.clone()));
            }
        }
        self
    }

    /// Takes note of `input` at `now`, which never goes back.
    pub fn handle(&mut self, now: Moment, input: Input) {
        if self.cancelled {
            return;
        }
        self.now = self.now.max(now);
        self.take(input);
        self.fire();
        self.work();
    }

    /// What to do next; call until `None` after every [`handle`](Self::handle).
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`Input::Tick`] if nothing
    /// happens before.
    pub fn wake_at(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether no node is in flight, neither draining nor being given back.
    pub fn is_idle(&self) -> bool {
        self.cancelled || (self.nodes.is_empty() && self.releases.is_empty())
    }

    /// How each drain ends if it is cancelled now.
    pub fn cut_off(&self) -> impl Iterator<Item = (&str, DrainOutcome)> {
        let drains = self.nodes.iter().filter(|(_, it)| it.only.is_none());
        drains.map(|(node, drain)| {
            let outcome = DrainOutcome::Cancelled {
                cordoned: drain.stage != Stage::New && !self.options.dry_run,
                evictions: drain.evictions,
            };
            (node.as_str(), outcome)
        })
    }

    /// Every budget as it stands, ordered by key.
    pub fn budgets(&self) -> impl Iterator<Item = BudgetView> + '_ {
        self.ledger.accounts()
    }

    fn add(&mut self, node: String) {
        if self.nodes.get(&node).is_some_and(|it| it.only.is_none()) {
            return;
        }
        self.leave_move(&node, "it is drained");
        if self.releases.contains_key(&node) {
            self.fail_release(&node, DrainFailureKind::Overtaken, "it is drained again");
        }
        self.next_seq += 1;
        let deadline = self.now + self.options.drain_deadline;
        self.nodes
            .insert(node.clone(), NodeDrain::new(self.next_seq, deadline));
        self.timer(deadline, Timer::Node(node.clone()));
        self.dirty.insert(node);
    }

    fn cancel(&mut self) {
        self.outputs.clear();
        for request in std::mem::take(&mut self.requests).into_keys() {
            self.outputs.push_back(Output::Abandon { request });
        }
        self.nodes.clear();
        self.releases.clear();
        self.timers.clear();
        self.cancelled = true;
    }

    /// Ends the drain of a node, and with it everything it has in flight.
    fn finish(&mut self, node: &str, outcome: DrainOutcome) {
        let Some(drain) = self.nodes.remove(node) else {
            return;
        };
        let requests: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.node == node)
            .map(|(id, _)| *id)
            .collect();
        for id in requests {
            if let Some(request) = self.requests.remove(&id) {
                // It may still take effect: its budget stays spent.
                self.linger(request.pod.uid, None);
            }
            self.outputs.push_back(Output::Abandon { request: id });
        }
        for (uid, pod) in &drain.pods {
            let leaving = self.view.pod(uid).is_some_and(|pod| pod.deletion.is_some());
            // One that was accepted goes for certain: only a sighting ends its
            // hold, however late that comes.
            if pod.unsettled && !pod.counted && !leaving {
                self.linger(uid.clone(), None);
            }
        }
        for id in drain.touched.keys() {
            let elsewhere = self
                .nodes
                .values()
                .any(|other| other.touched.contains_key(id))
                || self.away.values().any(|tied| tied.contains_key(id));
            if !elsewhere {
                self.baseline.remove(id);
            }
        }
        self.place_changed();
        let node = node.to_owned();
        self.outputs.push_back(Output::Done(match drain.only {
            None => DrainEvent::Drained {
                node,
                outcome,
                displaced: drain.touched.into_keys().collect(),
            },
            Some(_) => DrainEvent::Moved { node, outcome },
        }));
    }

    fn event(&mut self, event: EventKind) {
        self.outputs.push_back(Output::Event(event));
    }

    fn timer(&mut self, at: Moment, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Runs the timers that are due.
    fn fire(&mut self) {
        while let Some((at, timer)) = self.timers.first().cloned() {
            if at > self.now || self.cancelled {
                return;
            }
            self.timers.remove(&(at, timer.clone()));
            match timer {
                Timer::Budget(key) => {
                    self.changed_accounts.insert(key.namespace);
                }
                Timer::Hold(uid) => self.expire_hold(&uid),
                Timer::Node(node) | Timer::Release(node) => {
                    self.dirty.insert(node);
                }
                Timer::Pod(node, uid) => self.pod_timer(&node, &uid),
                Timer::Throttle => {}
            }
        }
    }

    /// Does what the changes allow, until nothing changes any more.
    fn work(&mut self) {
        loop {
            if self.cancelled {
                return;
            }
            self.wake_blocked();
            self.pump();
            let dirty = std::mem::take(&mut self.dirty);
            if dirty.is_empty() {
                return;
            }
            // Reviews may queue pods, hence one more round of requests.
            for node in dirty {
                self.review(&node);
                self.review_release(&node);
            }
        }
    }
}
