//! The pod that tries a node out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// A pod that tries a node out before its cordon is lifted.
///
/// It is made on the node itself, past the scheduler, and has to end well there:
/// then the node's network, its Services and its DNS work for pods, which no
/// condition of a node and no Ready agent says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CanaryPod {
    /// Its image; for the default `command` one with `sh` and a `nc` that knows
    /// `-z` and `-w`, as the image busybox has them. The busybox of Debian's package
    /// knows no `-z`, and its shell runs that one before any other.
    pub image: String,
    /// Where it is made. The namespace has to be there (`docs/rbac-canary.yaml`).
    #[serde(default = "namespace")]
    pub namespace: String,
    /// What it runs; exit code 0 says that the node works. The default reaches
    /// the API's Service by its cluster address (else 2), then by its name
    /// (else 3).
    #[serde(default = "command")]
    pub command: Vec<String>,
    /// How long one trial may take, the pull of the image included. Failed trials
    /// are repeated until `deadlines.verify`.
    #[serde(default = "timeout", with = "seconds")]
    pub timeout: Duration,
}

impl CanaryPod {
    /// A pod of `image`, everything else as by default.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            namespace: namespace(),
            command: command(),
            timeout: timeout(),
        }
    }
}

pub(super) fn namespace() -> String {
    "kube-migrate-canary".to_owned()
}

fn command() -> Vec<String> {
    // A kubelet gives every container the API's Service in its environment.
    let script = r#"nc -z -w 5 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" || exit 2
nc -z -w 5 kubernetes.default.svc "$KUBERNETES_SERVICE_PORT" || exit 3"#;
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

fn timeout() -> Duration {
    Duration::from_secs(120)
}

#[cfg(test)]
mod tests {
    use crate::Policy;

    use super::*;

    #[test]
    fn an_image_is_all_it_needs_and_without_one_there_is_none() {
        let read = |json: &str| serde_json::from_str::<Policy>(json);
        let policy = read(r#"{"canary-pod": {"image": "busybox"}}"#).unwrap();
        assert_eq!(policy.canary_pod, Some(CanaryPod::new("busybox")));
        assert_eq!(read("{}").unwrap().canary_pod, None);
        assert!(read(r#"{"canary-pod": {}}"#).is_err());
        assert!(read(r#"{"canary-pod": {"image": "a", "timeout": 0}}"#).is_err());
        let none = serde_json::to_value(Policy::default()).unwrap();
        assert!(
            none.get("canary-pod").is_none(),
            "older runs hash as before"
        );
    }
}
