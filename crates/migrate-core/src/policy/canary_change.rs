//! The change that every node's agents have to see.

use serde::{Deserialize, Serialize};

/// A change that is made once the control plane is back, and that the agents of
/// every node have to have seen before the run goes on.
///
/// It is a pod on each node that its kubelet refuses, and a Service of the API's:
/// no image is pulled and nothing runs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CanaryChange {
    /// Where it is made. The namespace has to be there (`docs/rbac-canary.yaml`).
    #[serde(default = "super::canary_pod::namespace")]
    pub namespace: String,
}

impl Default for CanaryChange {
    fn default() -> Self {
        Self {
            namespace: super::canary_pod::namespace(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Policy;

    use super::*;

    #[test]
    fn an_empty_table_is_all_it_needs_and_without_one_there_is_none() {
        let read = |json: &str| serde_json::from_str::<Policy>(json);
        let policy = read(r#"{"canary-change": {}}"#).unwrap();
        assert_eq!(policy.canary_change, Some(CanaryChange::default()));
        assert_eq!(read("{}").unwrap().canary_change, None);
        assert!(read(r#"{"canary-change": {"image": "a"}}"#).is_err());
        let none = serde_json::to_value(Policy::default()).unwrap();
        assert!(
            none.get("canary-change").is_none(),
            "older runs hash as before"
        );
    }
}
