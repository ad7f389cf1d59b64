//! Trials: what is tried out after a comparison has passed.

use std::fmt;

use migrate_core::{Finding, Moment, ObjectName, Severity, StepError};

use super::super::job::{Job, Workshop};
use super::{CheckKey, CheckOutput, CheckStep, Checks};
use crate::Pace;

/// What is tried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in super::super) enum Trial {
    /// A node, after its gate and before its cordon is lifted.
    Node(String),
    /// Whether the agents of every node see a change, after a part of the control
    /// plane was away and the rest of the cluster has settled.
    Change,
}

impl Trial {
    /// What it is about.
    pub(in super::super) fn object(&self) -> ObjectName {
        match self {
            Self::Node(node) => ObjectName::cluster("Node", node),
            Self::Change => ObjectName::cluster("ControlPlane", "all members"),
        }
    }

    fn not_passed(&self, error: &StepError) -> Finding {
        let (code, what, cure) = match self {
            Self::Node(_) => (
                "KM-VERIFY-020",
                "it was tried out",
                "see the message, mend the node, then go on with the run; its cordon stays until \
                 then",
            ),
            Self::Change => (
                "KM-VERIFY-023",
                "no change could be shown to the agents of the nodes",
                "see the message; a refusal (403) that stays needs docs/rbac-canary.yaml",
            ),
        };
        let evidence = format!("{what}: {}", error.message);
        Finding::new(
            code,
            Severity::Blocker,
            error.object.clone(),
            evidence,
            cure,
        )
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "the trial of node {node}"),
            Self::Change => write!(f, "the change that agents have to see"),
        }
    }
}

impl Checks {
    /// The trials that are due.
    pub(in super::super) fn trials(&mut self, now: Moment, shop: &Workshop) -> Vec<Job> {
        let due = self.running.iter_mut().filter_map(|(key, check)| {
            let Some(CheckStep::Try(trial)) = check.steps.front() else {
                return None;
            };
            if check.trying || check.due > now {
                return None;
            }
            check.trying = true;
            Some(shop.try_out(key.clone(), trial.clone(), check.within))
        });
        due.collect()
    }

    /// Takes what came of the trial of `key`.
    pub(in super::super) fn tried(
        &mut self,
        key: CheckKey,
        result: Result<Vec<Finding>, StepError>,
        now: Moment,
        pace: &Pace,
    ) -> Vec<CheckOutput> {
        // Given up meanwhile, or begun anew: not the trial that is waited for.
        let Some(check) = self.running.get_mut(&key).filter(|check| check.trying) else {
            return Vec::new();
        };
        check.trying = false;
        let Some(CheckStep::Try(trial)) = check.steps.front() else {
            return Vec::new();
        };
        let (missing, is_worth_it) = match result {
            Ok(missing) => (missing, true),
            Err(error) => (vec![trial.not_passed(&error)], error.is_retryable()),
        };
        if missing.is_empty() {
            check.deadline = check.deadline.max(now + check.within);
            return self.advance(key, now).into_iter().collect();
        }
        if is_worth_it {
            check.missing = missing;
            check.due = now + pace.retry;
            return Vec::new();
        }
        self.running.remove(&key);
        vec![CheckOutput::Failed(key, missing)]
    }
}
