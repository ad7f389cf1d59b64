//! Ending a run for good, from wherever it stands.

use migrate_core::Moment;
use migrate_plan::{ActionResult, Input, StopReason};

use super::Executor;
use super::preference::Preference;
use crate::{Record, RunEnd, RunStep};

impl Executor {
    /// Tells the rollout, then goes through what is left.
    pub(super) fn act_on_abort(&mut self, now: Moment) {
        if !self.state.aborting {
            self.inbox.push_back(Record::Input {
                input: Input::Aborted,
            });
            return;
        }
        let never = self.state.never_to_begin();
        if !never.is_empty() {
            self.gate.covers_nothing();
            self.inbox.extend(never.into_iter().map(|id| {
                let reason = StopReason::Aborted.to_string();
                let result = ActionResult::Skipped { reason };
                Record::Input {
                    input: Input::ActionEnded { id, result },
                }
            }));
            return;
        }
        match self.next_step(now) {
            None => self.act_on_rollout(now),
            // The cluster may name this run, and cordons of a lost one may be
            // its own by now: both are for it to clear away.
            Some(step @ RunStep::TakeOver) => self.act_on_step(step, now),
            Some(step) if self.state.claiming => self.act_on_step(step, now),
            Some(_) => {
                // Nothing was changed, and what looks or backs up is left.
                self.jobs.clear();
                self.preference = Preference::default();
                self.inbox.push_back(Record::RunEnded {
                    end: RunEnd::Aborted,
                });
            }
        }
    }

    /// That the run is ended for good is durable, and the rollout knows of it.
    pub(super) fn aborted(&mut self) {
        self.checks.leave_cluster();
        // Nothing will be changed any more that it could be of use for.
        self.steps.leave(RunStep::BackUp);
        self.leave_the_end();
        self.give_back();
    }

    /// Gives back what an aborted run does not need any more, as soon as nobody
    /// holds the run.
    pub(super) fn give_back(&mut self) {
        let is_held = self.state.paused || self.resumption.owes_lift();
        self.resumption.aborted(is_held);
        if !is_held {
            self.lift();
        }
    }
}
