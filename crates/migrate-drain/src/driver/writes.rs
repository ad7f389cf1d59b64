//! Changes of nodes that are under way: at most one for each node, and none
//! when a drain or a release is said to have ended.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use migrate_core::steps::{DrainEvent, DrainFailure, DrainFailureKind, DrainOutcome};

use super::calls::Calls;
use crate::machine::{Input, Room};

/// A change of a node.
#[derive(Clone)]
pub(super) enum Write {
    /// Only if there is this room.
    Cordon(Option<Room>),
    Restore,
}

/// What came of a change.
pub(super) struct Written {
    pub(super) node: String,
    pub(super) write: Write,
    /// What it means to the machine.
    pub(super) input: Input,
    /// Whether it took effect is known, and it will not do so later.
    pub(super) sure: bool,
}

/// The changes under way.
///
/// A request that nobody waits for any more may still reach the server, where a
/// cordon set after its drain was given up stays for ever. So the end of a drain
/// is held back until its change is answered; and a change whose answer was lost
/// is made once more, which settles it: each names the version it was made from,
/// so that after the second the server refuses the first.
#[derive(Default)]
pub(super) struct Writes {
    answers: FuturesUnordered<BoxFuture<'static, Written>>,
    /// By node, whether it is made once more to settle a lost answer.
    under_way: BTreeMap<String, bool>,
    /// What is wanted of a node after what is under way.
    next: BTreeMap<String, Write>,
    /// Ends that are not told before.
    held: BTreeMap<String, Vec<DrainEvent>>,
}

impl Writes {
    pub(super) fn begin(&mut self, calls: &Calls, node: String, write: Write) {
        if self.under_way.contains_key(&node) {
            // Only what is wanted last matters.
            self.next.insert(node, write);
        } else {
            self.start(calls, node, write, false);
        }
    }

    /// The event again, if its node has nothing under way; else it is kept.
    pub(super) fn hold(&mut self, event: DrainEvent) -> Option<DrainEvent> {
        let node = match &event {
            DrainEvent::Drained { node, .. } | DrainEvent::Released { node, .. } => node,
            _ => return Some(event),
        };
        if !self.under_way.contains_key(node) {
            return Some(event);
        }
        self.held.entry(node.clone()).or_default().push(event);
        None
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.answers.is_empty()
    }

    /// The next answer; none while nothing is under way.
    pub(super) async fn answer(&mut self) -> Option<Written> {
        self.answers.next().await
    }

    /// What can be told now that `written` is known.
    pub(super) fn conclude(&mut self, calls: &Calls, written: &Written) -> Vec<DrainEvent> {
        let node = &written.node;
        let settles = self.under_way.remove(node).unwrap_or_default();
        let awaited = self.held.contains_key(node) || self.next.contains_key(node);
        // One that was not made once more settles nothing.
        let made = !matches!(written.input, Input::NoRoom { .. });
        let sure = written.sure && (made || !settles);
        if !sure && awaited && !settles {
            self.start(calls, node.clone(), written.write.clone(), true);
            return Vec::new();
        }
        if !sure {
            let held = self.held.get_mut(node).into_iter().flatten();
            held.for_each(|event| doubt(event, &written.input));
        }
        if let Some(write) = self.next.remove(node) {
            self.start(calls, node.clone(), write, false);
            return Vec::new();
        }
        self.held.remove(node).unwrap_or_default()
    }

    /// Waits for what is under way and begins nothing more. Gives the ends that
    /// were held back until then.
    pub(super) async fn finish(&mut self) -> Vec<DrainEvent> {
        self.next.clear();
        while self.answers.next().await.is_some() {}
        self.under_way.clear();
        std::mem::take(&mut self.held)
            .into_values()
            .flatten()
            .collect()
    }

    fn start(&mut self, calls: &Calls, node: String, write: Write, settles: bool) {
        self.answers.push(calls.write(node.clone(), write));
        self.under_way.insert(node, settles);
    }
}

/// Says in the end of a drain or release that nobody knows about the cordon.
fn doubt(event: &mut DrainEvent, input: &Input) {
    let why = match input {
        Input::CordonFailed { failure, .. } | Input::RestoreFailed { failure, .. } => {
            failure.reason.as_str()
        }
        _ => "no answer",
    };
    let doubt = format!(
        "whether the node is cordoned is unknown ({why}); release it once the API answers again"
    );
    match event {
        DrainEvent::Drained { outcome, .. } => {
            let (ended, retryable) = match outcome {
                DrainOutcome::Failed {
                    reason, retryable, ..
                } => (reason.as_str(), *retryable),
                DrainOutcome::Deadline { .. } => ("not empty in time", true),
                _ => return,
            };
            let reason = format!("{ended}; {doubt}");
            *outcome = DrainOutcome::Failed {
                kind: DrainFailureKind::CordonUnknown,
                reason,
                retryable,
            };
        }
        DrainEvent::Released { error, .. } => {
            let before = error.take().map(|error| format!("{error}; "));
            let reason = format!("{}{doubt}", before.unwrap_or_default());
            *error = Some(DrainFailure::new(DrainFailureKind::CordonUnknown, reason));
        }
        _ => {}
    }
}
