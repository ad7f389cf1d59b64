//! Runs the machine against the model cluster over an unreliable channel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::steps::{DrainEvent, DrainOutcome};
use migrate_core::{Moment, PodId, WorkloadId};
use migrate_kube::EvictionAnswer;

use super::super::io::{Failure, Input, Listed, Output, RequestId};
use super::super::{Drain, Options};
use super::cluster::{App, Cluster, Noise};

/// What the world is like.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    /// Replicas, own budget, sticky names, tolerates everything, volumes.
    pub(super) apps: Vec<(u32, Option<u32>, bool, bool, bool)>,
    /// Nodes to drain, from the first.
    pub(super) drained: usize,
    /// In percent: sightings that are lost, and that come twice.
    pub(super) lost: u64,
    pub(super) twice: u64,
    /// Longest delay of a sighting in milliseconds; order is lost with it.
    pub(super) lag: u64,
    /// In percent: eviction requests that do not go as they should.
    pub(super) faults: u64,
    /// Whether the watches list everything anew once a minute.
    pub(super) relists: bool,
    /// When to cancel, in seconds.
    pub(super) cancel: Option<u64>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) violations: Vec<String>,
    pub(super) outcomes: BTreeMap<String, DrainOutcome>,
    pub(super) requests: u32,
    pub(super) seconds: u64,
}

struct Harness {
    world: World,
    noise: Noise,
    cluster: Cluster,
    drain: Drain,
    /// By time and sequence.
    inbox: BTreeMap<(Moment, u64), Input>,
    /// Requests on their way to the API.
    outbox: BTreeMap<(Moment, u64), Sent>,
    sequence: u64,
    in_flight: BTreeSet<RequestId>,
    cordoned: BTreeSet<String>,
    ended: BTreeMap<String, DrainOutcome>,
    cancelled: bool,
    requests: u32,
    max_requests: usize,
}

enum Sent {
    Cordon(String),
    Evict(RequestId, PodId),
    Look(String),
}

/// Runs until every drain has ended or every deadline is long past.
pub(super) fn run(world: &World, options: Options) -> Run {
    let mut cluster = Cluster::new(world.seed, world.nodes);
    for (index, (replicas, budget, sticky, tolerates, claims)) in world.apps.iter().enumerate() {
        let app = App {
            // Half of them by a controller whose objects nobody reads.
            id: match index % 2 {
                0 => WorkloadId::new("Deployment", "ns", format!("app{index}")),
                _ => WorkloadId::new("CloneSet", "ns", format!("app{index}")),
            },
            replicas: *replicas,
            sticky: *sticky,
            tolerates: *tolerates,
            claims: *claims,
        };
        cluster.run(app, *budget);
    }
    cluster.boot();
    cluster.changes.clear();
    let limit = (options.drain_deadline + options.pod_deadline).as_secs() + 60;
    let mut harness = Harness {
        world: world.clone(),
        noise: Noise(world.seed ^ 0x5eed),
        max_requests: options.max_requests,
        drain: Drain::new(options),
        cluster,
        inbox: BTreeMap::new(),
        outbox: BTreeMap::new(),
        sequence: 0,
        in_flight: BTreeSet::new(),
        cordoned: BTreeSet::new(),
        ended: BTreeMap::new(),
        cancelled: false,
        requests: 0,
    };
    let seconds = harness.go(limit);
    let mut violations = harness.cluster.violations;
    if !harness.cancelled && harness.ended.len() < world.drained {
        violations.push(format!("only {} drains ended", harness.ended.len()));
    }
    Run {
        violations,
        outcomes: harness.ended,
        requests: harness.requests,
        seconds,
    }
}

impl Harness {
    fn go(&mut self, limit: u64) -> u64 {
        for input in self.cluster.everything() {
            self.tell(input);
        }
        let nodes = (0..self.world.drained).map(|index| format!("node-{index}"));
        self.tell(Input::NodesAdded(nodes.collect()));
        self.tell(Input::Synced);
        let start = self.cluster.now;
        for step in 0..limit * 4 {
            self.cluster.now = start + Duration::from_millis(step * 250);
            let seconds = step / 4;
            if self.world.cancel == Some(seconds) && !self.cancelled {
                self.tell(Input::Cancel);
                self.cancelled = true;
                self.in_flight.clear();
            }
            self.cluster.controllers();
            if self.world.relists && step % 240 == 239 {
                let all = self.cluster.all_pods();
                self.tell(Input::Listed(Listed::Pods(all)));
                self.cluster.changes.clear();
                for input in self.cluster.everything() {
                    self.tell(input);
                }
            }
            self.send_changes();
            self.deliver();
            let idle = self.ended.len() == self.world.drained || self.cancelled;
            if idle && self.outbox.is_empty() {
                return seconds;
            }
        }
        limit
    }

    /// Puts what watches would show on the unreliable channel.
    fn send_changes(&mut self) {
        for change in std::mem::take(&mut self.cluster.changes) {
            if self.noise.chance(self.world.lost) {
                continue;
            }
            if self.noise.chance(self.world.twice) {
                self.post(change.clone());
            }
            self.post(change);
        }
    }

    fn post(&mut self, input: Input) {
        let lag = self.noise.below(self.world.lag + 1);
        self.sequence += 1;
        let at = self.cluster.now + Duration::from_millis(lag);
        self.inbox.insert((at, self.sequence), input);
    }

    fn deliver(&mut self) {
        loop {
            let now = self.cluster.now;
            if let Some(entry) = self.inbox.first_entry().filter(|e| e.key().0 <= now) {
                let input = entry.remove();
                self.tell(input);
            } else if let Some(entry) = self.outbox.first_entry().filter(|e| e.key().0 <= now) {
                let sent = entry.remove();
                self.serve(sent);
            } else if self.drain.wake_at().is_some_and(|at| at <= now) {
                self.tell(Input::Tick);
            } else {
                return;
            }
        }
    }

    fn tell(&mut self, input: Input) {
        if let Input::Answer { request, .. } = &input {
            self.in_flight.remove(request);
        }
        let cordoned = match &input {
            Input::Cordoned { node, .. } => Some(node.clone()),
            _ => None,
        };
        self.cordoned.extend(cordoned);
        self.drain.handle(self.cluster.now, input);
        while let Some(output) = self.drain.poll() {
            self.take(output);
        }
    }

    fn wrong(&mut self, what: String) {
        self.cluster.violations.push(what);
    }

    fn send(&mut self, sent: Sent) {
        let latency = self.noise.below(2_000);
        self.sequence += 1;
        let at = self.cluster.now + Duration::from_millis(latency);
        self.outbox.insert((at, self.sequence), sent);
    }

    fn take(&mut self, output: Output) {
        let abandons = matches!(output, Output::Abandon { .. });
        if self.cancelled && !abandons {
            self.wrong(format!("{output:?} after the cancel"));
        }
        let node = match &output {
            Output::Cordon { node, .. } | Output::Look { node } | Output::Evict { node, .. } => {
                Some(node.clone())
            }
            _ => None,
        };
        if let Some(node) = node.filter(|node| self.ended.contains_key(node)) {
            self.wrong(format!("{output:?} after the end of {node}"));
        }
        match output {
            Output::Abandon { request } => {
                self.in_flight.remove(&request);
            }
            Output::Cordon { node, .. } => self.send(Sent::Cordon(node)),
            Output::Look { node } => self.send(Sent::Look(node)),
            Output::Evict {
                request, node, pod, ..
            } => self.evict(request, &node, pod),
            Output::Done(DrainEvent::Drained { node, outcome, .. }) => self.end(node, outcome),
            _ => {}
        }
    }

    fn evict(&mut self, request: RequestId, node: &str, pod: PodId) {
        self.requests += 1;
        if !self.cordoned.contains(node) {
            self.wrong(format!("{pod} asked before the cordon of {node}"));
        }
        let real = self.cluster.bound.get(&pod.uid);
        if real.is_none_or(|(id, on)| *id != pod || on != node) {
            self.wrong(format!("{pod} ({}) was never on {node}", pod.uid));
        }
        self.in_flight.insert(request);
        if self.in_flight.len() > self.max_requests {
            self.wrong(format!("{} requests in flight", self.in_flight.len()));
        }
        self.send(Sent::Evict(request, pod));
    }

    fn end(&mut self, node: String, outcome: DrainOutcome) {
        let left: Vec<String> = self
            .cluster
            .pods_on(&node)
            .iter()
            .filter(|seen| seen.value.placement.tolerations.is_empty())
            .map(|seen| seen.value.id.to_string())
            .collect();
        if matches!(outcome, DrainOutcome::Empty { .. }) && !left.is_empty() {
            self.wrong(format!("{node} called empty with {left:?}"));
        }
        if self.ended.insert(node.clone(), outcome).is_some() {
            self.wrong(format!("{node} ended twice"));
        }
    }

    /// The API serves a request.
    fn serve(&mut self, sent: Sent) {
        match sent {
            Sent::Cordon(node) => {
                let fails = self.noise.chance(self.world.faults);
                let input = match self.cluster.cordon(&node, true) {
                    Some(_) if fails => {
                        let failure = Failure::passing("the API server is away");
                        Input::CordonFailed { node, failure }
                    }
                    before => {
                        let was_unschedulable = before.unwrap_or(false);
                        Input::Cordoned {
                            node,
                            was_unschedulable,
                        }
                    }
                };
                self.reply(input);
            }
            Sent::Look(node) => {
                let fails = self.noise.chance(self.world.faults);
                let pods = match fails {
                    true => Err(Failure::passing("the API server is away")),
                    false => Ok(self.cluster.pods_on(&node)),
                };
                // The answer is of this moment, whenever it arrives.
                self.tell(Input::Looked { node, pods });
            }
            Sent::Evict(request, pod) => {
                let answer = self.serve_eviction(&pod);
                if let Some(answer) = answer {
                    self.reply(Input::Answer { request, answer });
                }
            }
        }
    }

    fn serve_eviction(&mut self, pod: &PodId) -> Option<EvictionAnswer> {
        if !self.noise.chance(self.world.faults) {
            return Some(self.cluster.evict(pod));
        }
        let text = || "fault".to_owned();
        Some(match self.noise.below(8) {
            0 => EvictionAnswer::WebhookDenied {
                webhook: "w".into(),
                message: text(),
            },
            1 => EvictionAnswer::Throttled {
                retry_after: Duration::from_secs(1),
            },
            2 => EvictionAnswer::Unavailable {
                code: 503,
                message: text(),
            },
            3 => EvictionAnswer::Unknown { reason: text() },
            4 => {
                // It took effect, and nobody was told.
                self.cluster.evict(pod);
                EvictionAnswer::Unknown { reason: text() }
            }
            5 => {
                self.cluster.evict(pod);
                EvictionAnswer::Unavailable {
                    code: 504,
                    message: text(),
                }
            }
            6 => EvictionAnswer::Contended { message: text() },
            // No answer ever: only where inputs may be lost.
            _ if self.world.lost > 0 => return None,
            _ => EvictionAnswer::WebhookUnavailable {
                webhook: "w".into(),
                message: text(),
            },
        })
    }

    fn reply(&mut self, input: Input) {
        let latency = self.noise.below(1_000);
        self.sequence += 1;
        let at = self.cluster.now + Duration::from_millis(latency);
        self.inbox.insert((at, self.sequence), input);
    }
}
