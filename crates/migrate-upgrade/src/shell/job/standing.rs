//! What the API says of a Job's pod, and what that means.

use serde::Deserialize;

/// What is read of a pod of a Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    pub(super) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    phase: String,
    reason: String,
    message: String,
    /// Set by the kubelet when it has seen the pod.
    start_time: Option<String>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<Reason>,
    terminated: Option<Reason>,
    waiting: Option<Reason>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reason {
    exit_code: i32,
    reason: String,
    message: String,
}

/// What is read of a Job.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Job {
    pub(super) metadata: Metadata,
    status: JobStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct JobStatus {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl Job {
    /// How it ended, if it has.
    pub(super) fn end(&self) -> Option<String> {
        let ends = |condition: &&Condition| {
            matches!(condition.kind.as_str(), "Complete" | "Failed") && condition.status == "True"
        };
        let end = self.status.conditions.iter().find(ends)?;
        Some(told(&end.reason, &end.message))
    }
}

/// What is read of an event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) reason: String,
    pub(super) message: String,
}

/// Where a script stands, as far as its pod tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It has not begun, for the reason said.
    Waiting(String),
    /// It is not going to begin.
    Never(Why),
    /// It has begun: the log tells more.
    Begun,
    /// Its container has ended, or is being ended: in this way.
    Ended(String),
}

/// Why a pod is not going to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// Its image is not there.
    Image(String),
    /// The image has not what it takes.
    Unfit(String),
    /// The kubelet does not take it.
    Refused(String),
}

impl Pod {
    pub(super) fn standing(&self) -> Standing {
        let status = &self.status;
        let state = status.container_statuses.first().map(|one| &one.state);
        if let Some(end) = state.and_then(|state| state.terminated.as_ref()) {
            let said = told(&end.reason, &end.message);
            return match end.reason.as_str() {
                // containerd and CRI-O; cri-dockerd.
                "StartError" | "ContainerCannotRun" => Standing::Never(Why::Unfit(said)),
                _ => Standing::Ended(format!("exit code {}, {said}", end.exit_code)),
            };
        }
        if self.metadata.deletion_timestamp.is_some() {
            return Standing::Ended("its pod is being deleted".to_owned());
        }
        if state.is_some_and(|state| state.running.is_some()) {
            return Standing::Begun;
        }
        let said = told(&status.reason, &status.message);
        match status.phase.as_str() {
            "Failed" => return Standing::Never(Why::Refused(said)),
            "Succeeded" => return Standing::Ended(said),
            _ => {}
        }
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let said = told(&waiting.reason, &waiting.message);
            return match waiting.reason.as_str() {
                // A first attempt that failed is ErrImagePull: the next may not.
                "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                    Standing::Never(Why::Image(said))
                }
                "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                    Standing::Never(Why::Unfit(said))
                }
                _ => Standing::Waiting(format!("its container waits: {said}")),
            };
        }
        Standing::Waiting(match status.start_time {
            Some(_) => format!("its pod is being started {said}"),
            None => "the node's kubelet has not taken its pod up; see that it runs and reaches \
                     the API (systemctl status kubelet)"
                .to_owned(),
        })
    }
}

fn told(reason: &str, message: &str) -> String {
    match (reason, message.trim()) {
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

/// What to do about an admission that refuses the pod; `None` if waiting may
/// help.
pub(super) fn cure(said: &str) -> Option<&'static str> {
    if said.contains("violates PodSecurity") {
        Some(
            "label the namespace `pod-security.kubernetes.io/enforce: privileged`, as \
             docs/rbac-job.yaml has it",
        )
    } else if said.contains("exceeded quota") || said.contains("failed quota") {
        Some("raise or remove the ResourceQuota of the namespace")
    } else if said.contains("denied the request") || said.contains("denied request") {
        Some("let the policy except the namespace")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn standing(status: Value) -> Standing {
        let pod = json!({ "metadata": { "name": "p", "uid": "u" }, "status": status });
        serde_json::from_value::<Pod>(pod).unwrap().standing()
    }

    fn in_state(state: Value) -> Standing {
        let statuses = json!([{ "name": "script", "state": state }]);
        standing(json!({ "phase": "Pending", "startTime": "x", "containerStatuses": statuses }))
    }

    #[test]
    fn what_a_pod_does_is_told_apart() {
        let waiting = |reason| in_state(json!({ "waiting": { "reason": reason } }));
        assert!(matches!(standing(json!({})), Standing::Waiting(said) if said.contains("kubelet")));
        for reason in ["ContainerCreating", "PodInitializing", "ErrImagePull"] {
            assert!(matches!(waiting(reason), Standing::Waiting(_)), "{reason}");
        }
        for reason in ["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"] {
            assert!(
                matches!(waiting(reason), Standing::Never(Why::Image(_))),
                "{reason}"
            );
        }
        for reason in ["CreateContainerError", "CreateContainerConfigError"] {
            assert!(
                matches!(waiting(reason), Standing::Never(Why::Unfit(_))),
                "{reason}"
            );
        }
        let refused = json!({ "phase": "Failed", "reason": "OutOfpods", "message": "110 of 110" });
        let said = "OutOfpods: 110 of 110".to_owned();
        assert_eq!(standing(refused), Standing::Never(Why::Refused(said)));
        assert_eq!(in_state(json!({ "running": {} })), Standing::Begun);
        let killed = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let said = "exit code 137, OOMKilled".to_owned();
        assert_eq!(in_state(killed), Standing::Ended(said));
        let unfit = json!({ "terminated": { "exitCode": 128, "reason": "StartError",
            "message": "exec: \"nsenter\": executable file not found in $PATH" } });
        assert!(
            matches!(in_state(unfit), Standing::Never(Why::Unfit(said)) if said.contains("nsenter"))
        );
    }

    #[test]
    fn only_a_refusal_for_good_has_a_cure() {
        let refused = [
            "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces",
            "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1",
            "pods \"x\" is forbidden: failed quota: q: must specify cpu",
            "admission webhook \"v\" denied the request: privileged",
            "ValidatingAdmissionPolicy 'v' with binding 'b' denied request: privileged",
        ];
        for said in refused {
            assert!(cure(said).is_some(), "{said}");
        }
        let later = [
            "pods \"x\" is forbidden: error looking up service account km/default: not found",
            "Internal error occurred: failed calling webhook \"v\": context deadline exceeded",
        ];
        for said in later {
            assert_eq!(cure(said), None, "{said}");
        }
    }
}
