//! What is asked of a rollout right before an action begins, since time has
//! passed and nodes have changed after the decision.

use migrate_core::{ActionId, Phase};

use super::Rollout;

impl Rollout {
    /// Whether `id`, which was decided and is about to begin, is the first action of
    /// its target and would not end in its window any more, as of the latest
    /// moment the rollout knows. Then do not begin it, and tell
    /// [`ActionResult::TooLate`](super::ActionResult::TooLate).
    pub fn is_late(&self, id: &ActionId) -> bool {
        let begun = self.begun.get(id);
        begun.is_some_and(|(target, phase)| self.machine.is_late(*target, *phase))
    }

    /// Whether `id`, an upgrade that was decided, is of a node that is not the one
    /// that was drained for it, or is gone, as far as the rollout was told. Then do
    /// not begin it, and tell
    /// [`ActionResult::NotDrained`](super::ActionResult::NotDrained).
    pub fn is_undrained(&self, id: &ActionId) -> bool {
        let begun = self.begun.get(id);
        begun.is_some_and(|(target, phase)| {
            *phase == Phase::Upgrade && self.machine.is_moot(*target, *phase)
        })
    }

    /// The uid of a node as last told, or of the model.
    pub fn uid(&self, node: &str) -> Option<&str> {
        let node = self.node(node)?;
        let told = self.uids.get(&node).map(String::as_str);
        told.or_else(|| self.names.uid(node))
    }

    /// Compares the uid of a node with the one it had.
    pub(super) fn identify(&mut self, node: u32, uid: Option<&str>) {
        let Some(uid) = uid else { return };
        let known = self.uids.get(&node).map(String::as_str);
        match known.or_else(|| self.names.uid(node)) {
            Some(known) if known == uid => return,
            Some(_) => self.machine.lose(node),
            None => {}
        }
        self.uids.insert(node, uid.to_owned());
    }
}
