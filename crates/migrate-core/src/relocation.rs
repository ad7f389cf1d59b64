//! Where the pods of drained nodes are predicted to go.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ObjectName;
use crate::plan::millis;

/// What a schedule does to the pods of the nodes that it drains: a prediction,
/// no part of what a plan fixes.
///
/// It supposes that nodes which are not drained any more are preferred, and that
/// nothing else comes or goes. The scheduler decides for real.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Relocation {
    /// Pods that are evicted at least once.
    pub pods: u64,
    /// Evictions.
    pub evictions: u64,
    /// Evictions that no placement does without under this schedule: one of each
    /// pod, and one more of each that has to go before any node is done that
    /// could take it.
    pub least: u64,
    /// Pods that find no room when they have to go.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub homeless: u64,
    /// Whose they are, those with the most pods first; at most
    /// [`SHOWN`](Self::SHOWN).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitForRoom>,
    /// Workloads whose pods stood on several nodes and stand on one in the end,
    /// by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crowded: Vec<ObjectName>,
    /// Where pods go, in the order of drains; only where it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
}

/// Pods of one workload, or a pod without one, that find no room.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct WaitForRoom {
    /// The workload, or the pod.
    pub object: ObjectName,
    /// How many of its pods.
    pub pods: u64,
    /// The node that the first of them has to leave.
    pub node: String,
    /// When, from the start of the rollout (milliseconds in JSON).
    #[serde(with = "millis")]
    pub since: Duration,
    /// The longest that any of them waits; absent where one waits until the end
    /// (milliseconds in JSON).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "some_millis")]
    pub longest: Option<Duration>,
}

/// Pods of one workload, or a pod without one, that go from one node to another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The node that is drained.
    pub from: String,
    /// Where they go.
    pub to: String,
    /// The workload, or the pod.
    pub object: ObjectName,
    /// How many.
    pub pods: u32,
}

impl Relocation {
    /// How many of [`waits`](Self::waits) are kept.
    pub const SHOWN: usize = 20;

    /// So many pods, moved so often, and at least so often.
    pub fn new(pods: u64, evictions: u64, least: u64) -> Self {
        Self {
            pods,
            evictions,
            least,
            ..Self::default()
        }
    }

    /// Evictions for each pod; 1 where none is moved.
    pub fn moves_per_pod(&self) -> f64 {
        ratio(self.evictions, self.pods)
    }

    /// What no placement is below, under this schedule; 1 + *b* / *N* where *b* of
    /// *N* nodes go first and all have as many pods.
    pub fn least_moves_per_pod(&self) -> f64 {
        ratio(self.least, self.pods)
    }
}

impl WaitForRoom {
    /// `pods` pods of `object`, the first of which has to leave `node` at `since`.
    pub fn new(object: ObjectName, pods: u64, node: impl Into<String>, since: Duration) -> Self {
        Self {
            object,
            pods,
            node: node.into(),
            since,
            longest: None,
        }
    }
}

impl Destination {
    /// `pods` pods of `object` go from `from` to `to`.
    pub fn new(
        object: ObjectName,
        pods: u32,
        from: impl Into<String>,
        to: impl Into<String>,
    ) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            object,
            pods,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(pods: &u64) -> bool {
    *pods == 0
}

fn ratio(of: u64, to: u64) -> f64 {
    match to {
        0 => 1.0,
        _ => of as f64 / to as f64,
    }
}

mod some_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = value.map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
        millis.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(d)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_per_pod_are_evictions_over_pods() {
        let relocation = Relocation::new(200, 214, 208);
        assert_eq!(relocation.moves_per_pod(), 1.07);
        assert_eq!(relocation.least_moves_per_pod(), 1.04);
        assert_eq!(Relocation::default().moves_per_pod(), 1.0);
    }
}
