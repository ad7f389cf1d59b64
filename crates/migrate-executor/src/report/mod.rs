//! The report of a run: what happened, where everything stands, what to do.

mod outages;
mod outcome;
mod page;
mod phases;
mod recorded;
mod standing;
mod table;

pub use outages::Outage;
pub(crate) use outcome::api_older;
pub use outcome::{RunOutcome, Stop, StopCause};
pub use page::ReportPage;
pub use phases::PhaseTimes;
pub use recorded::RecordedRun;
pub use standing::{Position, TargetStanding};

use std::collections::BTreeMap;
use std::time::Duration;

use migrate_core::cost::TermKind;
use migrate_core::steps::BackupReport;
use migrate_core::{
    ClusterId, DocumentError, Finding, KubeVersion, Moment, ObjectName, Plan, Severity,
};
use migrate_plan::{Measured, Quantiles};
use serde::{Deserialize, Serialize};

use crate::MarkedNode;
use crate::state::RunState;

/// Version of the JSON form of [`Report`]. A reader refuses a newer one.
pub const REPORT_SCHEMA: u32 = 1;

/// What a run did, and where it leaves the cluster.
///
/// [`Display`](std::fmt::Display) gives a table of plain text, [`ReportPage`] an
/// HTML page.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
#[must_use = "an unread report is not actionable"]
pub struct Report {
    /// [`REPORT_SCHEMA`] of the writer.
    pub schema: u32,
    /// How it ended, or that it has not.
    pub outcome: RunOutcome,
    /// The run.
    pub run: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// The plan.
    pub plan: String,
    /// Where the journal is.
    pub journal: String,
    /// Lowest version of the control plane before.
    pub from: KubeVersion,
    /// Version of everything after, but for pools with one of their own.
    pub to: KubeVersion,
    /// Those pools and their versions after.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own_targets: BTreeMap<String, KubeVersion>,
    /// When the run began.
    pub opened_at: Moment,
    /// When it ended, or when the report was made.
    pub ended_at: Moment,
    /// Predicted against actual.
    pub duration: Durations,
    /// Predicted against actual for each phase that has ended.
    #[serde(default)]
    pub phases: Vec<PhaseTimes>,
    /// Evictions the API accepted. Those of a runner that died in the middle
    /// of a drain are not among them.
    pub evictions: u32,
    /// What had to wait, for how long, and on what; the longest first.
    pub waits: Vec<WaitSummary>,
    /// When the API server did not answer this runner, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_outages: Vec<Outage>,
    /// Everything found, waived findings included.
    pub findings: Vec<Finding>,
    /// The backup, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupReport>,
    /// The backup after the control plane, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_backup: Option<BackupReport>,
    /// Nodes that are cordoned by us now.
    pub cordons: Vec<String>,
    /// Where each member, node, addon and backup of the plan stands, and what can be undone.
    pub targets: Vec<TargetStanding>,
}

/// Predicted against actual, from the first action to the last.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Durations {
    /// The plan's prediction.
    pub predicted: Duration,
    /// What it took; so far, if it has not ended.
    pub actual: Duration,
    /// What was forecast before the start, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Quantiles>,
    /// The data that has to be moved alone, T = N · D / S; absent where the
    /// plan was made without rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Duration>,
    /// What the plan expected to decide the duration.
    pub bottleneck: TermKind,
    /// What no order of the same targets could beat under the same policy
    /// ([`Plan::bounds`]); absent where nothing was to begin, and for plans of older
    /// releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound: Option<Duration>,
    /// How far [`predicted`](Self::predicted) is above that, in thousandths of it, rounded
    /// up; absent as that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_permille: Option<u32>,
}

/// One target's wait.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wait {
    target: String,
    on: String,
    since: Moment,
    until: Moment,
}

impl Wait {
    pub(crate) fn new(target: String, on: String, since: Moment, until: Moment) -> Self {
        Self {
            target,
            on,
            since,
            until,
        }
    }
}

/// All waits on the same thing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct WaitSummary {
    /// On what, in one line.
    pub on: String,
    /// How many members and nodes waited on it.
    pub targets: u32,
    /// The longest single wait.
    pub longest: Duration,
    /// All waits added up.
    pub total: Duration,
}

impl Report {
    /// Reads the JSON form of a report back.
    ///
    /// # Errors
    /// [`DocumentError::Newer`] for one that a newer release wrote,
    /// [`DocumentError::Invalid`] for what is no report.
    pub fn from_json(json: &str) -> Result<Self, DocumentError> {
        DocumentError::read("report", REPORT_SCHEMA, json)
    }

    /// What the phases of this run took, for planning the next one
    /// ([`Planner::with_measured`](migrate_plan::Planner::with_measured)); what has
    /// not passed is no part of it, and no time in which the run had stopped. What each single action took is known to the
    /// journal ([`RecordedRun::measured`]).
    #[must_use]
    pub fn measured(&self) -> Measured {
        let rows = self.phases.iter();
        rows.fold(Measured::default(), |measured, row| {
            measured.with_phase(row.kind(), row.phase, row.targets, row.actual)
        })
    }

    /// The report of `state`. `cordons` are the marks on the nodes where the
    /// cluster could be asked; otherwise the journal's word is taken.
    pub(crate) fn new(
        state: &RunState,
        outcome: RunOutcome,
        journal: &str,
        now: Moment,
        cordons: Option<&[MarkedNode]>,
    ) -> Self {
        let ended_at = state.end.as_ref().map_or(now, |(at, _)| *at);
        let mut findings: Vec<Finding> = state.findings().cloned().collect();
        findings.extend(state.spread.findings.iter().flatten().cloned());
        let api_outages = state.outages(ended_at);
        findings.extend(outages::unexplained(&api_outages));
        let cordons = match cordons {
            Some(marks) => marks
                .iter()
                .filter(|mark| mark.run == state.run)
                .map(|mark| mark.node.clone())
                .collect(),
            None => standing::cordoned_by_the_journal(state),
        };
        let targets = standing::targets(state, &cordons);
        // One that failed says itself what is to be done about it.
        let is_told = |node: &&String| {
            let mut of_node = targets.iter().filter(|at| at.target.name() == **node);
            of_node.any(|at| matches!(at.position, Position::Failed { .. }))
        };
        match (&outcome, &state.had_stopped) {
            (RunOutcome::Done, _) => {
                findings.extend(cordons.iter().map(|node| leaked(node, &state.run)));
            }
            (RunOutcome::Aborted, stopped) => {
                if let Some(StopCause::Verification { findings: worse }) = stopped {
                    findings.extend(worse.iter().cloned());
                }
                let left = cordons.iter().filter(|node| !is_told(node));
                findings.extend(left.map(|node| leaked(node, &state.run)));
            }
            _ => {}
        }
        Self {
            schema: REPORT_SCHEMA,
            run: state.run.clone(),
            cluster: state.cluster.clone(),
            plan: state.plan.id.clone(),
            journal: journal.to_owned(),
            from: state.plan.from.clone(),
            to: state.plan.to.clone(),
            own_targets: own_targets(&state.plan),
            opened_at: state.opened_at,
            ended_at,
            duration: durations(state, now),
            phases: phases::phases(state),
            evictions: state.evictions,
            waits: summarise(&state.waits),
            api_outages,
            findings,
            backup: state.backup.clone(),
            second_backup: state.second_backup.clone(),
            targets,
            cordons,
            outcome,
        }
    }
}

fn own_targets(plan: &Plan) -> BTreeMap<String, KubeVersion> {
    let own = plan.own_targets();
    own.map(|(pool, own)| (pool.to_owned(), own.clone()))
        .collect()
}

fn durations(state: &RunState, now: Moment) -> Durations {
    let estimate = &state.plan.estimate;
    let bounds = state.plan.bounds.as_ref();
    let bound = bounds.and_then(|bounds| Some((bounds.best()?.time, bounds.gap_permille)));
    let until = if state.finished || state.end.is_some() {
        state.last_end.or(state.started_at)
    } else {
        Some(now)
    };
    let actual = match (state.started_at, until) {
        (Some(start), Some(until)) => until.since(start),
        _ => Duration::ZERO,
    };
    Durations {
        predicted: state.plan.makespan(),
        actual,
        forecast: state.forecast,
        transfer: estimate
            .terms
            .iter()
            .find(|term| term.kind == TermKind::Bandwidth)
            .map(|term| term.duration),
        bottleneck: estimate.bottleneck.clone(),
        lower_bound: bound.map(|(time, _)| time),
        gap_permille: bound.map(|(_, gap)| gap),
    }
}

fn summarise(waits: &[Wait]) -> Vec<WaitSummary> {
    let mut by_cause: BTreeMap<&str, (BTreeMap<&str, Duration>, Duration)> = BTreeMap::new();
    for wait in waits {
        let length = wait.until.since(wait.since);
        let (targets, longest) = by_cause.entry(&wait.on).or_default();
        *targets.entry(&wait.target).or_default() += length;
        *longest = length.max(*longest);
    }
    let mut summaries: Vec<_> = by_cause
        .into_iter()
        .map(|(on, (targets, longest))| WaitSummary {
            on: on.to_owned(),
            targets: u32::try_from(targets.len()).unwrap_or(u32::MAX),
            longest,
            total: targets.values().sum(),
        })
        .collect();
    summaries.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.on.cmp(&b.on)));
    summaries
}

fn leaked(node: &str, run: &str) -> Finding {
    Finding::new(
        "KM-RUN-002",
        Severity::Warning,
        ObjectName::cluster("Node", node),
        format!("it still carries the cordon of run {run}, which has ended"),
        format!("look at the node, then: kubectl uncordon {node}"),
    )
}
