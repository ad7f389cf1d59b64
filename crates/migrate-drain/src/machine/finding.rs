//! What a drain has to tell people: stable codes, evidence and cure.

use migrate_core::{
    Blocked, BlockedReason, BudgetKind, Finding, ObjectName, Pod, PodId, Severity, WorkloadId,
};

/// Codes of the findings of this crate.
pub mod codes {
    /// Someone else lifted our cordon.
    pub const CORDON_LIFTED: &str = "KM-NODE-201";
    /// A pod that only its node can host will be down; a person agreed.
    pub const DOWNTIME: &str = "KM-POD-201";
    /// Pods come straight back to the node they were moved from.
    pub const RELANDS: &str = "KM-POD-202";
    /// A pod was told to stop and did not go away.
    pub const STUCK: &str = "KM-POD-203";
    /// A replacement did not become ready.
    pub const NOT_REPLACED: &str = "KM-POD-204";
    /// A volume of a moved pod is still attached.
    pub const ATTACHED: &str = "KM-POD-205";
    /// A pod's Job did not end.
    pub const JOB: &str = "KM-POD-206";
    /// A pod had nowhere to go until a deadline.
    pub const NOWHERE_TO_GO: &str = "KM-POD-207";
    /// A budget kept a pod from going until a deadline.
    pub const BLOCKED: &str = "KM-PDB-201";
    /// An assumed budget kept a pod from going until a deadline.
    pub const ASSUMED_BLOCKED: &str = "KM-BUDGET-201";
    /// An admission webhook refuses evictions.
    pub const WEBHOOK: &str = "KM-HOOK-201";
}

pub(super) fn cordon_lifted(node: &str, times: u32) -> Finding {
    Finding::new(
        codes::CORDON_LIFTED,
        Severity::Warning,
        ObjectName::cluster("Node", node),
        format!("someone else lifted our cordon during the drain ({times} so far)"),
        "stop whoever makes this node schedulable while it is drained",
    )
}

pub(super) fn downtime(pod: &Pod, why: &str) -> Finding {
    Finding::new(
        codes::DOWNTIME,
        Severity::Info,
        pod_name(&pod.id),
        format!("it is down from its eviction until its node is back: {why}"),
        "nothing: policy accepts this downtime",
    )
}

pub(super) fn relands(pod: &Pod, node: &str, back: u32) -> Finding {
    let controller = pod.controller.as_ref();
    let owner = controller.map_or_else(String::new, |c| format!(" of {} {}", c.kind, c.name));
    Finding::new(
        codes::RELANDS,
        Severity::Warning,
        pod_name(&pod.id),
        format!("{back} pods{owner} came back to the cordoned node {node}; this one stays on it"),
        "remove the toleration of node.kubernetes.io/unschedulable, or make it a DaemonSet",
    )
}

pub(super) fn webhook(pod: &PodId, answer: &str) -> Finding {
    Finding::new(
        codes::WEBHOOK,
        Severity::Warning,
        pod_name(pod),
        format!("its eviction is refused: {answer}"),
        "see that the webhook's owner moves the pod, or exempt evictions from the webhook",
    )
}

pub(super) fn stuck(pod: &Pod) -> Finding {
    Finding::new(
        codes::STUCK,
        Severity::Warning,
        pod_name(&pod.id),
        format!(
            "it is terminating (grace {} s) and still there",
            pod.grace_seconds
        ),
        "look for finalizers on the pod and for an unresponsive kubelet on its node",
    )
}

pub(super) fn job(pod: &PodId) -> Finding {
    Finding::new(
        codes::JOB,
        Severity::Warning,
        pod_name(pod),
        "its Job has not ended",
        "wait longer (deadlines.drain), or allow its eviction (consent.jobs = \"evict\")",
    )
}

pub(super) fn attached(attachment: &str, node: &str) -> Finding {
    Finding::new(
        codes::ATTACHED,
        Severity::Warning,
        ObjectName::cluster("VolumeAttachment", attachment),
        format!("the volume of a moved pod is still attached to {node}"),
        "look at the storage driver's attacher and at its pod on this node",
    )
}

pub(super) fn not_replaced(workload: &WorkloadId, needed: u32, ready: u32) -> Finding {
    Finding::new(
        codes::NOT_REPLACED,
        Severity::Warning,
        ObjectName::namespaced(&workload.kind, &workload.namespace, &workload.name),
        format!("{ready} of {needed} pods are ready"),
        "look for Pending pods (no room elsewhere?) and for failing readiness probes",
    )
}

pub(super) fn blocked(pod: &PodId, blocked: &Blocked) -> Finding {
    let assumed = blocked
        .budget
        .as_ref()
        .is_some_and(|b| b.kind == BudgetKind::Assumed);
    let cure = match &blocked.reason {
        BlockedReason::TwoBudgets(_) => {
            "leave one of the two budgets: the API evicts no pod that has two"
        }
        BlockedReason::UnhealthyPod => {
            "repair the pod, or set unhealthyPodEvictionPolicy: AlwaysAllow"
        }
        BlockedReason::SyncFailed(_) => {
            "repair the budget's selector, or give its pods a controller"
        }
        BlockedReason::NotObserved => "see that kube-controller-manager runs",
        BlockedReason::NowhereToGo(_) => {
            "see what keeps these nodes, then drain this one again; or add a node that it can run on"
        }
        BlockedReason::Unseen => "wait until the pod and its controller have been observed",
        _ if assumed => {
            "repair the workload's other pods, or set assumed-budgets.max-unavailable higher"
        }
        _ => "repair the budget's other pods, add a replica, or allow one disruption more",
    };
    let code = match &blocked.reason {
        BlockedReason::NowhereToGo(_) => codes::NOWHERE_TO_GO,
        _ if assumed => codes::ASSUMED_BLOCKED,
        _ => codes::BLOCKED,
    };
    Finding::new(
        code,
        Severity::Warning,
        pod_name(pod),
        blocked.to_string(),
        cure,
    )
}

fn pod_name(pod: &PodId) -> ObjectName {
    ObjectName::namespaced("Pod", &pod.namespace, &pod.name)
}
