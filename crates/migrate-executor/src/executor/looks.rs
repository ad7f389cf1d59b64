//! What a runner that is gone has begun, until this one has looked at it.

use std::collections::{BTreeMap, VecDeque};

use migrate_core::{Action, ActionId, Phase};

use super::Executor;
use crate::WaitReason;

/// Actions with an intent and without an end, as this runner found them. Nothing
/// begins before each has been looked at once, so that nothing is decided on
/// what may have changed since: an upgrade was probed, a verification has
/// observed the cluster, and of a drain the nodes were seen (it is no new
/// decision, and its drainer looks at the node itself).
#[derive(Default)]
pub(super) struct Looks {
    left: BTreeMap<ActionId, Action>,
    /// Looked at, and nothing of it was there: to be begun once nothing is left.
    pub(super) absent: VecDeque<Action>,
}

impl Looks {
    pub(super) fn new(open: &BTreeMap<ActionId, Action>) -> Self {
        Self {
            left: open.clone(),
            absent: VecDeque::new(),
        }
    }

    /// Whether all of them have been looked at.
    pub(super) fn are_over(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether one of them is still to be begun.
    pub(super) fn is_anything_absent(&self) -> bool {
        !self.absent.is_empty()
    }

    /// `id` was looked at, or has ended.
    pub(super) fn seen(&mut self, id: &ActionId) {
        self.left.remove(id);
    }

    /// The nodes were seen.
    pub(super) fn nodes_seen(&mut self) {
        self.left.retain(|_, action| action.phase != Phase::Drain);
    }
}

impl Executor {
    /// Why nothing begins, if something waits for a look.
    pub(super) fn unlooked(&self) -> impl Iterator<Item = WaitReason> {
        let waits = !self.state.due.is_empty() || self.looks.is_anything_absent();
        let left = self.looks.left.values().filter(move |_| waits);
        left.map(|action| {
            WaitReason::new(
                "run",
                format!(
                    "nothing begins before {}, begun by a runner that is gone, has been looked at",
                    action.id
                ),
            )
        })
    }
}
