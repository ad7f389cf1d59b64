//! What is seen of nodes and budgets, gathered for the rollout.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::BoxStream;
use migrate_core::{BudgetKey, Moment, StepError, StepInput};
use migrate_plan::Input;

use crate::state::Seen;
use crate::{ClusterAccess, Pace};

/// The stream of what is seen. Only the latest of each node and budget is kept
/// until the rollout is told, so that a busy cluster does not fill the journal.
#[derive(Default)]
pub(super) struct View {
    changes: Option<BoxStream<'static, Result<Vec<Input>, StepError>>>,
    gathered: BTreeMap<SeenKey, Input>,
    /// The first look of a stream, which shows everything, is still to come.
    first: bool,
    tell_at: Option<Moment>,
    reopen_at: Option<Moment>,
    synced: bool,
    /// Why nothing is seen.
    pub(super) trouble: Option<String>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum SeenKey {
    Node(String),
    Budget(BudgetKey),
}

impl View {
    /// Begins to look, if nobody does.
    pub(super) fn open(&mut self, access: &dyn ClusterAccess, input: &StepInput, now: Moment) {
        if self.changes.is_none() && self.reopen_at.is_none_or(|at| at <= now) {
            self.reopen_at = None;
            self.first = true;
            self.changes = Some(access.changes(input));
        }
    }

    /// Looks at everything again.
    pub(super) fn look_again(&mut self) {
        self.changes = None;
    }

    /// Stops looking.
    pub(super) fn close(&mut self) {
        *self = Self {
            synced: self.synced,
            ..Self::default()
        };
    }

    /// Whether everything has been seen once.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// The next look. Never returns while nobody looks.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Input>, StepError>> {
        match &mut self.changes {
            Some(changes) => changes.next().await,
            None => std::future::pending().await,
        }
    }

    /// Takes note of a look, or that the stream ended.
    pub(super) fn take(
        &mut self,
        seen: Option<Result<Vec<Input>, StepError>>,
        known: &Seen,
        now: Moment,
        pace: &Pace,
    ) {
        match seen {
            Some(Ok(mut inputs)) => {
                if std::mem::take(&mut self.first) {
                    // What went while nobody looked.
                    inputs.extend(known.missing_from(&inputs));
                }
                self.trouble = None;
                let wait = if self.synced {
                    pace.gather
                } else {
                    std::time::Duration::ZERO
                };
                self.synced = true;
                self.tell_at = Some(self.tell_at.unwrap_or(now + wait));
                for input in inputs {
                    if let Some(key) = key(&input) {
                        self.gathered.insert(key, input);
                    }
                }
            }
            Some(Err(error)) => self.trouble = Some(error.to_string()),
            None => {
                self.changes = None;
                self.reopen_at = Some(now + pace.retry);
            }
        }
    }

    /// Forgets what was gathered of the node of `input`, which was seen later.
    pub(super) fn overtaken(&mut self, input: &Input) {
        if let Some(key) = key(input) {
            self.gathered.remove(&key);
        }
    }

    /// The news that are due, in the order of their names.
    pub(super) fn news(&mut self, now: Moment, known: &Seen) -> Vec<Input> {
        if self.tell_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.tell_at = None;
        std::mem::take(&mut self.gathered)
            .into_values()
            .filter(|input| !known.knows(input))
            .collect()
    }

    /// When news are due.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.tell_at.into_iter().chain(self.reopen_at).min()
    }
}

fn key(input: &Input) -> Option<SeenKey> {
    match input {
        Input::NodeSeen { node, .. } | Input::NodeGone { node } => {
            Some(SeenKey::Node(node.clone()))
        }
        Input::BudgetSeen { key, .. } => Some(SeenKey::Budget(key.clone())),
        _ => None,
    }
}
