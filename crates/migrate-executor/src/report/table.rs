//! The report as plain text.

use std::fmt;
use std::time::Duration;

use migrate_core::Phase;
use migrate_core::steps::BackupReport;

use super::outcome::plural;
use super::{Position, Report, RunOutcome};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Run {} on cluster {}", self.run, self.cluster)?;
        writeln!(f, "  outcome    {}", self.outcome)?;
        writeln!(f, "  versions   {} -> {}", self.from, self.to)?;
        for (pool, own) in &self.own_targets {
            writeln!(f, "             pool {pool} -> {own}")?;
        }
        writeln!(f, "  plan       {}", self.plan)?;
        writeln!(f, "  journal    {}", self.journal)?;
        let transfer = match self.duration.transfer {
            Some(transfer) => format!("T = N·D/S is {}", Human(transfer)),
            None => "T = N·D/S has no rate to go by".to_owned(),
        };
        writeln!(
            f,
            "  duration   {}, predicted {} ({}; {transfer})",
            Human(self.duration.actual),
            Human(self.duration.predicted),
            self.duration.bottleneck,
        )?;
        if let Some((bound, gap)) = self.bound() {
            writeln!(
                f,
                "  bound      no order is faster than {bound}; predicted is {gap} above"
            )?;
        }
        if let Some(forecast) = self.forecast() {
            writeln!(f, "  forecast   {forecast}")?;
        }
        writeln!(f, "  evictions  {}", self.evictions)?;
        super::outages::write(&self.api_outages, f)?;
        match &self.backup {
            Some(backup) => write_backup(f, "backup", backup)?,
            None => writeln!(f, "  backup     none")?,
        }
        if let Some(backup) = &self.second_backup {
            write_backup(f, "again", backup)?;
        }
        if self.cordons.is_empty() {
            writeln!(f, "  cordons    none of ours")?;
        } else {
            writeln!(f, "  cordons    ours on {}", self.cordons.join(", "))?;
        }
        self.write_targets(f)?;
        self.write_phases(f)?;
        self.write_waits(f)?;
        self.write_findings(f)
    }
}

impl Report {
    /// Targets that are done or untouched in one line each kind, the others
    /// one by one: those are what somebody has to look at.
    fn write_targets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |position: &Position| {
            self.targets
                .iter()
                .filter(|target| target.position == *position)
                .count()
        };
        writeln!(
            f,
            "\nTargets: {}, {} done, {} untouched",
            self.targets.len(),
            count(&Position::Done),
            count(&Position::Untouched)
        )?;
        for target in &self.targets {
            let settled = matches!(target.position, Position::Done | Position::Untouched);
            if settled && !target.cordoned && target.undo.is_none() {
                continue;
            }
            let cordon = if target.cordoned {
                " (cordoned by us)"
            } else {
                ""
            };
            writeln!(f, "  {}{cordon}: {}", target.target, target.position)?;
            if let Some(undo) = &target.undo {
                writeln!(f, "    {undo}")?;
            }
        }
        Ok(())
    }

    /// What was forecast at the start, and once the run is done whether that held.
    pub(super) fn forecast(&self) -> Option<String> {
        let forecast = self.duration.forecast?;
        let [p50, p80, p95] = [forecast.p50, forecast.p80, forecast.p95].map(Human);
        let mut words = format!("at the start {p50} (P50), {p80} (P80), {p95} (P95)");
        if self.outcome == RunOutcome::Done {
            words += &format!("; it took {}", forecast.rank(self.duration.actual));
        }
        Some(words)
    }

    /// What no order beats, and how far the plan is above it.
    pub(super) fn bound(&self) -> Option<(String, String)> {
        let bound = Human(self.duration.lower_bound?).to_string();
        let gap = self.duration.gap_permille?;
        Some((bound, format!("{}.{} %", gap / 10, gap % 10)))
    }

    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.phases.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nPhases:")?;
        writeln!(f, "  predicted    actual  targets  of")?;
        for row in &self.phases {
            writeln!(
                f,
                "  {:>9}  {:>8}  {:>7}  {}, {}",
                Human(row.predicted).to_string(),
                Human(row.actual).to_string(),
                row.targets,
                match &row.pool {
                    Some(pool) => pool,
                    None if row.addons => "addons",
                    None if row.phase == Phase::BackUp => "data",
                    None => "members",
                },
                row.phase
            )?;
        }
        Ok(())
    }

    fn write_waits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.waits.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nWaits:")?;
        writeln!(f, "  {:>8}  {:>8}  targets  on", "total", "longest")?;
        for wait in &self.waits {
            writeln!(
                f,
                "  {:>8}  {:>8}  {:>7}  {}",
                Human(wait.total).to_string(),
                Human(wait.longest).to_string(),
                wait.targets,
                wait.on
            )?;
        }
        Ok(())
    }

    fn write_findings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return Ok(());
        }
        let waived = self.findings.iter().filter(|f| f.waived).count();
        writeln!(
            f,
            "\n{} ({waived} waived):",
            plural(self.findings.len(), "finding")
        )?;
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        for finding in findings {
            writeln!(f, "  {finding}")?;
        }
        Ok(())
    }
}

fn write_backup(f: &mut fmt::Formatter<'_>, what: &str, backup: &BackupReport) -> fmt::Result {
    writeln!(f, "  {what:<9}  {:?}", backup.proof)?;
    for artifact in &backup.artifacts {
        writeln!(
            f,
            "             {} ({} bytes, sha256 {})",
            artifact.path.display(),
            artifact.bytes,
            artifact.sha256
        )?;
    }
    Ok(())
}

/// A duration as people read it: `2h05m`, `4m07s`, `3.2s`.
pub(super) struct Human(pub(super) Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{:.1}s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            _ => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}
