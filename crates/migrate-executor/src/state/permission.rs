//! What keeps a run from its first change.

use migrate_core::{Finding, Moment};

use super::RunState;
use crate::RunEnd;
use crate::report::StopCause;

impl RunState {
    /// Takes a run that had stopped up again. Tells whether it had. A backup that
    /// may not be relied on is forgotten: the next one may do.
    pub(crate) fn reopen(&mut self) -> bool {
        let stopped = matches!(&self.end, Some((_, RunEnd::Stopped { .. })));
        if stopped {
            self.end = None;
            if self.has_begun_nothing() && self.of_backup().any(Finding::blocks) {
                self.backup = None;
                self.backed_up_at = None;
            }
        }
        stopped
    }

    /// Whether no action has begun yet.
    pub(crate) fn has_begun_nothing(&self) -> bool {
        self.attempts.is_empty()
    }

    /// What keeps the run from its first change: blockers nobody has waived. Once
    /// the cluster names the run these are those of the backup alone, which is taken
    /// anew if the first action comes late.
    pub(crate) fn blocked(&self) -> Option<StopCause> {
        let findings: Vec<Finding> = match self.claimed {
            false => self.findings().filter(|f| f.blocks()).cloned().collect(),
            true if self.has_begun_nothing() => {
                self.of_backup().filter(|f| f.blocks()).cloned().collect()
            }
            true => Vec::new(),
        };
        (!findings.is_empty()).then_some(StopCause::Blocked { findings })
    }

    /// Since when what was written is not in the backup, as far as it is known. One that
    /// was too old when it came, which a person has accepted, counts from then.
    pub(crate) fn backup_counts_from(&self) -> Option<Moment> {
        let came = self.backed_up_at?;
        let taken = self.backup.as_ref().and_then(|backup| backup.taken);
        let taken = taken.filter(|taken| came.since(*taken) <= self.policy.backup.max_age);
        Some(taken.map_or(came, |taken| taken.min(came)))
    }

    fn of_backup(&self) -> impl Iterator<Item = &Finding> {
        self.backup.iter().flat_map(|backup| &backup.findings)
    }

    /// Every finding so far, waived or not. What both backups have is told once.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        let second = self.second_backup.iter().flat_map(|again| &again.findings);
        let is_new = move |finding: &&Finding| !self.of_backup().any(|known| known == *finding);
        let prepared = self.prepared.iter().flatten();
        let backups = self.of_backup().chain(second.filter(is_new));
        prepared.chain(backups).chain(&self.noted)
    }

    /// Whether this was noted already.
    pub(crate) fn is_noted(&self, note: &Finding) -> bool {
        self.noted.contains(note)
    }
}
