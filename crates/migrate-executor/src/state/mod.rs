//! What a run knows: a fold over its journal.

mod outages;
mod permission;
mod seen;
mod spread;
mod targets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use migrate_core::steps::{BackupReport, Baseline, DrainOutcome};
use migrate_core::{
    Action, ActionId, ClusterId, ClusterModel, Finding, KubeVersion, Moment, Outcome, Phase, Plan,
    Policy, Target, WorkloadId,
};
use migrate_plan::{
    ActionResult, Command, Input, Quantiles, Rollout, StopReason, TargetState, WaitingOn,
};

pub(crate) use self::outages::Lost;
use self::outages::Outages;
pub(crate) use self::seen::{Seen, budget_gone, budget_seen, node_seen};
use self::spread::Spread;
use crate::report::{StopCause, Wait};
use crate::{Entry, Error, Origin, Record, RunEnd, RunOpened, RunStep, StepResult, WaitReason};

/// The state of one run.
///
/// [`apply`](Self::apply) is the only way to change it, live and when a journal
/// is read again, so that both come to the same state.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) run: String,
    pub(crate) cluster: ClusterId,
    pub(crate) origin: Origin,
    pub(crate) plan: Arc<Plan>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) model: Arc<ClusterModel>,
    pub(crate) opened_at: Moment,
    /// Before the start.
    pub(crate) forecast: Option<Quantiles>,

    pub(crate) prepared: Option<Vec<Finding>>,
    pub(crate) baseline: Option<Arc<Baseline>>,
    pub(crate) backup: Option<BackupReport>,
    /// When it was ready.
    pub(crate) backed_up_at: Option<Moment>,
    pub(crate) second_backup: Option<BackupReport>,
    /// The claim was announced: the cluster may name this run.
    pub(crate) claiming: bool,
    pub(crate) claimed: bool,
    /// The last epoch that a runner of this run has taken; 0 if none has.
    pub(crate) epoch: u64,
    pub(crate) taken_over: Option<Vec<String>>,
    pub(crate) verified: bool,
    pub(crate) spread: Spread,

    pub(crate) rollout: Rollout,
    /// When the rollout began, and when its last action ended.
    pub(crate) started_at: Option<Moment>,
    pub(crate) last_end: Option<Moment>,
    /// Begun by the rollout, without an intent so far, in order.
    pub(crate) due: VecDeque<Action>,
    /// With an intent and without an end.
    pub(crate) open: BTreeMap<ActionId, Action>,
    /// How many intents each action had.
    attempts: BTreeMap<ActionId, u32>,
    /// The planned node that the runner's own pod is on, as the rollout knows it.
    pub(crate) runner: Option<String>,
    pub(crate) paused: bool,
    pub(crate) stop: Option<StopReason>,
    pub(crate) finished: bool,
    /// It is being brought to its end for good.
    pub(crate) aborting: bool,
    /// Why it had last stopped.
    pub(crate) had_stopped: Option<StopCause>,
    pub(crate) end: Option<(Moment, RunEnd)>,

    /// By the target as planned.
    pub(crate) traces: BTreeMap<Target, Trace>,
    /// Nodes that came in place of planned ones, and for whom.
    pub(crate) replacements: BTreeMap<String, Target>,
    pub(crate) seen: Seen,
    pub(crate) evictions: u32,
    /// By node: workloads that lost pods there to a drain.
    displaced: BTreeMap<String, BTreeSet<WorkloadId>>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) outages: Outages,
    /// What verifications passed and noted.
    pub(crate) noted: Vec<Finding>,
    /// Phases by the target as planned.
    pub(crate) spans: BTreeMap<(Target, Phase), Span>,
}

/// When a phase was under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The beginning of its first attempt since the run was started.
    pub(crate) begin: Moment,
    /// The end of its last attempt, if that has ended.
    pub(crate) end: Option<Moment>,
    /// Whether it has passed by then.
    pub(crate) passed: bool,
}

/// What was done to a target: what the rollout does not keep.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// The version it came with.
    pub(crate) from: KubeVersion,
    /// The last phase with an intent.
    pub(crate) phase: Option<Phase>,
    pub(crate) course: Course,
    /// A cordon of ours may be on it.
    pub(crate) cordoned: bool,
}

/// How the last phase went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Course {
    Running,
    Passed,
    Failed(String),
}

impl RunState {
    /// The state after the first record of a run.
    pub(crate) fn open(at: Moment, opened: RunOpened) -> Result<Self, Error> {
        let rollout = Rollout::new(&opened.plan, &opened.model, &opened.policy)?;
        let targets = opened.plan.targets();
        let traces = targets
            .map(|(target, from)| (target, Trace::new(from.clone())))
            .collect();
        let seen = Seen::of(&opened.model, &rollout);
        let mut slots = opened.plan.slots.iter();
        let runner = slots.find(|slot| slot.hosts_runner);
        let runner = runner.map(|slot| slot.node.clone());
        Ok(Self {
            run: opened.run,
            cluster: opened.cluster,
            origin: opened.origin,
            plan: Arc::new(opened.plan),
            policy: Arc::new(opened.policy),
            model: Arc::new(opened.model),
            opened_at: at,
            forecast: opened.forecast,
            prepared: None,
            baseline: None,
            backup: None,
            backed_up_at: None,
            second_backup: None,
            claiming: false,
            claimed: false,
            epoch: 0,
            taken_over: None,
            verified: false,
            spread: Spread::default(),
            rollout,
            started_at: None,
            last_end: None,
            due: VecDeque::new(),
            open: BTreeMap::new(),
            attempts: BTreeMap::new(),
            runner,
            paused: false,
            stop: None,
            finished: false,
            aborting: false,
            had_stopped: None,
            end: None,
            traces,
            replacements: BTreeMap::new(),
            seen,
            evictions: 0,
            displaced: BTreeMap::new(),
            waits: Vec::new(),
            outages: Outages::default(),
            noted: Vec::new(),
            spans: BTreeMap::new(),
        })
    }

    /// Takes note of the next entry.
    ///
    /// # Errors
    /// [`Error::Replay`] when the entry announces an action that the rollout
    /// did not ask for next: it was written by another release.
    pub(crate) fn apply(&mut self, place: &str, entry: Entry) -> Result<(), Error> {
        let at = entry.at;
        self.tick(at);
        self.note_outage(at, &entry.record);
        match entry.record {
            // The caller begins a new state for each.
            Record::RunOpened(_) => {}
            Record::EpochTaken { epoch } => self.epoch = epoch,
            Record::StepBegan { step } => self.claiming |= step == RunStep::Claim,
            Record::StepEnded { result } => self.step_ended(at, result),
            Record::Input { input } => self.input(at, &input),
            Record::Intent { action } => {
                if self.due.front() != Some(&action) {
                    let expected = self.due.front();
                    return Err(Error::Replay {
                        place: place.to_owned(),
                        seq: entry.seq,
                        expected: expected
                            .map_or_else(|| "no action".to_owned(), |due| due.id.to_string()),
                        found: action.id.to_string(),
                    });
                }
                self.due.pop_front();
                self.began(at, action);
            }
            Record::DrainEnded {
                node,
                outcome,
                displaced,
            } => {
                self.displaced.entry(node).or_default().extend(displaced);
                if let DrainOutcome::Empty { evictions } | DrainOutcome::NodeGone { evictions } =
                    outcome
                {
                    self.evictions = self.evictions.saturating_add(evictions);
                }
            }
            Record::BackedUpAgain { report } => self.second_backup = Some(report),
            Record::Released { node } => self.uncordoned(&node),
            Record::Waited { target, on, since } => {
                self.waits.push(Wait::new(target, on, since, at));
            }
            // Noted above.
            Record::ApiLost { .. } | Record::ApiAway { .. } => {}
            Record::Noted { findings } => {
                // A workload may shrink once more: the newest counts.
                let like =
                    |old: &Finding, new: &Finding| old.code == new.code && old.object == new.object;
                let noted = &mut self.noted;
                noted.retain(|old| !findings.iter().any(|new| like(old, new)));
                noted.extend(findings);
            }
            Record::RunEnded { end } => {
                if let RunEnd::Stopped { cause } = &end {
                    self.had_stopped = Some(cause.clone());
                }
                self.end = Some((at, end));
            }
        }
        Ok(())
    }

    /// Lets time pass. Leaves no record: the rollout does the same when the
    /// next entry is read again.
    pub(crate) fn tick(&mut self, now: Moment) {
        while let Some(command) = self.rollout.poll(now) {
            match command {
                Command::Begin { action } => self.due.push_back(action),
                Command::Stop { reason } => self.stop = Some(reason),
                Command::Finished => self.finished = true,
                _ => {}
            }
        }
    }

    /// Whether the run is over for good.
    pub(crate) fn is_over(&self) -> bool {
        let end = self.end.as_ref().map(|(_, end)| end);
        matches!(
            end,
            Some(RunEnd::Done | RunEnd::Refused { .. } | RunEnd::Aborted)
        )
    }

    /// Whether `action` had been tried before its last intent.
    pub(crate) fn is_retry(&self, action: &Action) -> bool {
        self.attempts
            .get(&action.id)
            .is_some_and(|attempts| *attempts > 1)
    }

    /// Actions that were decided, not announced, and that an aborted run does
    /// not come to any more: those of targets that nobody has changed.
    pub(crate) fn never_to_begin(&self) -> Vec<ActionId> {
        let is_left = |action: &&Action| match action.phase {
            Phase::Drain | Phase::BackUp => true,
            Phase::Upgrade => !self.attempts.contains_key(&action.id),
            _ => false,
        };
        let due = self.due.iter().filter(is_left);
        due.map(|action| action.id.clone()).collect()
    }

    /// Nodes whose drain was given up, and that still have our cordon. Nothing
    /// was changed on them, so they are to be given back: also one whose drain
    /// has failed, if nobody is going to try it again.
    pub(crate) fn to_lift(&self) -> Vec<String> {
        let given_up = self.rollout.standings().into_iter().filter_map(|standing| {
            match standing.state {
                TargetState::Skipped { .. } => {}
                TargetState::Failed { .. } if self.aborting => {}
                _ => return None,
            }
            let trace = self.traces.get(self.planned(&standing.target))?;
            (trace.cordoned && trace.phase == Some(Phase::Drain)).then_some(standing.target)
        });
        given_up.map(|target| target.name().to_owned()).collect()
    }

    /// What keeps targets from going on, as opposed to waiting for their turn.
    pub(crate) fn obstacles(&self) -> impl Iterator<Item = WaitReason> {
        self.rollout.waiting().into_iter().filter_map(|waiting| {
            if let WaitingOn::Window { .. } = waiting.on {
                // The same for all of them.
                return Some(WaitReason::new("run", waiting.on.to_string()));
            }
            let on = match waiting.on {
                WaitingOn::Budget { key, .. } => key.to_string(),
                WaitingOn::NodeAway { .. } | WaitingOn::NotReady => waiting.on.to_string(),
                // Said once, of the canary: the others wait for their turn.
                WaitingOn::Soak { ref node, .. } if node == waiting.target.name() => {
                    waiting.on.to_string()
                }
                WaitingOn::Retry { .. } => format!("{} is tried again", waiting.phase),
                _ => return None,
            };
            Some(WaitReason::new(waiting.target.name(), on))
        })
    }

    fn step_ended(&mut self, at: Moment, result: StepResult) {
        match result {
            StepResult::Prepared { findings } => self.prepared = Some(findings),
            StepResult::Baseline { baseline } => self.baseline = Some(Arc::new(*baseline)),
            StepResult::BackedUp { report } => {
                self.backup = Some(report);
                self.backed_up_at = Some(at);
            }
            StepResult::Claimed => self.claimed = true,
            StepResult::TakenOver { nodes } => self.taken_over = Some(nodes),
            StepResult::Verified => self.verified = true,
            StepResult::Spread { findings, moves } => self.spread.looked(findings, moves),
            StepResult::Respread { evictions, left } => {
                self.evictions = self.evictions.saturating_add(evictions);
                self.spread.moved(left);
                self.verified = false;
            }
        }
    }

    fn input(&mut self, at: Moment, input: &Input) {
        self.seen.note(input);
        match input {
            // Its cordon is gone with it.
            Input::NodeGone { node } => self.uncordoned(node),
            Input::NodeSeen {
                node,
                uid: Some(uid),
                ..
            } if self.rollout.uid(node).is_some_and(|known| known != uid) => self.uncordoned(node),
            Input::Started => {
                self.started_at.get_or_insert(at);
                self.stop = None;
                self.leave_out_what_failed();
            }
            Input::ActionEnded { id, result } => self.ended(at, id, result),
            Input::Paused { paused } => self.paused = *paused,
            Input::RunnerSeen { node } => self.runner.clone_from(node),
            Input::Aborted => {
                self.aborting = true;
                // What is under way is brought to its end, whatever it was that
                // had stopped, and none of it is verified once more.
                self.stop = None;
                self.finished = false;
            }
            _ => {}
        }
        self.rollout.handle(at, input);
        self.tick(at);
    }

    fn uncordoned(&mut self, node: &str) {
        for (target, trace) in &mut self.traces {
            if is_node(target, node) {
                trace.cordoned = false;
            }
        }
    }

    fn began(&mut self, at: Moment, action: Action) {
        let planned = self.planned(&action.target).clone();
        let span = (planned.clone(), action.phase);
        // A retry goes on with the span of the attempt before it; what had passed and
        // is done once more, on a machine made anew, has one of its own.
        let new = Span {
            begin: at,
            end: None,
            passed: false,
        };
        let known = self.spans.entry(span).or_insert(new);
        match known.passed {
            true => *known = new,
            false => known.end = None,
        }
        if let Some(trace) = self.traces.get_mut(&planned) {
            trace.phase = Some(action.phase);
            trace.course = Course::Running;
            trace.cordoned |= action.phase == Phase::Drain;
        }
        if action.phase == Phase::Drain {
            // What comes after it is new, also where another machine has its name.
            for phase in [Phase::Upgrade, Phase::Verify, Phase::Confirm] {
                let later = ActionId::new(&self.plan.id, &action.target, phase);
                self.attempts.remove(&later);
            }
        }
        *self.attempts.entry(action.id.clone()).or_default() += 1;
        self.open.insert(action.id.clone(), action);
    }

    fn ended(&mut self, at: Moment, id: &ActionId, result: &ActionResult) {
        // One that was never announced has nothing that could end.
        self.due.retain(|action| action.id != *id);
        let Some(action) = self.open.remove(id) else {
            return;
        };
        self.last_end = Some(at);
        let planned = self.planned(&action.target).clone();
        if let ActionResult::Deferred { .. } | ActionResult::NotDrained | ActionResult::TooLate =
            result
        {
            // Nothing of it was begun.
            if let ActionResult::Deferred { away } = result {
                away.iter().for_each(|node| self.seen.forget(node));
            }
            self.spans.remove(&(planned.clone(), action.phase));
            self.attempts.remove(id);
            self.seen.forget(action.target.name());
            if let Some(trace) = self.traces.get_mut(&planned) {
                *trace = Trace::new(trace.from.clone());
            }
            return;
        }
        let course = match result {
            ActionResult::Failed { reason, .. } | ActionResult::Skipped { reason } => {
                // How it is now must be told, also if it looks as before.
                self.seen.forget(action.target.name());
                Course::Failed(reason.clone())
            }
            ActionResult::Succeeded(Outcome::ReplacedBy { nodes }) => {
                let nodes = nodes.iter().map(|node| (node.clone(), planned.clone()));
                self.replacements.extend(nodes);
                Course::Passed
            }
            _ => Course::Passed,
        };
        if let Some(span) = self.spans.get_mut(&(planned.clone(), action.phase)) {
            (span.end, span.passed) = (Some(at), course == Course::Passed);
        }
        if let Some(trace) = self.traces.get_mut(&planned) {
            trace.course = course;
        }
    }

    /// What had failed is tried anew: what has passed since is no time of its phase.
    fn leave_out_what_failed(&mut self) {
        for (target, trace) in &self.traces {
            if let (Some(phase), Course::Failed(_)) = (trace.phase, &trace.course) {
                self.spans.remove(&(target.clone(), phase));
            }
        }
    }
}

impl Trace {
    fn new(from: KubeVersion) -> Self {
        Self {
            from,
            phase: None,
            course: Course::Passed,
            cordoned: false,
        }
    }
}

fn is_node(target: &Target, name: &str) -> bool {
    matches!(target, Target::Node { node, .. } if node == name)
}
