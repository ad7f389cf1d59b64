//! What is waited for, as a list for now and as a book for the report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use migrate_core::{Blocked, BlockedReason, EventKind, Moment, Phase, PodId};
use serde::{Deserialize, Serialize};

use super::Executor;
use super::verify::CheckKey;
use crate::Record;

/// Something that is waited for.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct WaitReason {
    /// Node or member, or `run` for all of it.
    pub target: String,
    /// On what, in one line.
    pub on: String,
}

impl WaitReason {
    pub(crate) fn new(target: impl Into<String>, on: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            on: on.into(),
        }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits: {}", self.target, self.on)
    }
}

/// Waits that are going on, and since when.
#[derive(Default)]
pub(super) struct WaitBook {
    open: BTreeMap<WaitReason, Moment>,
    /// By node: what keeps its pods from going.
    blocked: BTreeMap<String, BTreeSet<String>>,
}

/// Shorter waits are no news.
const SHORTEST: Duration = Duration::from_secs(1);

impl WaitBook {
    pub(super) fn pods_wait(&mut self, node: &str, pods: &[(PodId, Blocked)]) {
        let on = pods.iter().filter_map(|(pod, blocked)| {
            let place = || match blocked.reason {
                BlockedReason::NowhereToGo(_) => Some(format!("a place for {pod}: {blocked}")),
                _ => None,
            };
            blocked
                .budget
                .as_ref()
                .map(ToString::to_string)
                .or_else(place)
        });
        self.blocked.insert(node.to_owned(), on.collect());
    }

    pub(super) fn pods_gone(&mut self, node: &str) {
        self.blocked.remove(node);
    }
}

impl Executor {
    /// Enters waits that began, and records those that ended.
    pub(super) fn note_waits(&mut self) {
        let now = self.now();
        let current = self.obstacles();
        let ended: Vec<WaitReason> = self
            .waits
            .open
            .keys()
            .filter(|reason| !current.contains(reason))
            .cloned()
            .collect();
        for reason in ended {
            let Some(since) = self.waits.open.remove(&reason) else {
                continue;
            };
            if now.since(since) >= SHORTEST && self.state.end.is_none() {
                self.inbox.push_back(Record::Waited {
                    target: reason.target,
                    on: reason.on,
                    since,
                });
            }
        }
        for reason in current {
            let known = self.waits.open.contains_key(&reason);
            if !known {
                self.shop.cx.emit(EventKind::Waiting {
                    target: reason.target.clone(),
                    on: reason.on.clone(),
                });
                self.waits.open.insert(reason, now);
            }
        }
    }

    /// Everything that is waited for now.
    pub(super) fn reasons(&self) -> Vec<WaitReason> {
        let mut reasons = self.obstacles();
        reasons.extend(self.outage.reason());
        let mut add = |target: &str, on: String| {
            reasons.insert(WaitReason::new(target, on));
        };
        for (action, last) in self.upgrades.waiting() {
            let phase = match action.phase {
                Phase::Verify => "verification",
                _ => "upgrade",
            };
            add(action.target.name(), format!("its {phase}: {last}"));
        }
        for (key, missing) in self.checks.waiting() {
            let target = match key {
                CheckKey::Action(id) => self
                    .state
                    .open
                    .get(id)
                    .map_or(id.as_str(), |action| action.target.name()),
                CheckKey::TakeOver(node) => node,
                CheckKey::Cluster => "run",
            };
            for finding in missing {
                add(target, format!("{}: {}", finding.object, finding.evidence));
            }
        }
        reasons.into_iter().collect()
    }

    /// What stands in the way, as opposed to work that takes its time.
    fn obstacles(&self) -> BTreeSet<WaitReason> {
        // The rollout is told of a pause only once it has begun.
        let is_paused = self.state.paused || (self.steps.is_held && self.gate.is_shut);
        let paused = is_paused.then(|| "paused".to_owned());
        // An API server that is away is the cause of these, and told as such.
        let told = self.outage.is_open();
        let troubles = [&self.gate.trouble, &self.view.trouble, &self.drains.trouble];
        let mut reasons: BTreeSet<WaitReason> = troubles
            .into_iter()
            .filter(|_| !told)
            .chain([&self.holding.trouble])
            .flatten()
            .cloned()
            .chain(paused)
            .map(|on| WaitReason::new("run", on))
            .collect();
        for (node, budgets) in &self.waits.blocked {
            reasons.extend(budgets.iter().map(|budget| WaitReason::new(node, budget)));
        }
        reasons.extend(self.unlooked());
        reasons.extend(self.state.obstacles());
        reasons
    }
}
