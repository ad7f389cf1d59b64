//! The gate before every action, before nodes are taken over and before pods are
//! moved back: the kill switch and the epoch on the anchor.

use migrate_core::{Moment, StepError};
use migrate_plan::Input;

use super::Executor;
use super::warm_up::WarmUp;
use crate::Record;
use crate::access::AnchorState;
use crate::report::StopCause;

/// Whether actions may begin.
#[derive(Default)]
pub(super) struct Gate {
    /// The anchor is being read, for that many waiting actions: what came
    /// later is covered by the next look.
    reading: Option<(usize, Moment)>,
    look_at: Option<Moment>,
    /// The program asked for a pause.
    pub(super) asked_to_pause: bool,
    /// Somebody pauses the run, as last read.
    pub(super) is_shut: bool,
    /// Why the anchor could not be read.
    pub(super) trouble: Option<String>,
    /// Whether a refusal to show it may pass: it was shown when the run was
    /// opened.
    warm_up: WarmUp,
}

impl Gate {
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.look_at
    }

    /// Nothing that waits now is let through by the look under way.
    pub(super) fn covers_nothing(&mut self) {
        self.reading = self.reading.map(|(_, asked_at)| (0, asked_at));
    }

    /// Whether looking again may help.
    fn may_pass(&mut self, error: &StepError, now: Moment) -> bool {
        error.is_retryable() || self.warm_up.may_pass(error, now)
    }
}

impl Executor {
    /// Looks at the anchor if an action waits for it, or a pause for its end.
    pub(super) fn act_on_gate(&mut self, now: Moment) {
        let mut waiting = self.resumed.len();
        if self.looks.are_over() {
            self.resumed.append(&mut self.looks.absent);
            waiting = self.resumed.len() + self.state.due.len();
        }
        let wanted =
            waiting > 0 || self.state.paused || self.resumption.owes_lift() || self.steps.is_held;
        let held_by_us = self.gate.asked_to_pause && self.state.paused;
        if !wanted || held_by_us {
            self.gate.look_at = None;
            return;
        }
        if self.gate.reading.is_some() || self.gate.look_at.is_some_and(|at| at > now) {
            return;
        }
        self.gate.look_at = None;
        self.gate.reading = Some((waiting, now));
        self.jobs.push(self.shop.anchor());
    }

    /// Lets the actions through that waited for this look, or holds them.
    pub(super) fn anchor_read(&mut self, result: Result<AnchorState, StepError>, now: Moment) {
        let (covered, asked_at) = self.gate.reading.take().unwrap_or((0, now));
        self.hear(&result, asked_at, now);
        let anchor = match result {
            Ok(anchor) => anchor,
            Err(error) if self.gate.may_pass(&error, now) => {
                self.gate.trouble = Some(error.to_string());
                self.gate.look_at = Some(now + self.pace.retry);
                if covered > self.resumed.len() {
                    self.begin_cure(now);
                }
                return;
            }
            Err(error) => {
                self.barred = Some(StopCause::AnchorUnreadable {
                    message: error.to_string(),
                });
                return;
            }
        };
        self.gate.trouble = None;
        self.gate.warm_up.is_over();
        let paused = anchor.paused || self.gate.asked_to_pause;
        if let Some(cause) = self.not_ours(anchor) {
            self.barred = Some(cause);
            return;
        }
        self.gate.is_shut = paused;
        self.pause_is_now(paused);
        if paused {
            self.gate.look_at = Some(now + self.pace.retry);
            return;
        }
        if self.steps.is_held && self.state.stop.is_none() {
            self.steps.is_held = false;
            self.begin_held_step();
            return;
        }
        if self.resumption.let_go() {
            self.lift();
        }
        let resumed = covered.min(self.resumed.len());
        for _ in 0..resumed {
            if let Some(action) = self.resumed.pop_front() {
                self.begin_action(action, true);
            }
        }
        // That a pause is over may be news that the state has not heard yet.
        if self.state.stop.is_some() || self.is_backup_late(now) {
            return;
        }
        let due = self.state.due.iter().take(covered - resumed).cloned();
        self.inbox
            .extend(due.map(|action| Record::Intent { action }));
    }

    /// Lets the attempt through that may bring the API server back: whoever waits for
    /// an answer first waits for ever.
    fn begin_cure(&mut self, now: Moment) {
        let is_held = self.gate.is_shut || self.gate.asked_to_pause || self.state.paused;
        if is_held || self.state.stop.is_some() || !self.looks.are_over() {
            return;
        }
        let cure = self.cure(now);
        let due = self.state.due.front();
        if let Some(action) = due.filter(|due| cure.as_ref() == Some(&due.id)) {
            let action = action.clone();
            self.inbox.push_back(Record::Intent { action });
        }
    }

    /// Tells the rollout, if it is news.
    pub(super) fn pause_is_now(&mut self, paused: bool) {
        if paused != self.state.paused && self.state.started_at.is_some() {
            self.inbox.push_back(Record::Input {
                input: Input::Paused { paused },
            });
        }
    }
}
