//! The comparison: pure, from two observations to a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::steps::{
    Baseline, BaselineNode, BaselineWorkload, StepInput, Verdict, VerifyScope,
};
use migrate_core::{Finding, KubeVersion, ObjectName, Severity, WorkloadId};

/// When a pending verdict is worth asking for again.
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
        target: &input.target,
        before,
        now,
        missing: Vec::new(),
        lost: Vec::new(),
    };
    match scope {
        VerifyScope::ControlPlane { member } => check.member(member),
        VerifyScope::Node { node } => check.node(node),
        VerifyScope::WorkloadsOf { node } => check.workloads(&workloads_of(input, node)),
        _ => check.cluster(),
    }
    if !check.lost.is_empty() {
        return Verdict::Fail {
            findings: check.lost,
        };
    }
    if check.missing.is_empty() {
        return Verdict::Pass;
    }
    Verdict::Pending {
        missing: check.missing,
        retry_after: RETRY_AFTER,
    }
}

/// The workloads that had pods on `node` when the run was planned.
fn workloads_of(input: &StepInput, node: &str) -> BTreeSet<WorkloadId> {
    input
        .model
        .pods
        .iter()
        .filter(|pod| pod.node.as_deref() == Some(node) && !pod.is_daemon())
        .filter_map(|pod| pod.workload.clone())
        .collect()
}

struct Comparison<'a> {
    target: &'a KubeVersion,
    before: &'a Baseline,
    now: &'a Baseline,
    missing: Vec<Finding>,
    lost: Vec<Finding>,
}

impl Comparison<'_> {
    fn miss(&mut self, code: &str, object: ObjectName, evidence: String, cure: &str) {
        let finding = Finding::new(code, Severity::Blocker, object, evidence, cure);
        self.missing.push(finding);
    }

    fn cluster(&mut self) {
        let members: BTreeSet<&String> = self
            .before
            .control_plane
            .keys()
            .chain(self.now.control_plane.keys())
            .collect();
        for member in members {
            self.member(member);
        }
        let nodes: Vec<&String> = self.now.nodes.keys().collect();
        for name in nodes {
            self.node(name);
            self.cordon(name);
        }
        let all: BTreeSet<WorkloadId> =
            self.before.workloads.iter().map(|w| w.id.clone()).collect();
        self.workloads(&all);
    }

    fn member(&mut self, member: &str) {
        let object = || ObjectName::cluster("ControlPlane", member);
        match self.now.control_plane.get(member) {
            Some(version) if version.has_reached(self.target) => {}
            Some(version) => {
                let evidence = format!("it serves {version}, not {}", self.target);
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
        if !self.now.control_plane_ready {
            let evidence = "/readyz does not answer ok".to_owned();
            self.miss("KM-VERIFY-006", object(), evidence, "ask /readyz?verbose");
        }
    }

    fn node(&mut self, name: &str) {
        let object = || ObjectName::cluster("Node", name);
        let Some(node) = self.now.nodes.get(name) else {
            self.lost.push(Finding::new(
                "KM-VERIFY-008",
                Severity::Blocker,
                object(),
                "the node is gone",
                "find out who deleted it; a plan made anew leaves it out",
            ));
            return;
        };
        if !node.kubelet_version.has_reached(self.target) {
            let evidence = format!(
                "its kubelet is {}, not {}",
                node.kubelet_version, self.target
            );
            let cure = "the driver says it is done: look at the kubelet's unit on the node";
            self.miss("KM-VERIFY-001", object(), evidence, cure);
        }
        let before = self.before.nodes.get(name);
        if !node.ready && before.is_none_or(|before| before.ready) {
            let evidence = "it is not Ready".to_owned();
            self.miss(
                "KM-VERIFY-002",
                object(),
                evidence,
                "look at its conditions and kubelet log",
            );
        }
        for daemon in before
            .map(|before| self.missing_daemons(before, node))
            .unwrap_or_default()
        {
            let evidence = format!("its pod of DaemonSet {daemon} was Ready before and is not");
            self.miss(
                "KM-VERIFY-003",
                object(),
                evidence,
                "look at that pod on the node",
            );
        }
    }

    /// DaemonSets that still exist and were Ready on the node before.
    fn missing_daemons(&self, before: &BaselineNode, node: &BaselineNode) -> Vec<String> {
        let exists = |daemon: &str| {
            self.now.workloads.iter().any(|workload| {
                workload.id.kind == "DaemonSet"
                    && daemon == format!("{}/{}", workload.id.namespace, workload.id.name)
            })
        };
        before
            .daemons
            .iter()
            .filter(|daemon| !node.daemons.contains(daemon) && exists(daemon))
            .cloned()
            .collect()
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
        let worse: Vec<(WorkloadId, u32, u32)> = self
            .before
            .workloads
            .iter()
            .filter(|before| ids.contains(&before.id))
            .filter_map(|before| {
                // Deleted meanwhile: not ours to blame.
                let now = now.get(&before.id)?;
                let wanted = before.available.min(now.replicas);
                (now.available < wanted).then(|| (before.id.clone(), now.available, wanted))
            })
            .collect();
        for (id, available, wanted) in worse {
            let evidence = format!("{available} pods are available, {wanted} were before");
            let object = ObjectName::namespaced(id.kind, id.namespace, id.name);
            let cure = "look at its pods that are not Ready and at their events";
            self.miss("KM-VERIFY-004", object, evidence, cure);
        }
    }
}

#[cfg(test)]
mod tests;
