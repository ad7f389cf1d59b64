//! Trials of nodes: after their gate, before their cordon is lifted.

use migrate_core::{Finding, Moment, Severity, StepError};

use super::super::job::{Job, Workshop};
use super::{CheckKey, CheckOutput, CheckStep, Checks};
use crate::Pace;

impl Checks {
    /// The trials that are due.
    pub(in super::super) fn trials(&mut self, now: Moment, shop: &Workshop) -> Vec<Job> {
        let due = self.running.iter_mut().filter_map(|(key, check)| {
            let Some(CheckStep::Try(node)) = check.steps.front() else {
                return None;
            };
            if check.trying || check.due > now {
                return None;
            }
            check.trying = true;
            Some(shop.try_node(key.clone(), node.clone(), check.within))
        });
        due.collect()
    }

    /// Takes what came of the trial of `key`.
    pub(in super::super) fn tried(
        &mut self,
        key: CheckKey,
        result: Result<(), StepError>,
        now: Moment,
        pace: &Pace,
    ) -> Vec<CheckOutput> {
        // Given up meanwhile, or begun anew: not the trial that is waited for.
        let Some(check) = self.running.get_mut(&key).filter(|check| check.trying) else {
            return Vec::new();
        };
        check.trying = false;
        if result.is_ok() {
            check.deadline = check.deadline.max(now + check.within);
        }
        match result {
            Ok(()) => self.advance(key, now).into_iter().collect(),
            Err(error) if error.is_retryable() => {
                check.missing = vec![not_passed(&error)];
                check.due = now + pace.retry;
                Vec::new()
            }
            Err(error) => {
                self.running.remove(&key);
                vec![CheckOutput::Failed(key, vec![not_passed(&error)])]
            }
        }
    }
}

fn not_passed(error: &StepError) -> Finding {
    Finding::new(
        "KM-VERIFY-020",
        Severity::Blocker,
        error.object.clone(),
        format!("it was tried out: {}", error.message),
        "see the message, mend the node, then go on with the run; its cordon stays until then",
    )
}
