//! A run as its journal tells it: what it was told, what it began, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrate_core::{Action, ActionId, Moment, Outcome, Phase, PlannedAction, Target};
use migrate_plan::{
    ActionResult, Command, End, EndedAction, Input, Measured, NODE_GONE, Recorded, Rollout,
    TargetState, Timeline,
};

use crate::{Entry, Error, Record, RunEnd, RunOpened, deadlines};

/// One run of a journal, whatever became of it and however many runners it took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRun {
    /// What it began with.
    pub opened: Box<RunOpened>,
    /// What its rollout was told, in order.
    pub inputs: Vec<Recorded>,
    /// What it began, in order: a retry is there again.
    pub begun: Vec<Action>,
    /// How it ended, if it has.
    pub end: Option<RunEnd>,
}

/// A phase of a target as it was planned.
type Of = (Target, Phase);

/// The course of a run, by what its rollout decided.
#[derive(Debug, Default)]
struct Course {
    /// In the order in which they were first decided.
    decided: Vec<Of>,
    /// When each was first decided, and when it last ended.
    spans: BTreeMap<Of, (Moment, Option<Moment>)>,
    /// Those that have ended, the earliest last end first.
    ended: Vec<Of>,
    /// Those whose last end was a failure, and those of them that the run was
    /// started again after.
    failed: BTreeSet<Of>,
    tried_anew: BTreeSet<Of>,
    /// What has begun and not ended for good: since when, and since when the last
    /// attempt.
    tries: BTreeMap<Of, (Moment, Moment)>,
    /// How each has ended for good, in that order.
    ends: Vec<EndedAction>,
}

impl RecordedRun {
    /// The runs of a journal, in order. Entries before the first are left out, as
    /// where a run is gone on with.
    pub fn all(entries: impl IntoIterator<Item = Entry>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for entry in entries {
            if let Record::RunOpened(opened) = entry.record {
                runs.push(Self {
                    opened,
                    inputs: Vec::new(),
                    begun: Vec::new(),
                    end: None,
                });
                continue;
            }
            let Some(run) = runs.last_mut() else {
                continue;
            };
            match entry.record {
                Record::Input { input } => run.inputs.push(Recorded::new(entry.at, input)),
                Record::Intent { action } => run.begun.push(action),
                Record::RunEnded { end } => run.end = Some(end),
                _ => {}
            }
        }
        runs
    }

    /// When the rollout was first started; at the time of its model if it never
    /// was.
    pub fn started_at(&self) -> Moment {
        let mut inputs = self.inputs.iter();
        let start = inputs.find(|told| told.input == Input::Started);
        start.map_or(self.opened.model.taken_at, |told| told.at)
    }

    /// When each action was first decided, and when it had ended for good, from
    /// the start of the rollout; one that has not lasts until the last input.
    /// Targets are named as they were planned, also where machines were replaced.
    ///
    /// # Errors
    /// [`Error::Plan`] where the plan does not fit its model, which no executor
    /// writes.
    pub fn timeline(&self) -> Result<Timeline, Error> {
        let course = self.course()?;
        let start = self.started_at();
        let last = self.inputs.last().map_or(start, |told| told.at);
        let actions = course.decided.into_iter().filter_map(|of| {
            let (begin, end) = *course.spans.get(&of)?;
            let (begin, end) = (begin.since(start), end.unwrap_or(last).since(start));
            Some(PlannedAction::new(of.0, of.1, begin, end))
        });
        Ok(Timeline::new(actions.collect()))
    }

    /// What each action took that has ended well: from the decision to begin it to its
    /// last end, pauses before a retry included, and no time in which the run had
    /// stopped.
    ///
    /// # Errors
    /// As [`timeline`](Self::timeline).
    pub fn measured(&self) -> Result<Measured, Error> {
        let course = self.course()?;
        let failed = course.failed;
        let ended = course.ended.into_iter();
        let actions = ended.filter(|of| !failed.contains(of)).filter_map(|of| {
            let (begin, end) = *course.spans.get(&of)?;
            Some((of.0, of.1, end?.since(begin)))
        });
        Ok(Measured::of_run(self.started_at(), actions))
    }

    /// How each action ended that has: what failed and is tried again goes on. For good it
    /// failed if nobody but a person would go on with it, as whoever starts the run again
    /// does: [`End::CutOff`] where the last attempt went on until its deadline, else
    /// [`End::Stuck`]. What its node did not live to see the end of is left out.
    ///
    /// A run that has gone on since tells the same, and what is new behind it.
    ///
    /// # Errors
    /// As [`timeline`](Self::timeline).
    pub fn ended(&self) -> Result<Vec<EndedAction>, Error> {
        Ok(self.course()?.ends)
    }

    /// Tells a fresh rollout everything once more.
    fn course(&self) -> Result<Course, Error> {
        let opened = &self.opened;
        let mut rollout = Rollout::new(&opened.plan, &opened.model, &opened.policy)?;
        let announced: BTreeSet<&ActionId> = self.begun.iter().map(|action| &action.id).collect();
        let mut course = Course::default();
        let mut running: BTreeMap<ActionId, Of> = BTreeMap::new();
        // Nodes that came in place of planned ones.
        let mut replaced: BTreeMap<String, Target> = BTreeMap::new();
        for Recorded { at, input } in &self.inputs {
            // What a timer made begin was decided when it was due.
            while let Some(due) = rollout.wake_at().filter(|due| due < at) {
                let decided = std::iter::from_fn(|| rollout.poll(due)).collect();
                course.decide(due, decided, &announced, &replaced, &mut running);
            }
            let mut has_failed = None;
            if let Input::ActionEnded { id, result } = input
                && let Some(of) = running.remove(id)
            {
                has_failed = is_failure(result).then(|| of.clone());
                if let ActionResult::Succeeded(Outcome::ReplacedBy { nodes }) = result {
                    replaced.extend(nodes.iter().map(|node| (node.clone(), of.0.clone())));
                }
                course.end(*at, of, result);
            }
            if *input == Input::Started {
                course.tried_anew.clone_from(&course.failed);
                // The time in which it had stopped is none of theirs.
                let has_stopped = rollout.stopped().is_some();
                let is_running = |of: &Of| running.values().any(|other| other == of);
                course.tries.retain(|of, _| !has_stopped || is_running(of));
            }
            rollout.handle(*at, input);
            if let Some(of) = has_failed {
                let goes_on = rollout.standings().into_iter().any(|it| {
                    let planned = replaced.get(it.target.name()).unwrap_or(&it.target);
                    *planned == of.0 && matches!(it.state, TargetState::InWork { .. })
                });
                if !goes_on {
                    let deadline = deadlines::of(&opened.policy, &of.0, of.1);
                    course.failed_for_good(*at, of, deadline);
                }
            }
            let decided = std::iter::from_fn(|| rollout.poll(*at)).collect();
            course.decide(*at, decided, &announced, &replaced, &mut running);
        }
        Ok(course)
    }
}

impl Course {
    fn decide(
        &mut self,
        at: Moment,
        commands: Vec<Command>,
        announced: &BTreeSet<&ActionId>,
        replaced: &BTreeMap<String, Target>,
        running: &mut BTreeMap<ActionId, Of>,
    ) {
        for command in commands {
            let Command::Begin { action } = command else {
                continue;
            };
            // An aborted run does not come to all that was decided.
            if !announced.contains(&action.id) {
                continue;
            }
            let planned = replaced.get(action.target.name());
            let of = (planned.unwrap_or(&action.target).clone(), action.phase);
            if !self.spans.contains_key(&of) {
                self.decided.push(of.clone());
                self.spans.insert(of.clone(), (at, None));
            } else if self.tried_anew.remove(&of) {
                self.spans.insert(of.clone(), (at, None));
            }
            let tries = self.tries.entry(of.clone()).or_insert((at, at));
            tries.1 = at;
            running.insert(action.id, of);
        }
    }

    fn end(&mut self, at: Moment, of: Of, result: &ActionResult) {
        if let ActionResult::Deferred { .. } | ActionResult::NotDrained | ActionResult::TooLate =
            result
        {
            // It did not begin.
            self.tries.remove(&of);
            self.spans.remove(&of);
            self.decided.retain(|other| *other != of);
            self.ended.retain(|other| *other != of);
            return;
        }
        match result {
            result if is_failure(result) => {
                if matches!(result, ActionResult::Skipped { reason } if reason == NODE_GONE) {
                    self.tries.remove(&of);
                }
                self.failed.insert(of.clone())
            }
            _ => {
                if let Some((begin, _)) = self.tries.remove(&of) {
                    let (target, phase) = of.clone();
                    let took = EndedAction::new(target, phase, at.since(begin), End::Took);
                    self.ends.push(took);
                }
                self.failed.remove(&of)
            }
        };
        if let Some((_, end)) = self.spans.get_mut(&of) {
            // A retry ends once more.
            if end.replace(at).is_some() {
                self.ended.retain(|other| *other != of);
            }
            self.ended.push(of);
        }
    }

    /// Nobody tries it again by himself.
    fn failed_for_good(&mut self, at: Moment, of: Of, deadline: Option<Duration>) {
        let Some((begin, last)) = self.tries.remove(&of) else {
            return;
        };
        let is_late = deadline.is_some_and(|deadline| at.since(last) >= deadline);
        let end = if is_late { End::CutOff } else { End::Stuck };
        let ended = EndedAction::new(of.0, of.1, at.since(begin), end);
        self.ends.push(ended);
    }
}

fn is_failure(result: &ActionResult) -> bool {
    matches!(
        result,
        ActionResult::Failed { .. } | ActionResult::Skipped { .. }
    )
}
