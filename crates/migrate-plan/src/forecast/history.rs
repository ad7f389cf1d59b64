//! What earlier runs took, as a file that only grows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use migrate_core::cost::Sample;
use migrate_core::{DocumentError, Phase, Plan, Target};
use serde::{Deserialize, Serialize};

use crate::{Measured, TargetKind};

const WHAT: &str = "line of a history of durations";

/// Version of each line of a [`History`]. A reader refuses a newer one.
pub const HISTORY_SCHEMA: u32 = 1;

/// How an action of an earlier run ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// With success, after so long.
    Took,
    /// It was cut off at a deadline: it would have taken longer.
    CutOff,
    /// It would never have ended without a person.
    Stuck,
}

/// One action of an earlier run: one line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Lasted {
    /// [`HISTORY_SCHEMA`] of the writer.
    pub schema: u32,
    /// Which run: the id of its plan.
    pub run: String,
    /// Of which targets.
    pub of: TargetKind,
    /// Which phase.
    pub phase: Phase,
    /// What it took, in milliseconds.
    pub millis: u64,
    /// What a planner without a history expects of it, in milliseconds.
    pub expected_millis: u64,
    /// How it ended.
    pub end: End,
}

/// How one action of a run ended, before anything is expected of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EndedAction {
    /// The target, as it was planned.
    pub target: Target,
    /// Which phase.
    pub phase: Phase,
    /// From the decision to begin it to this end, retries and the pauses before them
    /// included.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

impl EndedAction {
    /// `phase` of `target`, which ended so after `took`.
    pub const fn new(target: Target, phase: Phase, took: Duration, end: End) -> Self {
        Self {
            target,
            phase,
            took,
            end,
        }
    }
}

/// Actions of earlier runs, oldest first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// Its lines.
    pub lines: Vec<Lasted>,
}

impl Lasted {
    /// `phase` of a target of kind `of`, in `run`.
    pub fn new(
        run: impl Into<String>,
        of: TargetKind,
        phase: Phase,
        took: Duration,
        expected: Duration,
        end: End,
    ) -> Self {
        let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        Self {
            schema: HISTORY_SCHEMA,
            run: run.into(),
            of,
            phase,
            millis: millis(took),
            expected_millis: millis(expected),
            end,
        }
    }

    /// What tells it from others of the same run.
    fn mark(&self) -> (String, TargetKind, Phase, u64, End) {
        (
            self.run.clone(),
            self.of.clone(),
            self.phase,
            self.millis,
            self.end,
        )
    }

    /// It as a sample: none if it was stuck, which is counted apart.
    pub(super) fn sample(&self) -> Option<Sample> {
        let (took, expected) = (self.millis, self.expected_millis);
        let [took, expected] = [took, expected].map(Duration::from_millis);
        (self.end != End::Stuck)
            .then(|| Sample::new(took, expected, self.end == End::CutOff))
            .flatten()
    }
}

impl History {
    /// What a run took, beside what `expected`, a plan for it that was made without
    /// any history, predicts. What only one of both has is left out; all that was measured
    /// has succeeded.
    #[must_use]
    pub fn of_run(expected: &Plan, measured: &Measured) -> Self {
        let took = measured.actions.iter().map(|it| {
            let took = Duration::from_millis(it.millis);
            EndedAction::new(it.target.clone(), it.phase, took, End::Took)
        });
        Self::of_actions(expected, took)
    }

    /// The same of the actions of a run, in their order, however each ended.
    #[must_use]
    pub fn of_actions(expected: &Plan, ended: impl IntoIterator<Item = EndedAction>) -> Self {
        let planned = expected.schedule.iter();
        let planned = planned.map(|it| ((&it.target, it.phase), it.end.saturating_sub(it.start)));
        let planned: BTreeMap<(&Target, Phase), Duration> = planned.collect();
        let lines = ended.into_iter().filter_map(|it| {
            let expected_of = *planned.get(&(&it.target, it.phase))?;
            let of = TargetKind::of(&it.target)?;
            let run = &expected.id;
            Some(Lasted::new(run, of, it.phase, it.took, expected_of, it.end))
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// What this one has and `known` has not: what is to be added where a run is told
    /// once more that has gone on since. What is expected counts for nothing there.
    #[must_use]
    pub fn beyond(self, known: &Self) -> Self {
        let mut left: BTreeMap<_, u32> = BTreeMap::new();
        for line in &known.lines {
            *left.entry(line.mark()).or_default() += 1;
        }
        let mut lines = self.lines;
        lines.retain(|line| match left.get_mut(&line.mark()) {
            Some(count @ 1..) => {
                *count -= 1;
                false
            }
            _ => true,
        });
        Self { lines }
    }

    /// Its text: one JSON object a line, each with its line break. To add a run,
    /// append its text, in one write, and sync the file before it counts as kept.
    ///
    /// # Errors
    /// None for one that this crate made.
    pub fn to_text(&self) -> Result<String, DocumentError> {
        let mut text = String::new();
        for line in &self.lines {
            let json = serde_json::to_string(line);
            let json = json.map_err(|source| DocumentError::Invalid { what: WHAT, source })?;
            let _ = writeln!(text, "{json}");
        }
        Ok(text)
    }

    /// Reads the text of one or more runs. A last line without its line break was
    /// torn when a write was cut off, and is left out.
    ///
    /// # Errors
    /// [`DocumentError::Newer`] for a line that a newer release wrote,
    /// [`DocumentError::Invalid`] for one that is none.
    pub fn from_text(text: &str) -> Result<Self, DocumentError> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().filter(|line| !line.is_empty());
        let lines = lines.map(|line| DocumentError::read(WHAT, HISTORY_SCHEMA, line));
        Ok(Self {
            lines: lines.collect::<Result<_, _>>()?,
        })
    }
}
