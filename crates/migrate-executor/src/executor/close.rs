//! The end of a run: the anchor, what is left on the nodes, the report.

use migrate_core::{Finding, Moment, ObjectName, Severity, StepError};
use migrate_plan::StopReason;

use super::{Executor, StepOutcome};
use crate::report::{Report, RunOutcome, Stop, StopCause};
use crate::{MarkedNode, RunEnd};

impl Executor {
    /// Clears the anchor of a run that is over, and looks for marks left. Where that cannot
    /// be done the report says so; opening the journal again clears it too.
    pub(super) fn act_on_the_end(&mut self, now: Moment) {
        let Some((_, end)) = &self.state.end else {
            return;
        };
        // What is being written to nodes may be what is to be taken from them.
        let is_due = self.closing.is_due(now) && !self.preference.is_under_way();
        if self.outcome.is_some() || !is_due {
            return;
        }
        if let RunEnd::Refused { cause } = end {
            let outcome = RunOutcome::Refused {
                cause: cause.clone(),
            };
            let report = self.report_of(outcome, None);
            let stop = Stop::new(cause.clone(), report);
            self.outcome = Some(StepOutcome::Stopped(Box::new(stop)));
            return;
        }
        let is_over = self.state.is_over();
        self.closing.begin();
        self.jobs.push(self.shop.close(is_over));
    }

    pub(super) fn closed(&mut self, result: Result<Vec<MarkedNode>, StepError>, now: Moment) {
        if self.closing.ended(&result, now + self.pace.retry) {
            return;
        }
        let (marks, trouble) = match result {
            Ok(marks) => (Some(marks), None),
            Err(error) => (None, Some(not_closed(&error))),
        };
        let report = |outcome| {
            let mut report = self.report_of(outcome, marks.as_deref());
            report.findings.extend(trouble);
            report
        };
        self.outcome = match &self.state.end {
            Some((_, RunEnd::Stopped { cause })) => {
                let outcome = RunOutcome::Stopped {
                    cause: cause.clone(),
                };
                let stop = Stop::new(cause.clone(), report(outcome));
                Some(StepOutcome::Stopped(Box::new(stop)))
            }
            Some((_, RunEnd::Aborted)) => {
                let stop = Stop::new(aborted(), report(RunOutcome::Aborted));
                Some(StepOutcome::Stopped(Box::new(stop)))
            }
            _ => Some(StepOutcome::Done(Box::new(report(RunOutcome::Done)))),
        };
    }

    /// How a run stands that this runner leaves off.
    pub(super) fn interrupted(&self, cause: StopCause) -> StepOutcome {
        let outcome = RunOutcome::Interrupted {
            cause: cause.clone(),
        };
        StepOutcome::Stopped(Box::new(Stop::new(cause, self.report_of(outcome, None))))
    }

    pub(super) fn report_of(&self, outcome: RunOutcome, marks: Option<&[MarkedNode]>) -> Report {
        Report::new(&self.state, outcome, &self.place, self.now(), marks)
    }
}

fn aborted() -> StopCause {
    StopCause::Rollout {
        reason: StopReason::Aborted,
    }
}

fn not_closed(error: &StepError) -> Finding {
    Finding::new(
        "KM-RUN-006",
        Severity::Warning,
        ObjectName::cluster("Cluster", "anchor"),
        format!("the end of the run could not be written into the cluster: {error}"),
        "open the journal again once the cluster answers",
    )
}
