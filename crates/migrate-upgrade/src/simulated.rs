//! The driver of embedded clusters.

use async_trait::async_trait;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
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
/// nobody answers and actions stay `Running`.
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
        if self.probe(cx, action).await? != ActionStatus::Absent || action.phase != Phase::Upgrade {
            return Ok(());
        }
        let [version, id, _] = Self::keys(&action.target);
        let annotations = json!({ version: action.to.to_string(), id: action.id.as_str() });
        let patch = json!({ "metadata": { "annotations": annotations } });
        self.nodes
            .patch(
                action.target.name(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
            .map_err(Self::failed(action))?;
        Ok(())
    }

    async fn probe(&self, _: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        let [_, id, done] = Self::keys(&action.target);
        let node = self
            .nodes
            .get_metadata(action.target.name())
            .await
            .map_err(Self::failed(action))?;
        let is_ours = |key| {
            node.annotations()
                .get(key)
                .is_some_and(|value| value == action.id.as_str())
        };
        Ok(if is_ours(done) {
            ActionStatus::Succeeded(migrate_core::Outcome::SameNode)
        } else if is_ours(id) {
            ActionStatus::Running
        } else {
            ActionStatus::Absent
        })
    }
}
