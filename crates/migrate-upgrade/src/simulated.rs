//! The driver of embedded clusters.

use async_trait::async_trait;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use migrate_core::{
    Action, ActionStatus, Phase, StepContext, StepError, Target, UpgradeComponents,
};
use serde_json::json;

use crate::Error;

/// Upgrades the nodes and control-plane members of an embedded cluster.
///
/// It only uses the API: it writes the wanted version and the action's id as
/// annotations (`sim.kube-migrate.dev/…`) on the Node, and the simulated
/// kubelet answers with the id of what it has finished. On a real cluster
/// nobody answers and actions stay `Running`. The epoch is written with it, and
/// an older one refused, as a node's own disk does it.
#[derive(Clone)]
pub struct SimulatedDriver {
    nodes: Api<DynamicObject>,
}

/// The annotations of one kind of target: wanted version, action, done.
type Keys = [&'static str; 3];

const NODE: Keys = [
    "sim.kube-migrate.dev/kubelet-version",
    "sim.kube-migrate.dev/action",
    "sim.kube-migrate.dev/action-done",
];
const CONTROL_PLANE: Keys = [
    "sim.kube-migrate.dev/control-plane-version",
    "sim.kube-migrate.dev/control-plane-action",
    "sim.kube-migrate.dev/control-plane-action-done",
];

/// The newest epoch that began something on the node.
const EPOCH: &str = "sim.kube-migrate.dev/epoch";

impl SimulatedDriver {
    /// A driver for the embedded cluster behind `client`.
    pub fn new(client: Client) -> Self {
        let node = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
        Self {
            nodes: Api::all_with(client, &node),
        }
    }

    fn keys(target: &Target) -> Keys {
        match target {
            Target::ControlPlane { .. } => CONTROL_PLANE,
            _ => NODE,
        }
    }

    fn failed(action: &Action) -> impl Fn(kube::Error) -> Error {
        let node = action.target.name().to_owned();
        move |source| Error::Api {
            node: node.clone(),
            source: Box::new(source),
        }
    }
}

#[async_trait]
impl UpgradeComponents for SimulatedDriver {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        let name = action.target.name();
        let [version, id, _] = Self::keys(&action.target);
        let node = self.nodes.get_metadata(name).await;
        let node = node.map_err(Self::failed(action))?;
        let held = node.annotations().get(EPOCH);
        let held: u64 = held.and_then(|text| text.parse().ok()).unwrap_or(0);
        if held > cx.fence.epoch {
            return Err(StepError::from(Error::StaleEpoch {
                node: name.to_owned(),
                epoch: cx.fence.epoch,
                held: held.to_string(),
            }));
        }
        if Self::status(action, &node) != ActionStatus::Absent || action.phase != Phase::Upgrade {
            return Ok(());
        }
        let annotations = json!({
            version: action.to.to_string(),
            id: action.id.as_str(),
            EPOCH: cx.fence.epoch.to_string(),
        });
        // From the version that was read: whoever writes meanwhile is looked at.
        let metadata = json!({
            "resourceVersion": node.resource_version(), "annotations": annotations,
        });
        let patch = json!({ "metadata": metadata });
        self.nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(Self::failed(action))?;
        Ok(())
    }

    async fn probe(&self, _: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        let node = self.nodes.get_metadata(action.target.name()).await;
        Ok(Self::status(action, &node.map_err(Self::failed(action))?))
    }
}

impl SimulatedDriver {
    /// How `action` stands on `node`.
    fn status(action: &Action, node: &PartialObjectMeta<DynamicObject>) -> ActionStatus {
        let [_, id, done] = Self::keys(&action.target);
        let is_ours = |key| {
            node.annotations()
                .get(key)
                .is_some_and(|value| value == action.id.as_str())
        };
        if is_ours(done) {
            ActionStatus::Succeeded(migrate_core::Outcome::SameNode)
        } else if is_ours(id) {
            ActionStatus::Running
        } else {
            ActionStatus::Absent
        }
    }
}
