//! The pod that the runner itself runs in, where that is inside the cluster.

use super::codes;
use crate::model::only_host;
use crate::{
    ClusterModel, Disposition, Finding, JobPolicy, Node, ObjectName, Pod, Policy, Severity,
    disposition,
};

/// What keeps the run from going on once its own pod, `namespace/name`, is moved
/// with the others of its node. Nothing where that node is not to be changed.
///
/// Whether the journal is on the volume that the pod mounts is not seen, nor
/// whether its place keeps its name.
pub fn check_runner(
    model: &ClusterModel,
    policy: &Policy,
    namespace: &str,
    name: &str,
    is_to_change: impl Fn(&Node) -> bool,
) -> Vec<Finding> {
    let mut pods = model.pods.iter();
    let is_own = |pod: &&Pod| pod.id.namespace == namespace && pod.id.name == name;
    let finding = |severity, evidence: &str, cure: &str| {
        let object = ObjectName::namespaced("Pod", namespace, name);
        vec![Finding::new(
            codes::RUNNER,
            severity,
            object,
            evidence,
            cure,
        )]
    };
    let Some(pod) = pods.find(is_own) else {
        let evidence = "the runner is said to run in this pod, and there is none of the name";
        return finding(
            Severity::Warning,
            evidence,
            "correct POD_NAMESPACE and POD_NAME",
        );
    };
    let host = pod.node.as_deref().and_then(|node| model.node(node));
    if !host.is_some_and(is_to_change) {
        return Vec::new();
    }
    // Whatever people have agreed to: it is about what comes after its eviction.
    let consent = &policy.consent;
    if let Disposition::Leave(_) = disposition(pod, consent, None) {
        return Vec::new();
    }
    let is_job = pod.controller.as_ref().is_some_and(|it| it.kind == "Job");
    let (evidence, cure) = if pod.controller.is_none() {
        (
            "the drain of its node ends the runner, and nothing starts a pod without a controller again",
            "run it as a StatefulSet of one replica, or outside the cluster",
        )
    } else if is_job && consent.jobs == JobPolicy::Wait && !consent.names(pod) {
        (
            "the drain of its node would wait until the runner's own Job has ended, and that for the drain",
            "name its Job in consent.pods, or run it as a StatefulSet of one replica",
        )
    } else if only_host(pod, model.nodes.iter(), model.pods.iter()).is_some() {
        (
            "only its node can host the runner, and that node is to be drained",
            "let another node host it, or run it outside the cluster",
        )
    } else if pod.claims.is_empty() {
        (
            "it mounts no claim, so that the journal ends with the pod when its node is drained",
            "keep the journal on a PersistentVolumeClaim that another node can mount",
        )
    } else {
        return Vec::new();
    };
    finding(Severity::Blocker, evidence, cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Toleration;
    use crate::{ClusterId, ControllerRef, KubeVersion, Moment, PodId};

    fn model(change: impl Fn(&mut Pod)) -> ClusterModel {
        let mut model = ClusterModel::new(ClusterId::new("c"), Moment::from_millis(0));
        model.nodes = ["a", "b"]
            .map(|name| Node::new(name, KubeVersion::new(1, 36, 3)))
            .into();
        let mut pod = Pod::new(PodId::new("ops", "runner-0", "u"), "a");
        pod.controller = Some(controller("apps", "StatefulSet").into());
        pod.claims = vec!["journal-runner-0".into()];
        change(&mut pod);
        model.pods = vec![pod];
        model
    }

    fn controller(group: &str, kind: &str) -> ControllerRef {
        ControllerRef {
            group: group.into(),
            kind: kind.into(),
            name: "runner".into(),
            uid: "o".into(),
        }
    }

    fn found(policy: &Policy, change: impl Fn(&mut Pod)) -> Vec<String> {
        let found = check_runner(&model(change), policy, "ops", "runner-0", |_| true);
        found.into_iter().map(|finding| finding.evidence).collect()
    }

    #[test]
    fn a_runner_that_can_go_on_elsewhere_is_no_concern() {
        let policy = Policy::default();
        assert_eq!(found(&policy, |_| {}), [""; 0]);
        let stays = |pod: &mut Pod| {
            pod.controller = Some(controller("apps", "DaemonSet").into());
            pod.placement.tolerations = vec![Toleration::everything()];
            pod.claims.clear();
        };
        assert_eq!(found(&policy, stays), [""; 0], "no drain ends it");
        let bare = model(|pod| pod.controller = None);
        let of_target = check_runner(&bare, &policy, "ops", "runner-0", |_| false);
        assert_eq!(of_target, [], "its node is left");
    }

    #[test]
    fn one_that_cannot_is_named_before_the_start() {
        let mut policy = Policy::default();
        policy.consent.bare_pods = true;
        let bare = found(&policy, |pod| pod.controller = None);
        assert!(bare[0].contains("without a controller"), "{bare:?}");
        let lost = found(&policy, |pod| pod.claims.clear());
        assert!(lost[0].contains("journal ends"), "{lost:?}");
        let job = |pod: &mut Pod| pod.controller = Some(controller("batch", "Job").into());
        assert!(found(&policy, job)[0].contains("own Job"));
        policy.consent.jobs = JobPolicy::Evict;
        assert_eq!(found(&policy, job), [""; 0]);
        let tied = |pod: &mut Pod| {
            let selector = &mut pod.placement.node_selector;
            selector.insert("only".into(), "here".into());
        };
        assert!(found(&policy, tied)[0].contains("only its node"));
        let other = check_runner(&model(|_| {}), &policy, "ops", "runner-1", |_| true);
        assert_eq!(other[0].severity, Severity::Warning);
    }
}
