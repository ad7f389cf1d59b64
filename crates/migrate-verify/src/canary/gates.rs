//! What is not asked of a cluster, told before the start.

use async_trait::async_trait;
use migrate_core::{
    Finding, ObjectName, PrepareEnvironment, Severity, StepContext, StepError, StepInput,
    StepReport,
};

/// Tells before the start, as `KM-CANARY-003`, which gates of a run take somebody's
/// word, for want of a canary. Changes and asks nothing.
#[derive(Clone, Copy, Debug)]
pub struct GatesLeftOut {
    has_trial: bool,
    has_change: bool,
}

impl GatesLeftOut {
    /// Of a run with or without something that tries nodes out, and with or without
    /// a change that agents have to see.
    pub fn new(has_trial: bool, has_change: bool) -> Self {
        Self {
            has_trial,
            has_change,
        }
    }

    /// What is left out.
    pub fn findings(&self) -> Vec<Finding> {
        let trial = (!self.has_trial).then(|| {
            weaker(
                "canary-pod",
                "no pod tries a node out before its cordon is lifted: that its network, its \
                 Services and its DNS work is the word of its agents",
                "set [canary-pod] in the policy, with an image that the nodes may run, and apply \
                 docs/rbac-canary.yaml",
            )
        });
        let change = (!self.has_change).then(|| {
            weaker(
                "canary-change",
                "no change shows that the agents of every node are back after the control plane \
                 was away: a minute is waited for them",
                "set [canary-change] in the policy, and apply docs/rbac-canary.yaml",
            )
        });
        trial.into_iter().chain(change).collect()
    }
}

#[async_trait]
impl PrepareEnvironment for GatesLeftOut {
    async fn run(&self, _: &StepContext, _: &StepInput) -> Result<StepReport, StepError> {
        Ok(StepReport::new(self.findings()))
    }
}

fn weaker(table: &str, evidence: &str, cure: &str) -> Finding {
    let object = ObjectName::cluster("Policy", table);
    Finding::new("KM-CANARY-003", Severity::Info, object, evidence, cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gate_that_is_left_out_is_told_and_none_else() {
        for (trial, change, told) in [
            (true, true, vec![]),
            (true, false, vec!["canary-change"]),
            (false, true, vec!["canary-pod"]),
            (false, false, vec!["canary-pod", "canary-change"]),
        ] {
            let found = GatesLeftOut::new(trial, change).findings();
            assert!(found.iter().all(|it| it.severity == Severity::Info));
            let found: Vec<String> = found.into_iter().map(|it| it.object.name).collect();
            assert_eq!(found, told);
        }
    }
}
