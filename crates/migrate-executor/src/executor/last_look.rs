//! The last look at a node: right before its upgrade begins, and again when
//! something has failed there. A node may be deleted, or made anew under its
//! name, at any time, and watches are late.

use migrate_core::{ActionId, Moment, Phase, StepError, Target};
use migrate_plan::{ActionResult, Input};

use super::Executor;
use crate::Record;
use crate::access::AnchorState;

impl Executor {
    /// The node that the end of `id` has to be told of first: that of an action
    /// past its drain, which looks after its node itself.
    pub(super) fn node_of(&self, id: &ActionId) -> Option<String> {
        let action = self.state.open.get(id)?;
        match (&action.target, action.phase) {
            (Target::Node { node, .. }, Phase::Upgrade | Phase::Verify | Phase::Confirm) => {
                Some(node.clone())
            }
            _ => None,
        }
    }

    /// Lets the upgrade `id` begin if what has its node's name is what was drained.
    pub(super) fn looked(
        &mut self,
        id: ActionId,
        result: Result<(Input, AnchorState), StepError>,
        now: Moment,
    ) {
        let (input, anchor) = match result {
            Ok(seen) => seen,
            Err(error) => {
                self.upgrades.unseen(&id, &error, now, &self.pace);
                return;
            }
        };
        if let Some(cause) = self.not_ours(anchor) {
            self.barred = Some(cause);
            return;
        }
        let is_other = self.is_other(&input);
        if is_other {
            self.tell_look(input);
        }
        if is_other || self.state.rollout.is_undrained(&id) {
            self.upgrades.forget(&id);
            self.action_ended(id, Some(ActionResult::NotDrained));
        } else {
            self.upgrades.seen(&id, now);
        }
    }

    /// Tells of another machine before the failure, so that it is none.
    pub(super) fn looked_after(
        &mut self,
        id: ActionId,
        ended: ActionResult,
        look: Result<Input, StepError>,
    ) {
        if let Ok(input) = look
            && self.is_other(&input)
        {
            self.tell_look(input);
        }
        self.doubt(id, ended);
    }

    /// Whether a look shows another machine than the rollout knows, or none.
    fn is_other(&self, input: &Input) -> bool {
        match input {
            Input::NodeSeen {
                node,
                uid: Some(uid),
                ..
            } => {
                let known = self.state.rollout.uid(node);
                known.is_some_and(|known| known != uid) || self.state.seen.is_gone(node)
            }
            Input::NodeGone { .. } => !self.state.seen.knows(input),
            _ => false,
        }
    }

    /// Makes a look a record. What was gathered before is older.
    fn tell_look(&mut self, input: Input) {
        self.view.overtaken(&input);
        self.inbox.push_back(Record::Input { input });
    }
}
