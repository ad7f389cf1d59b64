//! The executor's access to a real cluster.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use migrate_core::{BudgetKey, ClusterId, ObjectName, StepError, StepErrorKind};
use migrate_kube::resources::{Node, PodDisruptionBudget};
use migrate_kube::{Anchor, CORDONED_BY, CordonMark, RunMark, Selection, WatchEvent};
use migrate_plan::Input;
use serde_json::json;

use super::{AnchorState, ClusterAccess, MarkedNode};

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
            .map_err(|error| unpatched(node, error))?;
        Ok(())
    }

    fn changes(&self) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
        let all = Selection::all();
        let nodes = migrate_kube::watch(Api::<Node>::all(self.client.clone()), &all);
        let budgets =
            migrate_kube::watch(Api::<PodDisruptionBudget>::all(self.client.clone()), &all);
        let events = stream::select(
            nodes.map(|event| event.map(Seen::Node)),
            budgets.map(|event| event.map(Seen::Budget)),
        );
        let mut view = View::default();
        events
            .filter_map(move |event| {
                let inputs = match event {
                    Ok(seen) => view.take(seen).map(Ok),
                    Err(error) => Some(Err(error.into())),
                };
                std::future::ready(inputs)
            })
            .boxed()
    }
}

/// An event of one of the two watches.
enum Seen {
    Node(WatchEvent<Node>),
    Budget(WatchEvent<PodDisruptionBudget>),
}

/// What has to be remembered to tell what is gone, and what is everything.
#[derive(Default)]
struct View {
    names: BTreeSet<String>,
    nodes_listed: bool,
    budgets_listed: bool,
    /// Seen before both kinds were listed.
    early: Vec<Input>,
}

impl View {
    /// The inputs that an event gives; `None` until everything was listed.
    fn take(&mut self, seen: Seen) -> Option<Vec<Input>> {
        let inputs = match seen {
            Seen::Node(event) => self.node(event),
            Seen::Budget(event) => self.budget(event),
        };
        self.early.extend(inputs);
        (self.nodes_listed && self.budgets_listed).then(|| std::mem::take(&mut self.early))
    }

    fn node(&mut self, event: WatchEvent<Node>) -> Vec<Input> {
        match event {
            WatchEvent::Restarted(nodes) => {
                self.nodes_listed = true;
                let names: BTreeSet<_> = nodes.iter().map(|node| node.name_any()).collect();
                let gone = self.names.difference(&names).cloned();
                let mut inputs: Vec<_> = gone.map(|node| Input::NodeGone { node }).collect();
                inputs.extend(nodes.iter().filter_map(node_seen));
                self.names = names;
                inputs
            }
            WatchEvent::Applied(node) => {
                self.names.insert(node.name_any());
                node_seen(&node).into_iter().collect()
            }
            WatchEvent::Deleted(node) => {
                let node = node.name_any();
                self.names.remove(&node);
                vec![Input::NodeGone { node }]
            }
            _ => Vec::new(),
        }
    }

    fn budget(&mut self, event: WatchEvent<PodDisruptionBudget>) -> Vec<Input> {
        match event {
            WatchEvent::Restarted(budgets) => {
                self.budgets_listed = true;
                budgets.iter().map(budget_seen).collect()
            }
            WatchEvent::Applied(budget) => vec![budget_seen(&budget)],
            // A budget that is gone blocks nothing.
            WatchEvent::Deleted(budget) => {
                let budget = budget.to_model();
                vec![Input::BudgetSeen {
                    key: BudgetKey::real(budget.namespace, budget.name),
                    allowed: u32::MAX,
                }]
            }
            _ => Vec::new(),
        }
    }
}

/// `None` for a node whose kubelet has not reported yet: nothing runs on it.
fn node_seen(node: &Node) -> Option<Input> {
    let node = node.to_model().ok()?;
    Some(Input::NodeSeen {
        node: node.name,
        ready: node.ready,
        unschedulable: node.unschedulable,
        kubelet_version: node.kubelet_version,
    })
}

fn budget_seen(budget: &PodDisruptionBudget) -> Input {
    let budget = budget.to_model();
    Input::BudgetSeen {
        key: BudgetKey::real(budget.namespace, budget.name),
        allowed: u32::try_from(budget.status.disruptions_allowed).unwrap_or(0),
    }
}

fn unpatched(node: &str, error: kube::Error) -> StepError {
    let kind = match &error {
        kube::Error::Api(status) if status.code == 403 => StepErrorKind::Forbidden,
        // The node changed meanwhile: taking over is tried again as a whole.
        _ => StepErrorKind::Unavailable,
    };
    StepError::new(
        kind,
        ObjectName::cluster("Node", node),
        format!("cannot take over its cordon: {error}"),
    )
    .with_source(error)
}
