//! The report as a self-contained HTML page.

use std::fmt;

use migrate_core::steps::BackupReport;
use migrate_core::{Finding, Phase};
use migrate_plan::html::{Block, Page, Table, Weight};
use migrate_plan::{PlanPage, Timeline};

use super::table::Human;
use super::{Position, Report, RunOutcome};
use crate::RunOpened;

/// Shows the report of a run as an HTML page; `to_string` gives the file.
///
/// # What it guarantees
/// - What [`Page`] does: one file, no script, nothing loaded, every name escaped.
/// - How it ended stands first, then what a person has to look at: what failed, what
///   is cordoned, what blocks, each with its way on.
#[derive(Clone, Copy, Debug)]
pub struct ReportPage<'r> {
    report: &'r Report,
    course: Option<(&'r RunOpened, &'r Timeline)>,
}

impl<'r> ReportPage<'r> {
    /// What the report tells.
    pub const fn new(report: &'r Report) -> Self {
        let course = None;
        Self { report, course }
    }

    /// Also a chart of what was done when: what the run began with, and
    /// [`RecordedRun::timeline`](crate::RecordedRun::timeline).
    #[must_use]
    pub const fn with_course(mut self, opened: &'r RunOpened, timeline: &'r Timeline) -> Self {
        self.course = Some((opened, timeline));
        self
    }

    /// The page, to be added to.
    #[must_use]
    pub fn page(&self) -> Page {
        let report = self.report;
        let mut page = Page::new(format!("Upgrade {} → {}", report.from, report.to));
        page = page.with_lead(Block::Small(format!(
            "Run {} on cluster {}, from {} to {}",
            report.run, report.cluster, report.opened_at, report.ended_at
        )));
        page = page.with_lead(self.outcome()).with_lead(self.figures());
        for (pool, own) in &report.own_targets {
            page = page.with_lead(Block::Text(format!("Pool {pool} goes to {own}.")));
        }
        if let Some(forecast) = report.forecast() {
            page = page.with_lead(Block::Text(format!("Forecast {forecast}.")));
        }
        for finding in report.findings.iter().filter(|finding| finding.blocks()) {
            page = page.with_lead(Block::finding(finding));
        }
        page.with_section("To be looked at", self.open_ends())
            .with_section("Course", self.chart())
            .with_section("Phases", self.phases())
            .with_section("Waits", self.waits())
            .with_section("API server away", self.outages())
            .with_section("Backups", self.backups())
            .with_section("Members, nodes and tasks", self.targets())
            .with_section("Found", self.remarks())
            .with_footer(format!("Plan {}, journal {}", report.plan, report.journal))
    }

    fn outcome(&self) -> Block {
        let weight = match &self.report.outcome {
            RunOutcome::Done | RunOutcome::NothingToDo | RunOutcome::Running => Weight::Info,
            RunOutcome::Aborted | RunOutcome::Interrupted { .. } => Weight::Warning,
            _ => Weight::Bad,
        };
        Block::Note {
            weight,
            head: "Outcome:".to_owned(),
            text: self.report.outcome.to_string(),
        }
    }

    fn figures(&self) -> Block {
        let report = self.report;
        let done = report.targets.iter();
        let done = done.filter(|target| target.position == Position::Done);
        let mut figures = vec![
            ("took".to_owned(), Human(report.duration.actual).to_string()),
            (
                "predicted".to_owned(),
                Human(report.duration.predicted).to_string(),
            ),
        ];
        if let Some((bound, gap)) = report.bound() {
            figures.push(("no order is faster than".to_owned(), bound));
            figures.push(("predicted above that".to_owned(), gap));
        }
        figures.extend([
            (
                "targets done".to_owned(),
                format!("{} of {}", done.count(), report.targets.len()),
            ),
            ("pods evicted".to_owned(), report.evictions.to_string()),
        ]);
        let away = report.api_outages.iter().map(|outage| outage.length());
        if let Some(longest) = away.max() {
            let what = "longest without the API server".to_owned();
            figures.push((what, Human(longest).to_string()));
        }
        Block::Figures(figures)
    }

    /// What is neither done nor untouched, and cordons of ours.
    fn open_ends(&self) -> Vec<Block> {
        let targets = self.report.targets.iter().filter(|target| {
            let settled = matches!(target.position, Position::Done | Position::Untouched);
            !settled || target.cordoned || target.undo.is_some()
        });
        let blocks = targets.map(|target| {
            let cordoned = if target.cordoned {
                " It is cordoned by this run."
            } else {
                ""
            };
            let undo = target.undo.as_deref().unwrap_or_default();
            Block::Note {
                weight: match target.position {
                    Position::Failed { .. } => Weight::Bad,
                    _ => Weight::Warning,
                },
                head: format!("{}:", target.target),
                text: format!("{}.{cordoned} {undo}", target.position),
            }
        });
        blocks.collect()
    }

    fn chart(&self) -> Vec<Block> {
        let Some((opened, timeline)) = self.course else {
            return Vec::new();
        };
        let mut course = opened.plan.clone();
        course.schedule = timeline.actions.clone();
        let page = PlanPage::new(&course);
        let text = format!(
            "What was done when, from the start of the rollout; predicted were {}.",
            Human(opened.plan.makespan())
        );
        vec![Block::Gantt(page.chart()), Block::Small(text)]
    }

    fn phases(&self) -> Vec<Block> {
        let mut table = Table::new(["Of", "Phase", "#Targets", "#Predicted", "#Took"]);
        for row in &self.report.phases {
            let of = match &row.pool {
                Some(pool) => format!("pool {pool}"),
                None if row.addons => "addons".to_owned(),
                None if row.phase == Phase::BackUp => "data".to_owned(),
                None => "members".to_owned(),
            };
            let times = [row.predicted, row.actual].map(|time| Human(time).to_string());
            let [predicted, actual] = times;
            let phase = row.phase.to_string();
            table.row([of, phase, row.targets.to_string(), predicted, actual]);
        }
        table.blocks("phases")
    }

    fn waits(&self) -> Vec<Block> {
        let mut table = Table::new(["On", "#Targets", "#Longest", "#In all"]);
        for wait in &self.report.waits {
            let [longest, total] = [wait.longest, wait.total].map(|t| Human(t).to_string());
            table.row([wait.on.clone(), wait.targets.to_string(), longest, total]);
        }
        table.blocks("causes")
    }

    fn outages(&self) -> Vec<Block> {
        let mut table = Table::new(["Since", "#For", "While"]);
        for outage in &self.report.api_outages {
            let length = Human(outage.length()).to_string();
            table.row([outage.since.to_string(), length, outage.meanwhile()]);
        }
        table.blocks("times")
    }

    fn backups(&self) -> Vec<Block> {
        let mut table = Table::new(["Backup", "Proof", "File", "#Bytes", "sha256"]);
        let report = self.report;
        for (what, backup) in [
            ("before the start", &report.backup),
            ("after the control plane", &report.second_backup),
        ] {
            let Some(BackupReport {
                proof, artifacts, ..
            }) = backup
            else {
                continue;
            };
            for artifact in artifacts {
                table.row([
                    what.to_owned(),
                    format!("{proof:?}"),
                    artifact.path.display().to_string(),
                    artifact.bytes.to_string(),
                    artifact.sha256.clone(),
                ]);
            }
        }
        table.blocks("files")
    }

    fn targets(&self) -> Vec<Block> {
        let mut table = Table::new(["Target", "From", "Stands"]);
        for target in &self.report.targets {
            let (name, from) = (target.target.to_string(), target.from.to_string());
            table.row([name, from, target.position.to_string()]);
        }
        table.blocks("targets")
    }

    fn remarks(&self) -> Vec<Block> {
        let mut findings: Vec<&Finding> = self.report.findings.iter().collect();
        findings.retain(|finding| !finding.blocks());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings.into_iter().map(Block::finding).collect()
    }
}

impl fmt::Display for ReportPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.page().fmt(f)
    }
}
