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
//! | I2 | more nodes of a pool cordoned by the run, or not Ready, than its width while one of them is taken; two control-plane nodes at once |
//! | I3 | a node whose kubelet changed with an evictable pod on it (pods that tolerate a cordon come straight back and do not count), or while schedulable; a foreign cordon lifted |
//! | I4 | a kubelet newer than an API server |
//! | I6 | a kubelet whose version changed more than once, or backwards |
//!
//! Healthy means Ready and not terminating. Feed objects of one kind in the
//! order of their resourceVersions; order between kinds matters only as far as
//! the observer can know it.

mod budgets;
mod nodes;
mod probe;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use self::state::State;

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
    /// a budget.
    pub assumed_max_unavailable: usize,
    /// Names of pods that a person let go without an eviction.
    pub exempt: BTreeSet<String>,
}

impl Default for RuleSettings {
    fn default() -> Self {
        Self {
            pool_label: "node.kubernetes.io/pool".to_owned(),
            widths: BTreeMap::new(),
            assumed_max_unavailable: 1,
            exempt: BTreeSet::new(),
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
/// Memory is linear in the cluster; a change costs the objects of its
/// namespace at worst.
#[derive(Clone, Debug)]
pub struct RuleChecker {
    settings: RuleSettings,
    state: State,
    /// Evictions the API accepted, by `namespace/name`.
    evicted: BTreeSet<String>,
    /// Pods that went, by `namespace/name`, with the resourceVersion.
    gone: Vec<(String, u64)>,
    /// How often each node's kubelet changed.
    kubelet_changes: BTreeMap<String, u32>,
    violations: Vec<Violation>,
}

impl RuleChecker {
    /// A checker that has seen nothing yet.
    pub fn new(settings: RuleSettings) -> Self {
        Self {
            settings,
            state: State::default(),
            evicted: BTreeSet::new(),
            gone: Vec::new(),
            kubelet_changes: BTreeMap::new(),
            violations: Vec::new(),
        }
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
        if kind == "Pod" {
            self.pod_left(object);
        }
        self.state.remove(kind, object);
    }

    /// Takes note that the API server accepted an eviction that was no dry run.
    pub fn eviction_accepted(&mut self, namespace: &str, name: &str) {
        self.evicted.insert(format!("{namespace}/{name}"));
    }

    /// The rules broken so far, without those that only the end can show.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Every broken rule, once nothing more will be seen: pods that went
    /// without an eviction are only known then, because a deletion may be seen
    /// before the audit line of the eviction that caused it.
    pub fn finish(mut self) -> Vec<Violation> {
        for (pod, at) in std::mem::take(&mut self.gone) {
            if !self.evicted.contains(&pod) && !self.settings.exempt.contains(&pod) {
                self.broken(
                    "I1",
                    at,
                    format!("pod {pod} went without an accepted eviction"),
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
