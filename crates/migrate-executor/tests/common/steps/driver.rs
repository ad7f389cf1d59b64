//! Step 3: upgrades.

use async_trait::async_trait;
use migrate_core::{
    Action, ActionStatus, EventKind, Outcome, StepContext, StepError, StepErrorKind, Target,
    UpgradeAddons, UpgradeComponents,
};
use tokio::time::{Instant, sleep};

use super::trouble;
use crate::common::secs;
use crate::common::world::{Machine, UPGRADE, Upgrade, World};

/// Upgrades that go on by themselves once begun.
pub(super) struct Driver(pub(super) World);

impl Driver {
    fn is_there(&self, target: &Target) -> Result<(), StepError> {
        match target {
            Target::Node { node, .. } if !self.0.lock().nodes.contains_key(node) => {
                Err(trouble(StepErrorKind::Permanent, "there is no such node"))
            }
            _ => Ok(()),
        }
    }

    fn with<T>(&self, target: &Target, f: impl FnOnce(&mut Machine) -> T) -> T {
        let mut world = self.0.lock();
        let machines = match target {
            Target::Addon { .. } => &mut world.addons,
            Target::ControlPlane { .. } => &mut world.members,
            _ => &mut world.nodes,
        };
        f(machines.get_mut(target.name()).unwrap())
    }
}

#[async_trait]
impl UpgradeComponents for Driver {
    async fn begin(&self, cx: &StepContext, action: &Action) -> Result<(), StepError> {
        sleep(secs(1)).await;
        self.is_there(&action.target)?;
        let name = action.target.name().to_owned();
        let unfenced = self.0.lock().faults.unfenced;
        let held = self.with(&action.target, |machine| {
            machine.fence = machine.fence.max(cx.fence.epoch);
            machine.fence
        });
        if held > cx.fence.epoch && !unfenced {
            return Err(trouble(StepErrorKind::Conflict, "our epoch is old"));
        }
        let has_failed = self.with(&action.target, |machine| {
            let upgrade = machine.upgrade.as_ref();
            upgrade.is_some_and(|it| it.action == action.id.as_str() && it.fails.is_some())
        });
        let (fault, lies, hangs, length) = {
            let mut world = self.0.lock();
            let put_off = world.faults.put_off.get_mut(&name);
            if let Some(left) = put_off.filter(|left| has_failed && **left > 0) {
                *left -= 1;
                return Err(trouble(StepErrorKind::Unavailable, "etcd is not well yet"));
            }
            let fault = world
                .faults
                .fails
                .get_mut(&name)
                .filter(|(left, _)| *left > 0);
            let fault = fault.map(|(left, retryable)| {
                *left -= 1;
                *retryable
            });
            let faults = &world.faults;
            let length = if faults.stuck.contains(&name) {
                UPGRADE * 1000
            } else {
                UPGRADE
            };
            (
                fault,
                faults.lies.contains(&name),
                faults.hangs.contains(&name),
                length,
            )
        };
        let is_node = matches!(action.target, Target::Node { .. });
        let effect = self.with(&action.target, |machine| {
            let again = match &machine.upgrade {
                Some(upgrade) if upgrade.action == action.id.as_str() => {
                    // Only what failed is begun anew.
                    upgrade.fails?;
                    "again "
                }
                _ => "",
            };
            machine.upgrade = Some(Upgrade {
                action: action.id.to_string(),
                done_at: Instant::now() + length,
                fails: fault,
                lies,
                to: action.to.clone(),
            });
            let unfit = is_node && (machine.pods > 0 || !machine.unschedulable);
            Some((format!("begin {again}{}", action.id), unfit))
        });
        if let Some((effect, unfit)) = effect {
            if unfit {
                let broken = format!("{name} is changed while in use");
                self.0.lock().broken.push(broken);
            }
            self.0.lock().begins(&effect);
            self.0.effect(effect).await;
        } else {
            // Harmless, for it is idempotent; but nobody looked.
            self.0
                .lock()
                .broken
                .push(format!("{name} was begun without a look"));
        }
        if hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn probe(&self, cx: &StepContext, action: &Action) -> Result<ActionStatus, StepError> {
        sleep(secs(1)).await;
        for finding in self.0.lock().faults.finds.clone() {
            cx.emit(EventKind::Found { finding });
        }
        let name = action.target.name();
        if !self.0.lock().faults.replaced.contains(name) {
            self.is_there(&action.target)?;
        }
        {
            let mut world = self.0.lock();
            if world.faults.unprobed.contains(name) {
                return Err(trouble(StepErrorKind::Unavailable, "no way to the node"));
            }
            world.unlooked.remove(action.id.as_str());
            world.settle();
            let is_there = world
                .nodes
                .get(name)
                .is_some_and(|node| node.version != action.to);
            if matches!(action.target, Target::Node { .. })
                && !is_there
                && let Some(new) = world.replacement(name)
            {
                let nodes = vec![new];
                return Ok(ActionStatus::Succeeded(Outcome::ReplacedBy { nodes }));
            }
        }
        Ok(self.with(&action.target, |machine| match &machine.upgrade {
            Some(upgrade) if upgrade.action == action.id.as_str() => {
                match (upgrade.done_at > Instant::now(), upgrade.fails) {
                    (true, _) => ActionStatus::Running,
                    (false, Some(retryable)) => ActionStatus::Failed {
                        retryable,
                        reason: "the disk broke".to_owned(),
                    },
                    (false, None) => ActionStatus::Succeeded(Outcome::SameNode),
                }
            }
            _ => ActionStatus::Absent,
        }))
    }
}

#[async_trait]
impl UpgradeAddons for Driver {
    async fn verify(&self, _: &StepContext, action: &Action) -> Result<(), StepError> {
        sleep(secs(1)).await;
        let name = action.target.name();
        let mut world = self.0.lock();
        world.settle();
        if world.faults.broken_addons.contains(name) {
            return Err(trouble(StepErrorKind::Permanent, "no pod starts"));
        }
        match world.addons[name].version == world.to {
            true => Ok(()),
            false => Err(trouble(StepErrorKind::Unavailable, "its pods are old")),
        }
    }
}
