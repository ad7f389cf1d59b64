//! Upgrades, and verifications of addons, under way: begin and probe, until there is an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::{Action, ActionId, ActionStatus, Moment, StepError, Target};
use migrate_plan::ActionResult;

use super::job::{Job, Workshop};
use crate::Pace;

/// Upgrades with an intent and without an end.
#[derive(Default)]
pub(super) struct Upgrades {
    running: BTreeMap<ActionId, Upgrade>,
    /// Which of all, also of those that have ended, this runner has begun.
    begun: BTreeSet<ActionId>,
}

struct Upgrade {
    action: Action,
    next: Next,
    deadline: Moment,
    /// How long it may take once its driver has begun it; taken when that has.
    within: Option<Duration>,
    entry: Entry,
    /// Begun by this runner, as far as it knows.
    tried: bool,
    /// What the attempt before failed with, as long as no further one has begun as far
    /// as its driver says.
    before: Option<String>,
    /// When its node was last looked at, and was what had been drained.
    seen: Option<Moment>,
    /// What the look under way is for.
    after_look: Next,
    /// What was last heard of it, for the message when the deadline passes.
    last: String,
}

/// How an upgrade came to this runner.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Entry {
    /// Nobody has begun it.
    New,
    /// A runner that is gone may have begun it: look first.
    Resumed,
    /// It was tried before, and may still be going on: look first, and begin
    /// it once more if all there is to see is that it failed.
    Retried,
}

/// What to do next, and when.
#[derive(Clone, Copy)]
enum Next {
    Begin(Moment),
    Probe(Moment),
    /// An answer is under way.
    Answer,
}

impl Upgrades {
    /// Takes `action` on: it has `within` to begin, and the same again to be done.
    pub(super) fn add(&mut self, action: Action, now: Moment, within: Duration, entry: Entry) {
        let next = if entry == Entry::New {
            Next::Begin(now)
        } else {
            Next::Probe(now)
        };
        let upgrade = Upgrade {
            next,
            deadline: now + within,
            within: Some(within),
            entry,
            tried: false,
            before: None,
            seen: None,
            after_look: next,
            last: "not begun".to_owned(),
            action,
        };
        self.running.insert(upgrade.action.id.clone(), upgrade);
    }

    /// Whether this runner has ever asked its driver to begin `id`.
    pub(super) fn has_begun(&self, id: &ActionId) -> bool {
        self.begun.contains(id)
    }

    /// Begins and probes what is due, and gives up what is late. While it is to be
    /// seen first whether the run `is_held` nothing begins but the `cure`.
    pub(super) fn act(
        &mut self,
        now: Moment,
        is_held: bool,
        cure: Option<&ActionId>,
        shop: &Workshop,
        pace: &Pace,
    ) -> (Vec<Job>, Vec<(ActionId, ActionResult)>) {
        let mut jobs = Vec::new();
        let mut late = Vec::new();
        for (id, upgrade) in &mut self.running {
            let left = upgrade.deadline.since(now);
            let within = left.min(pace.answer);
            let is_held = is_held || cure == Some(id);
            let is_due = match upgrade.next {
                Next::Answer => false,
                Next::Begin(at) => at <= now && is_held,
                Next::Probe(at) => at <= now,
            };
            if is_due
                && !left.is_zero()
                && let Some(node) = upgrade.unseen(now, pace)
            {
                upgrade.after_look = std::mem::replace(&mut upgrade.next, Next::Answer);
                jobs.push(shop.look(id.clone(), node));
                continue;
            }
            match upgrade.next {
                Next::Answer => {}
                _ if left.is_zero() => late.push((id.clone(), upgrade.late())),
                Next::Begin(at) if at <= now && is_held => {
                    upgrade.next = Next::Answer;
                    upgrade.tried = true;
                    self.begun.insert(id.clone());
                    jobs.push(shop.begin(upgrade.action.clone(), within));
                }
                Next::Probe(at) if at <= now => {
                    upgrade.next = Next::Answer;
                    jobs.push(shop.probe(upgrade.action.clone(), within));
                }
                Next::Begin(_) | Next::Probe(_) => {}
            }
        }
        for (id, _) in &late {
            self.running.remove(id);
        }
        (jobs, late)
    }

    /// Leaves `id` to be taken on later, of which nothing was found so far.
    pub(super) fn put_back(&mut self, id: &ActionId) -> Option<Action> {
        self.running.get(id).filter(|upgrade| !upgrade.tried)?;
        self.running.remove(id).map(|upgrade| upgrade.action)
    }

    /// The node of `id` is what was drained: it goes on at once.
    pub(super) fn seen(&mut self, id: &ActionId, now: Moment) {
        if let Some(upgrade) = self.running.get_mut(id) {
            upgrade.seen = Some(now);
            upgrade.next = upgrade.after_look;
        }
    }

    /// The node of `id` could not be looked at.
    pub(super) fn unseen(&mut self, id: &ActionId, error: &StepError, now: Moment, pace: &Pace) {
        if let Some(upgrade) = self.running.get_mut(id) {
            upgrade.last = error.to_string();
            upgrade.next = match upgrade.after_look {
                Next::Begin(_) => Next::Begin(now + pace.retry),
                _ => Next::Probe(now + pace.retry),
            };
        }
    }

    /// `id` does not begin.
    pub(super) fn forget(&mut self, id: &ActionId) {
        self.running.remove(id);
    }

    /// Takes the answer to a begin. An error leaves open whether it began.
    pub(super) fn begun(
        &mut self,
        id: &ActionId,
        result: Result<(), StepError>,
        now: Moment,
        pace: &Pace,
    ) -> Option<ActionResult> {
        let upgrade = self.running.get_mut(id)?;
        match result {
            Ok(()) => {
                upgrade.last = "begun".to_owned();
                // The driver counts its own limit from here: a start that was put off for
                // minutes would else outlive what is waited for, out of anybody's sight.
                if let Some(within) = upgrade.within.take() {
                    upgrade.deadline = now + within;
                }
                upgrade.before = None;
                upgrade.next = Next::Probe(now + pace.probe);
                None
            }
            Err(error) => self.unanswered(id, &error, now, pace),
        }
    }

    /// Takes the answer to a probe.
    pub(super) fn probed(
        &mut self,
        id: &ActionId,
        result: Result<ActionStatus, StepError>,
        now: Moment,
        pace: &Pace,
    ) -> Option<ActionResult> {
        let upgrade = self.running.get_mut(id)?;
        match result {
            Ok(ActionStatus::Absent) => {
                // Begin is idempotent, so nothing is done twice; but a driver
                // that keeps losing the action is not hammered.
                let wait = if upgrade.tried {
                    pace.retry
                } else {
                    Duration::ZERO
                };
                upgrade.next = Next::Begin(now + wait);
                None
            }
            Ok(ActionStatus::Succeeded(outcome)) => self.end(id, ActionResult::Succeeded(outcome)),
            Ok(ActionStatus::Failed { reason, .. })
                if upgrade.entry == Entry::Retried && !upgrade.tried =>
            {
                upgrade.before = Some(reason);
                upgrade.next = Next::Begin(now);
                None
            }
            // The driver would not begin a further attempt yet, and tells of the one
            // before: as one that was never begun, it is asked for again.
            Ok(ActionStatus::Failed { reason, .. }) if upgrade.before.as_ref() == Some(&reason) => {
                upgrade.next = Next::Begin(now + pace.retry);
                None
            }
            Ok(ActionStatus::Failed { retryable, reason }) => {
                self.end(id, failed(retryable, reason))
            }
            Ok(_) => {
                upgrade.last = "running".to_owned();
                upgrade.next = Next::Probe(now + pace.probe);
                None
            }
            Err(error) => self.unanswered(id, &error, now, pace),
        }
    }

    /// A call of the driver has failed: what it did, if anything, a probe will
    /// tell, unless asking again is of no use.
    fn unanswered(
        &mut self,
        id: &ActionId,
        error: &StepError,
        now: Moment,
        pace: &Pace,
    ) -> Option<ActionResult> {
        if !error.is_retryable() {
            return self.end(id, failed(false, error.to_string()));
        }
        let upgrade = self.running.get_mut(id)?;
        upgrade.last = error.to_string();
        upgrade.next = Next::Probe(now + pace.retry);
        None
    }

    /// When to look again without being told.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.running
            .values()
            .filter_map(|upgrade| match upgrade.next {
                Next::Begin(at) | Next::Probe(at) => Some(at.min(upgrade.deadline)),
                Next::Answer => None,
            })
            .min()
    }

    /// What is under way, and what was last heard of it.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Action, &str)> {
        self.running
            .values()
            .map(|upgrade| (&upgrade.action, upgrade.last.as_str()))
    }

    fn end(&mut self, id: &ActionId, result: ActionResult) -> Option<ActionResult> {
        self.running.remove(id);
        Some(result)
    }
}

impl Upgrade {
    /// The node to be looked at before this goes on, if that is still to be done:
    /// before it is changed, and before what had failed there is asked after. A
    /// look is good for one step, and for a moment.
    fn unseen(&mut self, now: Moment, pace: &Pace) -> Option<String> {
        let Target::Node { node, .. } = &self.action.target else {
            return None;
        };
        let is_asked_after = self.entry == Entry::Retried && !self.tried;
        if !is_asked_after && !matches!(self.next, Next::Begin(_)) {
            return None;
        }
        let seen = self.seen.take();
        let is_fresh = seen.is_some_and(|at| now.since(at) < pace.retry);
        (!is_fresh).then(|| node.clone())
    }

    fn late(&self) -> ActionResult {
        let limit = match self.action.target {
            Target::Addon { .. } => "its timeout in the policy",
            _ => "deadlines.upgrade",
        };
        failed(
            false,
            format!(
                "not done by its deadline (last heard: {}); see what keeps it, or raise {limit}",
                self.last
            ),
        )
    }
}

pub(super) fn failed(retryable: bool, reason: String) -> ActionResult {
    ActionResult::Failed { retryable, reason }
}
