//! The executor's access to a real cluster.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube::{Client, ResourceExt};
use migrate_core::{ClusterId, ClusterModel, Fence, KubeVersion, Moment, StepError, StepInput};
use migrate_kube::resources::{Node, Pod};
use migrate_kube::{
    Anchor, Claim, CordonMark, Retries, RunMark, Selection, list_retried, observe_retried,
    take_over_nodes, unstamp_nodes,
};
use migrate_plan::Input;

use super::{AnchorState, ClusterAccess, MarkedNode, changes};
use crate::state::node_seen;

/// A cluster behind a `kube::Client`. Looks that are many reads try each of
/// them again by itself; the executor limits how long that may take.
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

    async fn observe(&self, now: Moment) -> Result<ClusterModel, StepError> {
        Ok(observe_retried(&self.client, now, &Retries::default()).await?)
    }

    async fn anchor(&self) -> Result<AnchorState, StepError> {
        Ok(Anchor::read(&self.client).await?.into())
    }

    async fn claim(&self, claim: &Claim, now: Moment) -> Result<u64, StepError> {
        Ok(Anchor::claim(&self.client, claim, now).await?.epoch)
    }

    async fn renew(
        &self,
        mark: &RunMark,
        epoch: u64,
        now: Moment,
    ) -> Result<AnchorState, StepError> {
        let anchor = Anchor::renew(&self.client, mark, epoch, now).await?;
        Ok(anchor.into())
    }

    async fn clear(&self, fence: &Fence) -> Result<(), StepError> {
        let anchor = Anchor::read(&self.client).await?;
        let is_ours = |mark: &RunMark| mark.run == fence.run && anchor.epoch == fence.epoch;
        if anchor.mark.as_ref().is_some_and(is_ours) {
            unstamp_nodes(&self.client, fence).await?;
            anchor.clear(&self.client).await?;
        }
        Ok(())
    }

    async fn node_of_pod(&self, namespace: &str, name: &str) -> Result<Option<String>, StepError> {
        // A list, for which there is a permission anyhow.
        let of_name = format!("metadata.name={name}");
        let selection = Selection::all().within(namespace).fields(of_name).unpaged();
        let pods = migrate_kube::list::<Pod>(&self.client, &selection).await?;
        let node = pods.into_iter().find_map(|pod| pod.spec.node_name);
        Ok(node.filter(|node| !node.is_empty()))
    }

    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError> {
        let retries = Retries::default();
        let nodes = list_retried::<Node>(&self.client, &Selection::all(), &retries).await?;
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

    async fn take_over(&self, fence: &Fence) -> Result<Vec<String>, StepError> {
        Ok(take_over_nodes(&self.client, fence).await?)
    }

    async fn prefer_upgraded(
        &self,
        fence: &Fence,
        nodes: &BTreeMap<String, KubeVersion>,
    ) -> Result<(), StepError> {
        migrate_kube::prefer_upgraded(&self.client, fence, nodes).await?;
        Ok(())
    }

    async fn look_at_node(&self, node: &str) -> Result<Input, StepError> {
        match migrate_kube::get::<Node>(&self.client, node).await? {
            Some(found) => Ok(node_seen(&found.to_model()?)),
            None => Ok(Input::NodeGone {
                node: node.to_owned(),
            }),
        }
    }

    fn changes(&self, input: &StepInput) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
        changes::watch(&self.client, input)
    }
}

impl From<Anchor> for AnchorState {
    fn from(anchor: Anchor) -> Self {
        Self {
            run: anchor.mark.as_ref().map(|mark| mark.run.clone()),
            journal: anchor.mark.map(|mark| mark.journal),
            epoch: anchor.epoch,
            holder: anchor.holder,
            paused: anchor.paused,
        }
    }
}
