//! Backups: the first, before anything is changed, and the second, an action of
//! the rollout.

use migrate_core::steps::{BACKUP_AGAIN_FAILED, BACKUP_UNPROVEN, BackupProof, BackupReport};
use migrate_core::{ActionId, Finding, ObjectName, Outcome, Severity, StepError, StepErrorKind};
use migrate_plan::ActionResult;

use super::Executor;
use super::actions::in_one_line;
use super::upgrade::failed;
use crate::{Record, RunStep, StepResult};

impl Executor {
    pub(super) fn backed_up(&mut self, result: Result<BackupReport, StepError>) {
        if let Some(report) = self.unless_failed(RunStep::BackUp, result) {
            let report = self.judged(report);
            self.step_ended(StepResult::BackedUp { report });
        }
    }

    /// Takes the second backup. One that a person would have to waive fails the
    /// action, and with it the run: nothing after it begins.
    pub(super) fn backed_up_again(
        &mut self,
        id: ActionId,
        result: Result<BackupReport, StepError>,
    ) {
        let (report, retryable) = match result {
            Ok(report) => (self.judged(report), false),
            // Not the backup failed, but this runner was asked to leave off.
            Err(error)
                if error.kind == StepErrorKind::Cancelled && self.shop.cx.cancel.is_cancelled() =>
            {
                return;
            }
            Err(error) => {
                let object = self.state.cluster.as_str();
                let finding = Finding::new(
                    BACKUP_AGAIN_FAILED,
                    Severity::Blocker,
                    ObjectName::cluster("Cluster", object),
                    format!("the backup after the control plane failed: {error}"),
                    "cure that and go on with the run",
                );
                // One that is not there is not also unproven.
                let report = BackupReport::new(BackupProof::None, Vec::new());
                let mut report = report.with_finding(finding);
                self.state.policy.mark_waived(&mut report.findings);
                self.announce(&report.findings);
                (report, error.is_retryable())
            }
        };
        let blockers = report.findings.iter().filter(|finding| finding.blocks());
        let blockers: Vec<Finding> = blockers.cloned().collect();
        let result = match blockers.is_empty() {
            true => {
                self.inbox.push_back(Record::BackedUpAgain { report });
                ActionResult::Succeeded(Outcome::SameNode)
            }
            false => failed(retryable, in_one_line(&blockers)),
        };
        self.action_ended(id, Some(result));
    }

    /// A report with what is to be said about its level of proof.
    fn judged(&self, mut report: BackupReport) -> BackupReport {
        let is_named = report
            .findings
            .iter()
            .any(|finding| finding.code == BACKUP_UNPROVEN);
        if report.proof < BackupProof::Proven && !is_named {
            report.findings.push(unproven(&report));
        }
        self.state.policy.mark_waived(&mut report.findings);
        self.announce(&report.findings);
        report
    }
}

fn unproven(report: &BackupReport) -> Finding {
    let name = report.artifacts.first().map_or_else(
        || "backup".to_owned(),
        |artifact| artifact.path.display().to_string(),
    );
    let evidence = match report.proof {
        BackupProof::None => "there is no backup that this run could vouch for",
        _ => "nobody has compared the backup with the live members",
    };
    Finding::new(
        BACKUP_UNPROVEN,
        Severity::Blocker,
        ObjectName::cluster("File", name),
        evidence,
        "use a provider that proves its backups, or accept the risk: waive KM-BACKUP-001",
    )
}
