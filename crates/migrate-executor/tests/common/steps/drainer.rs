//! Step 4: cordons, evictions, and nodes given back.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use migrate_core::steps::{
    DrainCommand, DrainCommands, DrainEvent, DrainEvents, DrainFailure, DrainFailureKind,
    DrainOutcome,
};
use migrate_core::{
    Fence, MigratePods, StepContext, StepError, StepErrorKind, StepInput, WorkloadId,
};
use tokio::time::sleep;

use super::trouble;
use crate::common::secs;
use crate::common::world::{Cordon, World};

/// Drains all nodes it is asked to, side by side, while it is polled.
pub(super) struct Drainer(pub(super) World);

#[async_trait]
impl MigratePods for Drainer {
    async fn migrate(
        &self,
        cx: &StepContext,
        _: &StepInput,
        commands: DrainCommands,
    ) -> Result<DrainEvents, StepError> {
        sleep(secs(1)).await;
        if self.0.lock().faults.drainer_forbidden {
            let what = "it may not list pods; add the rule";
            return Err(trouble(StepErrorKind::Forbidden, what));
        }
        if self.0.lock().faults.drainer_silent {
            return Ok(stream::pending().boxed());
        }
        let (world, fence) = (self.0.clone(), cx.fence.clone());
        let events = commands.flat_map_unordered(None, move |command| {
            let (world, fence) = (world.clone(), fence.clone());
            stream::once(async move {
                match command {
                    DrainCommand::Drain { node } => drain(&world, &fence, node).await,
                    DrainCommand::Release { node } => release(&world, &fence, node).await,
                    _ => unreachable!(),
                }
            })
            .boxed()
        });
        let left = self.0.lock().faults.drainer_ends_after.take();
        let left = AtomicU32::new(left.unwrap_or(u32::MAX));
        let events = events.take_while(move |_| {
            let goes_on = left.fetch_sub(1, Ordering::SeqCst) > 0;
            std::future::ready(goes_on)
        });
        Ok(events.boxed())
    }
}

/// Whether `fence` may write to `node`: the node was read before, with this
/// stamp, and the anchor after it.
fn admits(world: &World, fence: &Fence, node: &str) -> bool {
    let world = world.lock();
    let is_ours =
        world.anchor.epoch == fence.epoch && world.anchor.run.as_ref() == Some(&fence.run);
    // A node that is gone has no stamp.
    let stamp = world.nodes.get(node).map_or(0, |machine| machine.stamp);
    world.faults.unfenced || (stamp <= fence.epoch && is_ours)
}

async fn drain(world: &World, fence: &Fence, node: String) -> DrainEvent {
    let run = fence.run.as_str();
    if world.lock().faults.refused.contains(&node) {
        let outcome = DrainOutcome::Failed {
            kind: DrainFailureKind::Refused,
            reason: "it is not to be touched".to_owned(),
            retryable: false,
        };
        return DrainEvent::drained(node, outcome);
    }
    if !admits(world, fence, &node) {
        let outcome = DrainOutcome::Failed {
            kind: DrainFailureKind::Superseded,
            reason: "another runner holds the run".to_owned(),
            retryable: false,
        };
        return DrainEvent::drained(node, outcome);
    }
    let cordoned = {
        let mut world = world.lock();
        let machine = world.nodes.get_mut(&node).unwrap();
        let foreign = machine.cordon.as_ref().filter(|cordon| cordon.run != run);
        if let Some(foreign) = foreign {
            let reason = format!("run {} has cordoned it", foreign.run);
            let outcome = DrainOutcome::Failed {
                kind: DrainFailureKind::OtherOwner,
                reason,
                retryable: false,
            };
            return DrainEvent::drained(node, outcome);
        }
        machine.stamp = fence.epoch;
        let cordoned = machine.cordon.is_none();
        if cordoned {
            machine.cordon = Some(Cordon {
                run: run.to_owned(),
                before: machine.unschedulable,
            });
            machine.unschedulable = true;
        }
        cordoned
    };
    if cordoned {
        world.effect(format!("cordon {node}")).await;
    }
    sleep(secs(3)).await;
    if world.lock().faults.undrainable.contains(&node) {
        let outcome = DrainOutcome::Failed {
            kind: DrainFailureKind::Other,
            reason: "a budget that never gives way".to_owned(),
            retryable: false,
        };
        return DrainEvent::drained(node, outcome);
    }
    let mut evictions = 0;
    loop {
        let left = {
            let mut world = world.lock();
            let Some(machine) = world.nodes.get_mut(&node) else {
                return DrainEvent::drained(node, DrainOutcome::NodeGone { evictions });
            };
            let left = machine.pods;
            machine.pods = left.saturating_sub(1);
            world.displaced += u32::from(left > 0);
            left
        };
        if left == 0 {
            let moved = WorkloadId::new("Deployment", "shop", format!("moved-{node}"));
            return DrainEvent::Drained {
                node,
                outcome: DrainOutcome::Empty { evictions },
                displaced: vec![moved],
            };
        }
        world.effect(format!("evict {node}-{}", left - 1)).await;
        evictions += 1;
        sleep(secs(2)).await;
    }
}

async fn release(world: &World, fence: &Fence, node: String) -> DrainEvent {
    let run = fence.run.as_str();
    if !admits(world, fence, &node) {
        let kind = DrainFailureKind::Superseded;
        let error = Some(DrainFailure::new(kind, "another runner holds the run"));
        return DrainEvent::Released { node, error };
    }
    let lifted = {
        let mut world = world.lock();
        // One that is gone has no cordon either.
        world.nodes.get_mut(&node).is_some_and(|machine| {
            machine.stamp = 0;
            let ours = machine.cordon.take_if(|cordon| cordon.run == run);
            if let Some(cordon) = &ours {
                machine.unschedulable = cordon.before;
            }
            ours.is_some()
        })
    };
    if lifted {
        world.effect(format!("uncordon {node}")).await;
    }
    sleep(secs(1)).await;
    DrainEvent::Released { node, error: None }
}
