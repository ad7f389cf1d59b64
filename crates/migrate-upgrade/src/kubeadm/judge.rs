//! What the end of a step means. Pure.

use migrate_core::{Action, ActionStatus, Outcome, Target};

use super::{Installed, release};
use crate::unit::{bounded, redacted};

/// The exit codes of our steps (`common.sh`); others are what a command of
/// theirs ended with.
mod code {
    pub(super) const KUBEADM: i32 = 70;
    pub(super) const RETRY: i32 = 75;
    pub(super) const FINAL: i32 = 78;
}

/// What kubeadm says when its own checks keep it from beginning.
const PREFLIGHT: &str = "[preflight] Some fatal errors occurred";
/// Its checks that only look at how the cluster is doing just now.
const PASSING: [&str; 3] = ["CreateJob", "ControlPlaneNodesReady", "ImagePull"];
/// How much of a log a reason quotes.
const QUOTED_LINES: usize = 12;
/// How lines begin in which apt and dpkg tell how far they are: no reason for anything.
const PROGRESS: [&str; 5] = ["Get:", "Hit:", "Ign:", "Reading ", "(Reading database "];

/// A step that left its exit code.
pub(super) fn ended(action: &Action, code: i32, log: &str, now: &Installed) -> ActionStatus {
    let target = release(&action.to).unwrap_or_default();
    let is_control_plane = matches!(action.target, Target::ControlPlane { .. });
    let behind = if is_control_plane {
        now.control_plane_behind(&target)
    } else {
        now.kubelet_behind(&target)
    };
    if let Some(failed) = lost_manifest(action, log, now).filter(|_| code != 0) {
        return failed;
    }
    match code {
        0 if behind.is_empty() => ActionStatus::Succeeded(Outcome::SameNode),
        0 => failed(
            true,
            format!("the step ended well, but {}", behind.join(", ")),
        ),
        code::FINAL => failed(false, complaint(log)),
        code::RETRY => failed(true, complaint(log) + &tail(log)),
        code::KUBEADM => kubeadm_failed(log, is_control_plane, now, &behind),
        code => failed(true, format!("exit code {code}: {}", complaint(log))),
    }
}

/// A step that is gone without an exit code.
pub(super) fn lost(action: &Action, rebooted: bool, log: &str, now: &Installed) -> ActionStatus {
    if let Some(failed) = lost_manifest(action, log, now) {
        return failed;
    }
    let why = if rebooted {
        "the node was rebooted while the step ran"
    } else {
        "the step was killed"
    };
    failed(
        true,
        format!("{why}; beginning it again goes on from there{}", tail(log)),
    )
}

/// A control plane whose upgrade was stopped between two moves, also of kubeadm's
/// own rollback.
fn lost_manifest(action: &Action, log: &str, now: &Installed) -> Option<ActionStatus> {
    if !matches!(action.target, Target::ControlPlane { .. }) {
        return None;
    }
    let error = now.lost_manifest(action.target.name())?;
    let resumable = error.is_resumable();
    Some(failed(resumable, format!("{error}{}", tail(log))))
}

fn kubeadm_failed(
    log: &str,
    is_control_plane: bool,
    now: &Installed,
    behind: &[String],
) -> ActionStatus {
    if log.contains(PREFLIGHT) {
        let failed_checks: Vec<&str> = log
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("[ERROR "))
            .collect();
        let passing = |check: &&str| PASSING.iter().any(|name| check.starts_with(name));
        let retryable = failed_checks.iter().all(passing);
        return failed(
            retryable,
            format!(
                "kubeadm's own checks failed before it changed anything: {}; cure that, or \
                 name the checks to be ignored",
                failed_checks.join("; ")
            ),
        );
    }
    if is_control_plane && !behind.is_empty() && !now.moved_back.is_empty() {
        return failed(
            true,
            format!(
                "kubeadm moved the old manifests of {} back by itself (automatic rollback), {}{}",
                now.moved_back.join(", "),
                standing(behind),
                tail(log)
            ),
        );
    }
    let standing = if is_control_plane {
        format!(", {}", standing(behind))
    } else {
        String::new()
    };
    failed(true, format!("{}{standing}{}", complaint(log), tail(log)))
}

/// How far a control plane is after kubeadm has failed.
fn standing(behind: &[String]) -> String {
    if behind.is_empty() {
        "all manifests are at the target but not all phases have ended".to_owned()
    } else {
        format!("so that {}", behind.join(", "))
    }
}

/// The step's own last error, or the end of its log.
fn complaint(log: &str) -> String {
    log.lines()
        .filter_map(|line| line.split_once("kube-migrate: error: "))
        .next_back()
        .map_or_else(
            || format!("no error of its own{}", tail(log)),
            |(_, error)| redacted(error),
        )
}

/// The end of a log, to be appended: reports are sent round, so without what looks like a
/// secret, as what is told of a step while it runs.
fn tail(log: &str) -> String {
    let is_told = |line: &&str| {
        let is_progress = PROGRESS.iter().any(|start| line.starts_with(start));
        !is_progress && !line.trim().is_empty()
    };
    let told: Vec<&str> = log.lines().filter(is_told).collect();
    let lines = bounded(&told.join("\n"));
    let from = lines.len().saturating_sub(QUOTED_LINES);
    match lines.get(from..) {
        Some([]) | None => String::new(),
        Some(lines) => format!("; its log ends: {}", lines.join(" | ")),
    }
}

fn failed(retryable: bool, reason: String) -> ActionStatus {
    ActionStatus::Failed { retryable, reason }
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn progress_of_packages_is_no_reason() {
        let log = "Get:1 kubelet\nIgn:2 kubelet\n\n\
                   Err:2 kubelet\n  404  Not Found\nReading package lists...\n";
        assert_eq!(
            tail(log),
            "; its log ends: Err:2 kubelet |   404  Not Found"
        );
        assert_eq!(tail("Get:1 kubelet\n"), "");
    }
}
