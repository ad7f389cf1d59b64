//! The executor's access to a real cluster.

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use migrate_core::{ClusterId, StepError, StepErrorKind, StepInput};
use migrate_kube::resources::Node;
use migrate_kube::{Anchor, ApiCall, CORDONED_BY, CordonMark, Error, RunMark, Selection};
use migrate_plan::Input;
use serde_json::json;

use super::{AnchorState, ClusterAccess, MarkedNode, changes};

/// A cluster behind a `kube::Client`.
#[derive(Clone)]
pub struct KubeAccess {
    client: Client,
}

impl KubeAccess {
    /// The cluster behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl ClusterAccess for KubeAccess {
    async fn identity(&self) -> Result<ClusterId, StepError> {
        Ok(migrate_kube::cluster_id(&self.client).await?)
    }

    async fn anchor(&self) -> Result<AnchorState, StepError> {
        let anchor = Anchor::read(&self.client).await?;
        Ok(AnchorState {
            run: anchor.mark.as_ref().map(|mark| mark.run.clone()),
            journal: anchor.mark.map(|mark| mark.journal),
            paused: anchor.paused,
        })
    }

    async fn claim(&self, mark: &RunMark) -> Result<(), StepError> {
        Anchor::claim(&self.client, mark).await?;
        Ok(())
    }

    async fn clear(&self, run: &str) -> Result<(), StepError> {
        let anchor = Anchor::read(&self.client).await?;
        if anchor.mark.as_ref().is_some_and(|mark| mark.run == run) {
            anchor.clear(&self.client).await?;
        }
        Ok(())
    }

    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError> {
        let nodes = migrate_kube::list::<Node>(&self.client, &Selection::all()).await?;
        let mut marked: Vec<_> = nodes
            .iter()
            .filter_map(|node| {
                let mark = CordonMark::of(node)?;
                Some(MarkedNode::new(
                    node.name_any(),
                    mark.run,
                    mark.was_unschedulable,
                ))
            })
            .collect();
        marked.sort();
        Ok(marked)
    }

    async fn take_over(&self, node: &str, from: &str, to: &str) -> Result<(), StepError> {
        let Some(seen) = migrate_kube::get::<Node>(&self.client, node).await? else {
            return Ok(());
        };
        if CordonMark::of(&seen).is_none_or(|mark| mark.run != from) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": seen.metadata.resource_version,
                "annotations": { CORDONED_BY: to },
            },
        });
        // Only the mark: whoever set `unschedulable` stays its manager, by
        // which a cordon of somebody else is recognised.
        Api::<Node>::all(self.client.clone())
            .patch(node, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(|error| unpatched(ApiCall::new::<Node>("patch").named(node).failed(error)))?;
        Ok(())
    }

    fn changes(&self, input: &StepInput) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
        changes::watch(&self.client, input)
    }
}

/// The node may have changed meanwhile: taking over is tried again as a whole.
fn unpatched(error: Error) -> StepError {
    let is_refused = matches!(error, Error::Forbidden { .. });
    let mut error = StepError::from(error);
    if !is_refused {
        error.kind = StepErrorKind::Unavailable;
    }
    error.message = format!("cannot take over its cordon: {}", error.message);
    error
}
