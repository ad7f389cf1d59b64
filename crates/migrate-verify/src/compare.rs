//! The comparison: pure, from two observations to a verdict.

mod node;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use migrate_core::steps::{Baseline, BaselineWorkload, StepInput, Verdict, VerifyScope};
use migrate_core::{
    ClusterId, ClusterModel, Finding, KubeVersion, ObjectName, Severity, WorkloadId,
};

pub use settle::SETTLE;

/// When a pending verdict is worth asking for again, unless it is known when.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Compares `now` with `before` within `scope`.
///
/// Something missing that time may bring is [`Verdict::Pending`]; the caller
/// has a deadline. [`Verdict::Fail`] is for what time does not bring back: the
/// node itself is gone.
pub fn compare(
    input: &StepInput,
    scope: &VerifyScope,
    before: &Baseline,
    now: &Baseline,
) -> Verdict {
    let mut check = Comparison {
        input,
        before,
        now,
        daemon_sets: daemon_sets_of(now),
        missing: Vec::new(),
        lost: Vec::new(),
        notes: Vec::new(),
        updated: 0,
        is_rolling: false,
    };
    match scope {
        VerifyScope::ControlPlane { member } => {
            check.member(member);
            check.settled(member);
        }
        VerifyScope::Node { node } => {
            check.node(node);
            if input.hosts_control_plane(before, node) {
                check.serves(node);
                check.settled(node);
            }
        }
        VerifyScope::WorkloadsOf { node, displaced } => {
            check.workloads(&workloads_of(input, node, displaced));
        }
        VerifyScope::Cluster { replaced, held } => check.cluster(input, replaced, held),
        _ => check.cluster(input, &BTreeMap::new(), &BTreeSet::new()),
    }
    if !check.lost.is_empty() {
        return Verdict::Fail {
            findings: check.lost,
        };
    }
    if check.missing.is_empty() {
        return Verdict::Pass { notes: check.notes };
    }
    Verdict::Pending {
        retry_after: check.retry_after(),
        progress: check.progress(),
        missing: check.missing,
    }
}

/// Compares the whole cluster `now` with `before`, whatever the versions: for who
/// has these two alone.
///
/// Nodes that were replaced on purpose are missed; [`compare`] can be told.
pub fn compare_baselines(before: &Baseline, now: &Baseline) -> Verdict {
    let model = ClusterModel::new(ClusterId::new(""), now.taken_at);
    // Whatever runs is newer.
    let target = KubeVersion::new(0, 0, 0);
    let input = StepInput::new(Arc::new(model), Arc::default(), target);
    compare(&input, &VerifyScope::cluster(), before, now)
}

/// The workloads that had pods on `node` when the run was planned, and those that
/// its drain has `displaced`.
pub(crate) fn workloads_of(
    input: &StepInput,
    node: &str,
    displaced: &BTreeSet<WorkloadId>,
) -> BTreeSet<WorkloadId> {
    let pods = input.pods_on(node).into_iter();
    pods.filter(|pod| !pod.is_daemon())
        .filter_map(|pod| pod.workload.as_deref().cloned())
        .chain(displaced.iter().cloned())
        .collect()
}

/// The nodes there are and those that have to be: the ones from before, and in
/// the place of each that was replaced and is gone, those that replaced it.
fn nodes_wanted<'a>(
    before: &'a Baseline,
    now: &'a Baseline,
    replaced: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut wanted: BTreeSet<&String> = now.nodes.keys().collect();
    for name in before
        .nodes
        .keys()
        .filter(|name| !now.nodes.contains_key(*name))
    {
        match replaced.get(name) {
            Some(others) => wanted.extend(others),
            None => drop(wanted.insert(name)),
        }
    }
    wanted
}

/// DaemonSets there are, as [`BaselineNode`](migrate_core::steps::BaselineNode)
/// names them.
fn daemon_sets_of(state: &Baseline) -> BTreeSet<String> {
    state
        .workloads
        .iter()
        .filter(|workload| workload.id.kind == "DaemonSet")
        .map(|workload| format!("{}/{}", workload.id.namespace, workload.id.name))
        .collect()
}

struct Comparison<'a> {
    input: &'a StepInput,
    before: &'a Baseline,
    now: &'a Baseline,
    /// DaemonSets there are now.
    daemon_sets: BTreeSet<String>,
    missing: Vec<Finding>,
    lost: Vec<Finding>,
    notes: Vec<Finding>,
    /// Pods of the newest template, of all rollouts.
    updated: u64,
    /// Whether a rollout is waited for.
    is_rolling: bool,
}

impl Comparison<'_> {
    fn miss(&mut self, code: &str, object: ObjectName, evidence: String, cure: &str) {
        let finding = Finding::new(code, Severity::Blocker, object, evidence, cure);
        self.missing.push(finding);
    }

    fn note(&mut self, code: &str, id: &WorkloadId, evidence: String, cure: &str) {
        let object = ObjectName::namespaced(&id.kind, &id.namespace, &id.name);
        let finding = Finding::new(code, Severity::Warning, object, evidence, cure);
        self.notes.push(finding);
    }

    fn cluster(
        &mut self,
        input: &StepInput,
        replaced: &BTreeMap<String, BTreeSet<String>>,
        held: &BTreeSet<String>,
    ) {
        let members: BTreeSet<&String> = self
            .before
            .control_plane
            .keys()
            .chain(self.now.control_plane.keys())
            .collect();
        for member in members {
            self.member(member);
        }
        for name in nodes_wanted(self.before, self.now, replaced) {
            // Clusters shrink; whose deed it was, the run cannot know.
            let is_gone =
                self.before.nodes.contains_key(name) && !self.now.nodes.contains_key(name);
            if is_gone && !held.contains(name) && !input.hosts_control_plane(self.before, name) {
                self.deleted(name);
                continue;
            }
            let is_known = self.before.nodes.contains_key(name)
                || replaced.values().any(|others| others.contains(name));
            match is_known {
                true => self.node(name),
                false => self.newcomer(name),
            }
            self.cordon(name);
        }
        let all: BTreeSet<WorkloadId> =
            self.before.workloads.iter().map(|w| w.id.clone()).collect();
        self.workloads(&all);
    }

    fn deleted(&mut self, name: &str) {
        self.notes.push(Finding::new(
            "KM-VERIFY-019",
            Severity::Warning,
            ObjectName::cluster("Node", name),
            "the node was there before and was deleted meanwhile",
            "nothing, if somebody or an autoscaler deleted it; else find out what did",
        ));
    }

    fn member(&mut self, member: &str) {
        let object = || ObjectName::cluster("ControlPlane", member);
        match self.now.control_plane.get(member) {
            Some(version) if version.has_reached(&self.input.target) => {}
            Some(version) => {
                let evidence = format!("it serves {version}, not {}", self.input.target);
                self.miss(
                    "KM-VERIFY-005",
                    object(),
                    evidence,
                    "look at its static pods",
                );
            }
            None => {
                let evidence = "no such API server is running".to_owned();
                self.miss(
                    "KM-VERIFY-005",
                    object(),
                    evidence,
                    "look at its static pods",
                );
            }
        }
        self.serves(member);
    }

    /// The API server of `member` answers, as far as that shows.
    fn serves(&mut self, member: &str) {
        let object = || ObjectName::cluster("ControlPlane", member);
        if !self.now.control_plane_ready {
            let evidence = "/readyz does not answer ok".to_owned();
            self.miss("KM-VERIFY-006", object(), evidence, "ask /readyz?verbose");
        }
        let is_unready = |state: &Baseline| state.unready_members.contains(member);
        if is_unready(self.now) && !is_unready(self.before) {
            let evidence = "its API server is not Ready".to_owned();
            self.miss(
                "KM-VERIFY-006",
                object(),
                evidence,
                "look at its static pods",
            );
        }
    }

    fn cordon(&mut self, name: &str) {
        let cordoned = |state: &Baseline| state.nodes.get(name).is_some_and(|n| n.unschedulable);
        if cordoned(self.now) && !cordoned(self.before) {
            self.miss(
                "KM-VERIFY-007",
                ObjectName::cluster("Node", name),
                "it is cordoned and was not before".to_owned(),
                "kubectl uncordon it, unless someone wants it so",
            );
        }
    }

    fn workloads(&mut self, ids: &BTreeSet<WorkloadId>) {
        let now: BTreeMap<&WorkloadId, &BaselineWorkload> =
            self.now.workloads.iter().map(|w| (&w.id, w)).collect();
        let all = self.before.workloads.iter();
        for before in all.filter(|before| ids.contains(&before.id)) {
            let id = &before.id;
            let Some(now) = now.get(id) else {
                // Not ours to blame, unless nobody did it. Empty ReplicaSets come
                // and go.
                if before.replicas > 0 {
                    let evidence =
                        format!("it is gone, and wanted {} pods before", before.replicas);
                    let cure = "nothing, if somebody deleted it; else create it again";
                    self.note("KM-VERIFY-016", id, evidence, cure);
                }
                continue;
            };
            let wanted = before.available.min(now.replicas);
            let evidence = if now.available < wanted {
                format!("{} pods are available, {wanted} were before", now.available)
            } else if before.observed && !now.observed {
                "how many pods are available is not known: its status is of an older spec"
                    .to_owned()
            } else {
                if now.replicas < before.replicas {
                    let evidence = format!(
                        "it wants {} pods, and wanted {} before",
                        now.replicas, before.replicas
                    );
                    let cure = "nothing, if somebody or an autoscaler scaled it down";
                    self.note("KM-VERIFY-017", id, evidence, cure);
                }
                continue;
            };
            let object = ObjectName::namespaced(&id.kind, &id.namespace, &id.name);
            let cure = "look at its pods that are not Ready and at their events";
            self.miss("KM-VERIFY-004", object, evidence, cure);
        }
    }
}

#[cfg(test)]
mod tests;
