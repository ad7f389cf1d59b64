//! Step 5: who is at the target, and in use again.

use async_trait::async_trait;
use migrate_core::steps::{Baseline, BaselineNode, Verdict, VerifyScope};
use migrate_core::{
    Finding, KubeVersion, ObjectName, Phase, Severity, StepContext, StepError, StepErrorKind,
    StepInput, VerifyMigration,
};
use tokio::time::sleep;

use super::trouble;
use crate::common::secs;
use crate::common::world::World;

/// At the target and in the state asked for, or not yet.
pub(super) struct Verifier(pub(super) World);

#[async_trait]
impl VerifyMigration for Verifier {
    async fn observe(&self, _: &StepContext) -> Result<Baseline, StepError> {
        sleep(secs(1)).await;
        let mut world = self.0.lock();
        if world.faults.unobservable {
            return Err(trouble(StepErrorKind::Unavailable, "no answer"));
        }
        world.settle();
        let looks = |phase: Phase| matches!(phase, Phase::Verify | Phase::Confirm);
        world.unlooked.retain(|_, phase| !looks(*phase));
        let mut baseline = Baseline::default();
        for (name, member) in &world.members {
            baseline
                .control_plane
                .insert(name.clone(), member.version.clone());
        }
        for (name, machine) in &world.nodes {
            let mut node = BaselineNode::new(true, machine.version.clone());
            node.unschedulable = machine.unschedulable;
            node.pool = Some(machine.pool.clone());
            baseline.nodes.insert(name.clone(), node);
        }
        Ok(baseline)
    }

    fn compare(
        &self,
        input: &StepInput,
        scope: &VerifyScope,
        before: &Baseline,
        now: &Baseline,
    ) -> Verdict {
        let is_there = |name: &String| now.nodes.contains_key(name);
        // Of one target the run says itself which version that goes to.
        let is_at = |name: &str, target: &KubeVersion| {
            let node = now.nodes.get(name);
            node.is_some_and(|node| node.kubelet_version == *target)
        };
        let mut progress = 0;
        let is_well = match scope {
            VerifyScope::ControlPlane { member } => {
                let mut world = self.0.lock();
                let (left, shows) = &mut world.faults.rolling;
                *left = left.saturating_sub(1);
                progress = if *shows {
                    u64::from(u32::MAX - *left)
                } else {
                    0
                };
                now.control_plane.get(member) == Some(&input.target) && *left == 0
            }
            VerifyScope::Node { node } => is_at(node, &input.target),
            VerifyScope::WorkloadsOf { node, displaced } => {
                let mut world = self.0.lock();
                world.asked_about.insert(node.clone(), displaced.clone());
                now.nodes.get(node).is_none_or(|node| !node.unschedulable)
            }
            VerifyScope::Cluster { replaced, held } => {
                let has_successors = |name: &String| {
                    let others = replaced.get(name);
                    others.is_some_and(|others| !others.is_empty() && others.iter().all(is_there))
                };
                // Clusters shrink.
                let is_deleted = |name: &String| {
                    !held.contains(name) && !before.control_plane.contains_key(name)
                };
                let mut all = before.nodes.keys();
                all.all(|name| is_there(name) || has_successors(name) || is_deleted(name))
                    && now.nodes.iter().all(|(name, node)| {
                        is_at(name, input.target_of_named(name, node.pool.as_deref()))
                    })
                    && now
                        .control_plane
                        .values()
                        .all(|version| *version == input.target)
            }
            _ => unreachable!(),
        };
        if is_well {
            let notes = self.0.lock().faults.noted.clone();
            return Verdict::Pass { notes };
        }
        let object = ObjectName::cluster("Scope", format!("{scope:?}"));
        let finding = Finding::new(
            "KM-VERIFY-001",
            Severity::Blocker,
            object,
            "not there",
            "wait",
        );
        Verdict::Pending {
            missing: vec![finding],
            retry_after: secs(0),
            progress,
        }
    }
}
