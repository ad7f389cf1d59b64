//! The identity of a model: all that a rollout decides from.

use std::fmt::Write;

use migrate_core::{BudgetKind, ClusterModel, ContentHasher, Role};

use super::Interned;

impl Interned<'_> {
    /// Hash of what of `model` has a say in what a rollout does: when
    /// it was taken, members, nodes, budgets and what they allow, and how many pods
    /// of which budgets have to leave which nodes, for how long. Linear in these, and
    /// pods are not read again: their names, images, places in lists and whatever
    /// else is no part of it.
    pub(crate) fn hash(&self, model: &ClusterModel) -> String {
        let mut hasher = ContentHasher::default();
        hasher.number(model.schema.into());
        hasher.text(model.cluster.as_str());
        hasher.text(&model.taken_at.to_string());
        let mut version = String::new();
        hasher.number(model.control_plane.len() as u64);
        for member in &model.control_plane {
            version.clear();
            // Writing to a string cannot fail.
            let _ = write!(version, "{}", member.version);
            hasher.text(&member.name);
            hasher.text(&version);
            hasher.number(member.ready.into());
        }
        hasher.number(model.nodes.len() as u64);
        let mut written = None;
        for ((node, load), id) in model.nodes.iter().zip(&self.loads).zip(0..) {
            // Neighbours mostly have the same.
            if written.replace(&node.kubelet_version) != Some(&node.kubelet_version) {
                version.clear();
                let _ = write!(version, "{}", node.kubelet_version);
            }
            hasher.text(&node.name);
            hasher.text(&node.uid);
            hasher.text(self.pools.name_of(id));
            hasher.text(node.zone().unwrap_or_default());
            hasher.text(&version);
            let flags = [
                node.role == Role::ControlPlane,
                node.ready,
                node.unschedulable,
                load.volumes,
            ];
            hasher.number(
                flags
                    .iter()
                    .fold(0, |all, flag| all << 1 | u64::from(*flag)),
            );
            hasher.number(u64::from(load.pods) << 32 | u64::from(load.grace_seconds));
            let touches = self.touches(id);
            hasher.number(touches.len() as u64);
            for touch in touches {
                hasher.number(u64::from(touch.budget) << 32 | u64::from(touch.pods));
            }
        }
        hasher.number(self.doubly_guarded.len() as u64);
        for node in &self.doubly_guarded {
            hasher.number((*node).into());
        }
        hasher.number(self.budgets.len() as u64);
        for budget in &self.budgets {
            let (kind, namespace, of, name) = budget.source.parts();
            hasher.number(u64::from(kind == BudgetKind::Assumed));
            for text in [namespace, of, name] {
                hasher.text(text);
            }
            let numbers = [
                [budget.allowed, budget.steady],
                [budget.healthy, budget.expected],
                [budget.desired, budget.may_block.into()],
            ];
            for [high, low] in numbers {
                hasher.number(u64::from(high) << 32 | u64::from(low));
            }
        }
        hasher.finish()
    }
}
