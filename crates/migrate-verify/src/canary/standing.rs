//! Where a pod stands.

use serde::Deserialize;

use super::objects::Metadata;

/// Longest part of a message that is told.
const TOLD: usize = 200;

/// What is read of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: String,
    message: String,
    container_statuses: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    state: State,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Reason>,
    terminated: Option<Reason>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reason {
    reason: String,
    message: String,
    exit_code: i32,
}

impl Pod {
    /// One of this name that is not there.
    pub(super) fn named(name: &str) -> Self {
        Self {
            metadata: Metadata::absent(name),
            ..Self::default()
        }
    }

    /// The node that it is bound to.
    pub(super) fn node(&self) -> &str {
        &self.spec.node_name
    }

    /// Whether its kubelet has refused it: who else ends a pod, as the collector of
    /// orphaned ones does, gives the pod no reason.
    pub(super) fn is_refused(&self) -> bool {
        self.status.phase == "Failed" && !self.status.reason.is_empty()
    }
}

/// How far a pod is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// It has ended well.
    Ended,
    /// It has ended badly, for this reason.
    Failed(String),
    /// It is under way, and this keeps it.
    Going(String),
}

impl Standing {
    pub(super) fn of(pod: &Pod) -> Self {
        let status = &pod.status;
        let states = || status.container_statuses.iter().map(|c| &c.state);
        match status.phase.as_str() {
            "Succeeded" => Self::Ended,
            "Failed" => {
                let ended = states().find_map(|state| state.terminated.as_ref());
                Self::Failed(match ended {
                    Some(end) => exit(end.exit_code, &end.message),
                    None => said(&status.reason, &status.message),
                })
            }
            phase => {
                let kept = states().find_map(|state| state.waiting.as_ref());
                Self::Going(match kept {
                    Some(kept) => said(&kept.reason, &kept.message),
                    None if phase == "Running" => "its command still runs".to_owned(),
                    None => "its node has not begun it".to_owned(),
                })
            }
        }
    }
}

/// What an exit code of the default command says.
fn exit(code: i32, message: &str) -> String {
    let meaning = match code {
        2 => {
            ": the API's Service is not reached by its cluster address; look at kube-proxy \
              and the network plugin of the node"
        }
        3 => ": the API's Service is not reached by its name; look at the cluster's DNS",
        _ => "",
    };
    let message = said("", message);
    let gap = if message.is_empty() { "" } else { "; it said " };
    format!("exit code {code}{meaning}{gap}{message}")
}

fn said(reason: &str, message: &str) -> String {
    let message: String = message.trim().chars().take(TOLD).collect();
    match (reason.is_empty(), message.is_empty()) {
        (false, false) => format!("{reason}: {message}"),
        (false, true) => reason.to_owned(),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn standing(status: Value) -> Standing {
        Standing::of(&serde_json::from_value(json!({ "status": status })).unwrap())
    }

    #[test]
    fn a_pod_is_refused_by_its_kubelet_alone() {
        let refused = |status: Value| {
            let pod = json!({ "spec": { "nodeName": "w" }, "status": status });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(pod.node(), "w");
            pod.is_refused()
        };
        let message = "Pod was rejected: Predicate NodeAffinity failed";
        let by_kubelet = json!({ "phase": "Failed", "reason": "NodeAffinity", "message": message });
        assert!(refused(by_kubelet));
        assert!(!refused(json!({ "phase": "Failed" })));
        assert!(!refused(
            json!({ "phase": "Pending", "reason": "NodeAffinity" })
        ));
        assert!(!refused(json!({})));
    }

    #[test]
    fn a_pod_stands_where_its_status_says() {
        assert_eq!(standing(json!({ "phase": "Succeeded" })), Standing::Ended);
        let waiting =
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } });
        let pulling = json!({ "phase": "Pending", "containerStatuses": [{ "state": waiting }] });
        let why = "ImagePullBackOff: no such image".to_owned();
        assert_eq!(standing(pulling), Standing::Going(why));
        let end = json!({ "terminated": { "exitCode": 3, "message": "nc: bad address\n" } });
        let failed = json!({ "phase": "Failed", "containerStatuses": [{ "state": end }] });
        let Standing::Failed(why) = standing(failed) else {
            panic!("not failed");
        };
        assert!(
            why.contains("DNS") && why.ends_with("nc: bad address"),
            "{why}"
        );
        let late = json!({ "phase": "Failed", "reason": "DeadlineExceeded" });
        assert_eq!(
            standing(late),
            Standing::Failed("DeadlineExceeded".to_owned())
        );
        assert!(matches!(standing(json!({})), Standing::Going(_)));
    }
}
