//! The rule checker: watches a cluster from outside and reports broken rules.
//!
//! It sees what any observer sees, objects as they change and evictions as the
//! API server answers them, and shares no code with the planner, the ledger or
//! the drain whose work it judges. The same checker runs after every write of
//! the embedded cluster and over the watches and the audit log of a real one.
//!
//! | rule | what is reported |
//! |---|---|
//! | I1 | a pod that went without an accepted eviction; an eviction that left fewer healthy pods than a budget, real or assumed, needs |
//! | I2 | more nodes of a pool cordoned by the run, or not Ready, than its width at the moment when one of them is taken; two control-plane nodes at once; a worker taken before every control-plane node was through |
//! | I3 | a node whose kubelet changed with an evictable pod on it, or while schedulable; a foreign cordon lifted |
//! | I4 | an API server, controller manager, scheduler, kubelet or kube-proxy of a version that the skew policy forbids next to those it can reach |
//! | I6 | a kubelet whose version changed more than once, or backwards |
//!
//! Healthy means Ready and not terminating.
//!
//! **Whose pods (I1).** How many pods a workload wants is what its ReplicaSet or
//! StatefulSet says. Of any other controller nothing is seen but its pods: it wants
//! as many, to be kept running, as it ever had at one time, neither terminating nor
//! finished.
//!
//! **Whose eviction (I1).** Pods are told apart by uid: an eviction excuses the pod
//! that had the name then, and none that has the name later. So whoever tells of
//! an eviction has to know the uid, as the `preconditions` of its request name it.
//!
//! **What could be known (I2).** A node is taken when the run's cordon on it takes
//! effect. One that was not Ready then counts, unless it was still Ready
//! [`RuleSettings::notice`] before the request for that cordon was sent: no look
//! at the cluster could have told. Where nobody says when the request was sent
//! ([`RuleChecker::node_written`]), it counts. What the run itself has taken
//! counts always: it knows what it has asked for.
//!
//! **Evictable (I3)** is every pod but those of DaemonSets, static ones and those
//! that have finished. A pod that tolerates a cordon has to go like any other;
//! only one that *came* to the node by that toleration after the node was taken
//! is not held against the run, for the next one would be back at once.
//!
//! **Reach (I4).** Controller manager and scheduler are judged by the API server of
//! their own node where it has one, as kubeadm sets them up; all others by every
//! API server there is. Versions are read from kubelets' reports and from images
//! of pods of `kube-system`: those labelled `component`, and those of the DaemonSet
//! `kube-proxy`. What shows no version is not judged.
//!
//! Feed objects of one kind in the
//! order of their resourceVersions; order between kinds matters only as far as
//! the observer can know it.

mod budgets;
mod nodes;
mod owned;
mod probe;
mod skew;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use self::nodes::{Taking, Written};
use self::owned::Owned;
use self::skew::Running;
use self::state::State;
use crate::api::DEFAULT_LATENCY;

pub use self::probe::{RuleProbe, SETTLED_WITHIN};

/// What the checker has to be told because no object says it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuleSettings {
    /// The node label that names the pool of a worker.
    pub pool_label: String,
    /// How many nodes of a pool may be away; 1 for pools not named.
    pub widths: BTreeMap<String, usize>,
    /// `maxUnavailable` assumed for workloads of two or more replicas without
    /// a budget, as a budget writes it: `1` or `"25%"`, rounded up.
    pub assumed_max_unavailable: Value,
    /// Namespaces whose workloads are assumed no budget.
    pub nothing_assumed_in: BTreeSet<String>,
    /// Names of pods that a person let go without an eviction.
    pub exempt: BTreeSet<String>,
    /// No worker may be taken while the kubelet of a control-plane node is of an
    /// older minor version than an API server, or the run has such a node. What
    /// API servers run shows in their pods; without any nothing is judged.
    pub control_plane_nodes_first: bool,
    /// How long an answer of the API server travels: who asks right before it
    /// acts knows what is older. The latency of the embedded cluster.
    pub notice: Duration,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self {
            pool_label: "node.kubernetes.io/pool".to_owned(),
            widths: BTreeMap::new(),
            assumed_max_unavailable: Value::from(1),
            nothing_assumed_in: BTreeSet::new(),
            exempt: BTreeSet::new(),
            control_plane_nodes_first: true,
            notice: DEFAULT_LATENCY,
        }
    }
}

/// A broken rule.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Violation {
    /// Which rule, `I1` to `I6`.
    pub rule: &'static str,
    /// resourceVersion of the object that showed it; 0 when only the end did.
    pub at: u64,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.rule, self.at, self.what)
    }
}

/// Judges a run from what is seen of it.
///
/// Memory is linear in the cluster. A change costs the objects of its namespace
/// at worst, with three exceptions: a node that is taken costs all nodes, one whose
/// kubelet changes all pods, and an API server that changes all components.
#[derive(Clone, Debug)]
pub struct RuleChecker {
    settings: RuleSettings,
    state: State,
    /// Uids of the pods whose eviction the API accepted.
    evicted: BTreeSet<String>,
    /// Pods that went, by uid: `namespace/name`, and the resourceVersion. The end of
    /// a pod may be seen twice, by a watch and by the list after it broke off.
    gone: BTreeMap<String, (String, u64)>,
    /// How often each node's kubelet changed.
    kubelet_changes: BTreeMap<String, u32>,
    now_ms: u64,
    /// Nodes that are not Ready, and since when.
    not_ready: BTreeMap<String, u64>,
    /// Cordoned nodes, and the resourceVersion since which the run has them, or
    /// else somebody.
    taken: BTreeMap<String, u64>,
    /// Pods of controllers of which nothing else is seen.
    owned: Owned,
    /// Pods by uid, and the resourceVersion that first showed them on a node.
    arrived: BTreeMap<String, u64>,
    /// Nodes that were taken from a full pool, as it looked.
    takings: Vec<Taking>,
    written: Vec<Written>,
    /// Components and their versions, by the object that shows them.
    running: BTreeMap<String, Running>,
    violations: Vec<Violation>,
}

impl RuleChecker {
    /// A checker that has seen nothing yet.
    pub fn new(settings: RuleSettings) -> Self {
        Self {
            settings,
            state: State::default(),
            evicted: BTreeSet::new(),
            gone: BTreeMap::new(),
            kubelet_changes: BTreeMap::new(),
            now_ms: 0,
            not_ready: BTreeMap::new(),
            taken: BTreeMap::new(),
            owned: Owned::default(),
            arrived: BTreeMap::new(),
            takings: Vec::new(),
            written: Vec::new(),
            running: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// Says when what is told next happened, in milliseconds of any clock.
    pub fn at_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Takes note of an object as it is now: at the start of all there are,
    /// later of each that was created or changed. Kinds that no rule speaks of
    /// are ignored.
    pub fn applied(&mut self, kind: &str, object: &Value) {
        match kind {
            "Pod" => self.pod_applied(object),
            "Node" => self.node_applied(object),
            _ => {
                self.state.put(kind, object);
            }
        }
    }

    /// Takes note that an object is gone; `object` is its last state.
    pub fn deleted(&mut self, kind: &str, object: &Value) {
        match kind {
            "Pod" => self.pod_left(object),
            "Node" => self.node_left(object),
            _ => {}
        }
        self.state.remove(kind, object);
    }

    /// Takes note of when the request was sent that changed a node, by the clock
    /// of [`at_ms`](Self::at_ms); `version` is the resourceVersion that it led
    /// to, or a newer one. To be told in the order of their effects.
    pub fn node_written(&mut self, node: &str, version: u64, sent_ms: u64) {
        self.written.push(Written {
            node: node.to_owned(),
            version,
            sent_ms,
        });
    }

    /// Takes note that the API server accepted an eviction, no dry run, of the pod
    /// with this uid. What an eviction of an unknown pod did excuses nothing.
    pub fn eviction_accepted(&mut self, uid: &str) {
        self.evicted.insert(uid.to_owned());
    }

    /// The rules broken so far, without those that only the end can show.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Every broken rule, once nothing more will be seen: pods that went
    /// without an eviction, and nodes taken from a full pool, are only known then,
    /// because their effects may be seen before the requests that caused them.
    pub fn finish(mut self) -> Vec<Violation> {
        self.judge_takings();
        let mut gone: Vec<_> = std::mem::take(&mut self.gone).into_iter().collect();
        gone.sort_by_key(|(_, (_, at))| *at);
        for (uid, (pod, at)) in gone {
            if !self.evicted.contains(&uid) && !self.settings.exempt.contains(&pod) {
                self.broken(
                    "I1",
                    at,
                    format!("pod {pod} ({uid}) went without an accepted eviction"),
                );
            }
        }
        self.violations
    }

    fn broken(&mut self, rule: &'static str, at: u64, what: String) {
        self.violations.push(Violation { rule, at, what });
    }
}

#[cfg(test)]
mod tests;
