//! Backups: the first, before anything is changed, and the second, an action of
//! the rollout.

use std::time::Duration;

use migrate_core::steps::{
    BACKUP_AGAIN_FAILED, BACKUP_FOREIGN, BACKUP_OLD, BACKUP_OTHER_VERSION, BACKUP_UNPROVEN,
    BackupProof, BackupReport,
};
use migrate_core::{
    ActionId, ClusterId, ClusterModel, Finding, Moment, ObjectName, Outcome, Severity, StepError,
    StepErrorKind,
};
use migrate_plan::ActionResult;

use super::Executor;
use super::actions::in_one_line;
use super::upgrade::failed;
use crate::{Record, RunStep, StepResult};

/// Clocks that far apart are taken for the same.
const SKEW: Duration = Duration::from_secs(60);

impl Executor {
    /// Whether it is the turn of the first backup: there is none, or it is late. Who
    /// pauses a run gets none of every hour, and who aborts it none at all.
    pub(super) fn owes_backup(&self, now: Moment) -> bool {
        let state = &self.state;
        let is_held = state.paused || self.gate.is_shut || state.stop.is_some();
        // One that is under way is brought to its end.
        let is_wanted = state.backed_up_at.is_none() || self.steps.is_at(RunStep::BackUp);
        !state.aborting && (is_wanted || (!is_held && self.is_backup_late(now)))
    }

    /// Whether the first action is not to begin on the backup that there is: one is
    /// being taken, or the run has waited since, for a window or for who paused it.
    pub(super) fn is_backup_late(&self, now: Moment) -> bool {
        let state = &self.state;
        let is_first = !state.due.is_empty() && state.has_begun_nothing();
        // Shorter than that, one after the other would be taken.
        let most = state.policy.backup.max_age.max(SKEW);
        let is_old = state
            .backup_counts_from()
            .is_none_or(|at| now.since(at) > most);
        self.steps.is_at(RunStep::BackUp) || (is_first && is_old)
    }

    pub(super) fn backed_up(&mut self, result: Result<BackupReport, StepError>) {
        // Nobody waits for it any more: the run is aborted.
        if !self.steps.is_at(RunStep::BackUp) {
            return;
        }
        if let Some(report) = self.unless_failed(RunStep::BackUp, result) {
            let report = self.judged(report, &self.shop.input.model);
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
            Ok(report) => (self.judged(report, &self.shop.changed().model), false),
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

    /// A report of a backup of `model` with what is to be said about its level of proof, its
    /// age, its version and whose it is.
    fn judged(&self, mut report: BackupReport, model: &ClusterModel) -> BackupReport {
        let is_named = report
            .findings
            .iter()
            .any(|finding| finding.code == BACKUP_UNPROVEN);
        if report.proof < BackupProof::Proven && !is_named {
            report.findings.push(unproven(&report));
        }
        let found = [
            foreign(&report, &self.state.cluster),
            of_another_version(&report, model),
            old(&report, self.now(), self.state.policy.backup.max_age),
        ];
        report.findings.extend(found.into_iter().flatten());
        self.state.policy.mark_waived(&mut report.findings);
        self.announce(&report.findings);
        report
    }
}

/// What a finding about `report` is of.
fn object(report: &BackupReport) -> ObjectName {
    let name = report.artifacts.first().map_or_else(
        || "backup".to_owned(),
        |artifact| artifact.path.display().to_string(),
    );
    ObjectName::cluster("File", name)
}

/// That it is of another cluster than `cluster`.
fn foreign(report: &BackupReport, cluster: &ClusterId) -> Option<Finding> {
    let whose = report.cluster.as_ref().filter(|whose| *whose != cluster)?;
    Some(Finding::new(
        BACKUP_FOREIGN,
        Severity::Blocker,
        object(report),
        format!("the backup is of cluster {whose}, and this is {cluster}"),
        "name the etcd, or the store, of this cluster",
    ))
}

/// That it is of another version than the oldest API server, which would not know all that
/// is in it, or be told of what it has long changed.
fn of_another_version(report: &BackupReport, model: &ClusterModel) -> Option<Finding> {
    let (of, is) = (report.kubernetes.as_ref()?, model.oldest_api_server()?);
    (of != is).then(|| {
        Finding::new(
            BACKUP_OTHER_VERSION,
            Severity::Blocker,
            object(report),
            format!("the backup is of Kubernetes {of}, and the oldest API server is {is}"),
            "take a backup of the cluster as it is now",
        )
    })
}

/// That it was taken longer than `most` before `now`, or after it.
fn old(report: &BackupReport, now: Moment, most: Duration) -> Option<Finding> {
    let taken = report.taken?;
    let (age, ahead) = (now.since(taken), taken.since(now));
    let evidence = if age > most {
        format!(
            "the backup was taken {} minutes ago, {} are allowed",
            age.as_secs() / 60,
            most.as_secs() / 60
        )
    } else if ahead > SKEW {
        format!("the backup was taken at {taken}, which is yet to come")
    } else {
        return None;
    };
    Some(Finding::new(
        BACKUP_OLD,
        Severity::Blocker,
        object(report),
        evidence,
        "take a new one, see to the clocks, or raise backup.max-age in the policy",
    ))
}

fn unproven(report: &BackupReport) -> Finding {
    let evidence = match report.proof {
        BackupProof::None => "there is no backup that this run could vouch for",
        _ => "nobody has compared the backup with the live members",
    };
    Finding::new(
        BACKUP_UNPROVEN,
        Severity::Blocker,
        object(report),
        evidence,
        "use a provider that proves its backups, or accept the risk: waive KM-BACKUP-001",
    )
}
