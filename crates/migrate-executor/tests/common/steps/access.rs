//! The executor's own access: the anchor, marks, and what is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use migrate_core::{
    BudgetKey, ClusterId, ClusterModel, Fence, KubeVersion, Moment, Node, Phase, StepError,
    StepErrorKind, StepInput,
};
use migrate_executor::{AnchorState, ClusterAccess, MarkedNode};
use migrate_kube::{Claim, Holder, RunMark};
use migrate_plan::Input;
use tokio::time::sleep;

use super::trouble;
use crate::common::secs;
use crate::common::world::World;

/// The executor's own access.
pub(crate) struct Access(pub(crate) World);

impl Access {
    /// No two calls fail alike, as while a server comes up.
    fn reach(&self) -> Result<(), StepError> {
        let mut world = self.0.lock();
        if !world.faults.api_away {
            return Ok(());
        }
        world.faults.unanswered += 1;
        let what = format!("the API is away, call {}", world.faults.unanswered);
        Err(trouble(StepErrorKind::Unavailable, &what))
    }
}

#[async_trait]
impl ClusterAccess for Access {
    async fn identity(&self) -> Result<ClusterId, StepError> {
        self.reach()?;
        Ok(self.0.lock().id.clone())
    }

    async fn observe(&self, _: Moment) -> Result<ClusterModel, StepError> {
        Ok(self.0.model())
    }

    async fn anchor(&self) -> Result<AnchorState, StepError> {
        sleep(secs(1)).await;
        self.reach()?;
        let mut world = self.0.lock();
        if world.faults.anchor_unreadable > 0 {
            world.faults.anchor_unreadable -= 1;
            return Err(trouble(StepErrorKind::Unavailable, "the API is away"));
        }
        if world.faults.anchor_forbidden > 0 {
            world.faults.anchor_forbidden -= 1;
            return Err(trouble(StepErrorKind::Forbidden, "forbidden"));
        }
        Ok(world.anchor.state())
    }

    async fn claim(&self, claim: &Claim, now: Moment) -> Result<u64, StepError> {
        self.reach()?;
        let epoch = {
            let mut world = self.0.lock();
            let anchor = &mut world.anchor;
            let mark = &claim.mark;
            if anchor.run.as_ref().is_some_and(|run| *run != mark.run) {
                return Err(trouble(StepErrorKind::Conflict, "another run is under way"));
            }
            let other = |holder: &&Holder| holder.identity != mark.journal;
            let holder = anchor.holder.as_ref().filter(other);
            if holder.is_some_and(|holder| claim.lapsed.as_ref() != Some(holder)) {
                return Err(trouble(
                    StepErrorKind::Conflict,
                    "another holder is at work",
                ));
            }
            anchor.run = Some(mark.run.clone());
            anchor.journal = Some(mark.journal.clone());
            anchor.epoch = anchor.epoch.max(claim.floor) + 1;
            anchor.holder = Some(holder_of(&mark.journal, now, claim.lasts));
            anchor.epoch
        };
        self.0.effect("claim".to_owned()).await;
        Ok(epoch)
    }

    async fn renew(
        &self,
        mark: &RunMark,
        epoch: u64,
        now: Moment,
    ) -> Result<AnchorState, StepError> {
        sleep(secs(1)).await;
        let is_held_back = || {
            let world = self.0.lock();
            world.faults.slow_renewals && world.anchor.run.is_some()
        };
        for _ in 0..140 {
            if is_held_back() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        self.reach()?;
        let mut world = self.0.lock();
        if world.faults.unrenewable {
            return Err(trouble(StepErrorKind::Unavailable, "the API is away"));
        }
        let anchor = &mut world.anchor;
        let is_ours = anchor.run.as_ref() == Some(&mark.run)
            && anchor.journal.as_ref() == Some(&mark.journal)
            && anchor.epoch == epoch;
        if is_ours && let Some(holder) = &mut anchor.holder {
            holder.renewed = now.to_string();
        }
        Ok(anchor.state())
    }

    async fn clear(&self, fence: &Fence) -> Result<(), StepError> {
        {
            let mut world = self.0.lock();
            let anchor = &mut world.anchor;
            if anchor.run.as_ref() != Some(&fence.run) || anchor.epoch != fence.epoch {
                return Ok(());
            }
            anchor.run = None;
            anchor.journal = None;
            anchor.holder = None;
            for node in world.nodes.values_mut() {
                node.stamp = 0;
            }
        }
        self.0.effect("clear".to_owned()).await;
        Ok(())
    }

    async fn prefer_upgraded(
        &self,
        _: &Fence,
        _: &BTreeMap<String, KubeVersion>,
    ) -> Result<(), StepError> {
        let (left, tried) = &mut self.0.lock().faults.untold;
        *tried += 1;
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                Err(trouble(StepErrorKind::Unavailable, "the API is away"))
            }
            None => Ok(()),
        }
    }

    async fn marked_nodes(&self) -> Result<Vec<MarkedNode>, StepError> {
        sleep(secs(1)).await;
        let world = self.0.lock();
        let marked = world.nodes.iter().filter_map(|(name, machine)| {
            let cordon = machine.cordon.as_ref()?;
            Some(MarkedNode::new(name, &cordon.run, cordon.before))
        });
        Ok(marked.collect())
    }

    async fn take_over(&self, fence: &Fence) -> Result<Vec<String>, StepError> {
        let names: Vec<String> = self.0.lock().nodes.keys().cloned().collect();
        for name in &names {
            let taken = {
                let mut world = self.0.lock();
                let machine = world.nodes.get_mut(name).unwrap();
                machine.stamp = fence.epoch;
                match machine.cordon.as_mut().filter(|it| it.run != fence.run) {
                    Some(cordon) => {
                        cordon.run = fence.run.clone();
                        true
                    }
                    None => false,
                }
            };
            if taken {
                self.0.effect(format!("take over {name}")).await;
            }
        }
        let marked = self.marked_nodes().await?;
        Ok(marked.into_iter().map(|marked| marked.node).collect())
    }

    async fn look_at_node(&self, node: &str) -> Result<Input, StepError> {
        sleep(secs(1)).await;
        let model = self.0.model();
        let mut nodes = model.nodes.into_iter().map(told);
        let is_it = |seen: &Input| matches!(seen, Input::NodeSeen { node: of, .. } if of == node);
        Ok(nodes.find(is_it).unwrap_or_else(|| Input::NodeGone {
            node: node.to_owned(),
        }))
    }

    /// Everything, again and again.
    fn changes(&self, _: &StepInput) -> BoxStream<'static, Result<Vec<Input>, StepError>> {
        let world = self.0.clone();
        let look = move |known: Option<BTreeSet<String>>| {
            let world = world.clone();
            async move {
                if known.is_some() {
                    sleep(secs(1)).await;
                    while world.lock().faults.blind {
                        sleep(secs(1)).await;
                    }
                }
                let model = world.model();
                let mut inner = world.lock();
                inner.unlooked.retain(|_, phase| *phase != Phase::Drain);
                drop(inner);
                let there: BTreeSet<String> =
                    model.nodes.iter().map(|node| node.name.clone()).collect();
                let known = known.unwrap_or_default();
                let gone = known.difference(&there).cloned();
                let gone: Vec<_> = gone.map(|node| Input::NodeGone { node }).collect();
                let nodes = model.nodes.into_iter().map(told).chain(gone);
                let budgets = model.budgets.into_iter().map(|budget| Input::BudgetSeen {
                    key: BudgetKey::real(budget.namespace, budget.name),
                    allowed: 2,
                });
                Some((Ok(nodes.chain(budgets).collect()), Some(there)))
            }
        };
        stream::unfold(None, look).boxed()
    }
}

/// What is told of a node.
fn told(node: Node) -> Input {
    Input::NodeSeen {
        node: node.name,
        ready: node.ready,
        unschedulable: node.unschedulable,
        kubelet_version: node.kubelet_version,
        uid: Some(node.uid),
    }
}

fn holder_of(journal: &str, now: Moment, lasts: Duration) -> Holder {
    let lease = serde_json::json!({ "spec": {
        "holderIdentity": journal,
        "renewTime": now.to_string(),
        "leaseDurationSeconds": lasts.as_secs(),
    }});
    let lease = serde_json::from_value(lease).unwrap();
    migrate_kube::Anchor::of(&lease).holder.unwrap()
}
