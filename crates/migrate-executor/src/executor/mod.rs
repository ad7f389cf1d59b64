//! The executor: observe, decide, act, record.
//!
//! One loop, driven by [`Executor::step`]: what happened becomes records, a
//! record is made durable and then applied to the state, and only what the
//! state then asks for is begun. Work under way lives in the executor, not in
//! `step`, so that a dropped `step` loses nothing.

mod abort;
mod actions;
mod ahead;
mod backup;
mod close;
mod drain;
mod gate;
mod holding;
mod job;
mod last_look;
mod looks;
mod open;
mod outage;
mod preference;
mod resumption;
mod spread;
mod steps;
mod tries;
mod upgrade;
mod verify;
mod view;
mod waits;
mod warm_up;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use migrate_core::steps::DrainEvent;
use migrate_core::{Action, ActionStatus, Cancellation, Moment, StepError};
use migrate_plan::{Input, Progress};
use tokio::time::Instant;

use self::drain::DrainLink;
use self::gate::Gate;
use self::holding::{Holding, unless_lapsed};
use self::job::{Ended, Job, Workshop};
use self::looks::Looks;
pub(crate) use self::open::last_run;
use self::outage::OutageWatch;
use self::preference::Preference;
use self::resumption::Resumption;
use self::steps::Steps;
use self::tries::Tries;
use self::upgrade::Upgrades;
use self::verify::Checks;
use self::view::View;
use self::waits::WaitBook;
pub use self::waits::WaitReason;
use crate::report::{Report, RunOutcome, Stop, StopCause};
use crate::state::RunState;
use crate::{Entry, Error, Journal, Pace, Record, Standpoint};

/// Runs a plan on a cluster.
///
/// # Guarantees
/// * An intent is durable in the journal before the effect it announces begins.
///   When the journal cannot be written, nothing is begun.
/// * Nothing in the cluster is changed before every check has passed and the
///   backup has answered, or each blocker is waived.
/// * The kill switch on the anchor is read before every action, and before the
///   nodes of an adopted run are taken over. When it cannot
///   be read, nothing begins.
/// * It holds the run under an epoch of its own. Once another runner has taken a
///   newer one and begun, this one changes no node and begins no action any more;
///   evictions that are under way then may still arrive.
/// * Dropping the executor at any await is safe: opening the journal again goes
///   on, and nothing is done twice. Actions that had begun are all looked at
///   before anything begins.
/// * It works only while [`step`](Self::step) or [`run`](Self::run) is polled,
///   and starts no task. What drivers began on nodes goes on without it.
pub struct Executor {
    shop: Workshop,
    pace: Pace,
    journal: Box<dyn Journal>,
    place: String,
    state: RunState,
    next_seq: u64,
    last_at: Moment,
    /// Waiting to be made durable, in order.
    inbox: VecDeque<Record>,
    /// The entry that is being made durable.
    pending: Option<Entry>,
    jobs: FuturesUnordered<Job>,
    steps: Steps,
    view: View,
    gate: Gate,
    holding: Holding,
    /// Begun by a runner that is gone, to be taken up once nobody holds the run.
    resumed: VecDeque<Action>,
    looks: Looks,
    drains: DrainLink,
    upgrades: Upgrades,
    checks: Checks,
    /// Nodes whose drain was given up, to be given back, and until when.
    lifting: BTreeMap<String, Moment>,
    waits: WaitBook,
    outage: OutageWatch,
    preference: Preference,
    /// The last look at the cluster.
    closing: Tries,
    resumption: Resumption,
    /// The run is to be ended for good, and the journal does not say so yet.
    to_abort: bool,
    /// Namespace and name of the pod it runs in, if it is inside the cluster.
    own_pod: Option<(String, String)>,
    /// Why this runner may not go on, although the run has not ended.
    barred: Option<StopCause>,
    outcome: Option<StepOutcome>,
}

/// What one step came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[must_use = "a step may have ended the run"]
pub enum StepOutcome {
    /// Something happened that is in the journal now. Step again.
    Progressed,
    /// Nothing of note happened. Step again, at `until` at the latest; work
    /// goes on only meanwhile.
    Wait {
        /// What is waited for.
        reasons: Vec<WaitReason>,
        /// When something will be due, if nothing happens before.
        until: Option<Moment>,
    },
    /// The run is done.
    Done(Box<Report>),
    /// The run ended with work left, was refused, or this runner left it.
    Stopped(Box<Stop>),
}

/// Something the executor waited for.
enum Happening {
    Ended(Ended),
    /// `None` when the line to the drainer broke.
    Drain(Option<DrainEvent>),
    /// `None` when the stream ended.
    Seen(Option<Result<Vec<Input>, StepError>>),
}

impl Executor {
    /// Goes on for about a second ([`Pace::step`]), or until the run ends.
    ///
    /// May be dropped at any await and called again. After the end it gives
    /// the same outcome again.
    ///
    /// # Errors
    /// The journal could not be written ([`Error::JournalIo`]: nothing was
    /// begun, and once the cause is cured stepping goes on), or says something
    /// this program does not understand.
    pub async fn step(&mut self) -> Result<StepOutcome, Error> {
        let until = Instant::now() + self.pace.step;
        let mut progressed = false;
        loop {
            progressed |= self.commit().await?;
            if let Some(outcome) = self.ended() {
                return Ok(outcome);
            }
            self.act();
            if !self.inbox.is_empty() {
                continue;
            }
            if Instant::now() >= until {
                break;
            }
            match self.next(until).await {
                Some(happening) => self.take(happening),
                None if Instant::now() >= until => break,
                // A timer or a cancellation: the next turn sees to it.
                None => {}
            }
        }
        self.note_waits();
        progressed |= self.commit().await?;
        if progressed {
            return Ok(StepOutcome::Progressed);
        }
        Ok(StepOutcome::Wait {
            reasons: self.reasons(),
            until: self.wake_at(),
        })
    }

    /// Steps until the run ends or `cancel` is set; then the report says
    /// [`Interrupted`](RunOutcome::Interrupted), and opening the journal again
    /// goes on.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn run(&mut self, cancel: &Cancellation) -> Result<Report, Error> {
        loop {
            let step = tokio::select! {
                biased;
                step = self.step() => step?,
                () = cancel.cancelled() => self.interrupted(StopCause::Asked),
            };
            match step {
                StepOutcome::Done(report) => return Ok(*report),
                StepOutcome::Stopped(stop) => return Ok(stop.report),
                StepOutcome::Progressed | StepOutcome::Wait { .. } => {}
            }
        }
    }

    /// Begins no new action until [`unpause`](Self::unpause). What is under way
    /// goes on to its end.
    pub fn pause(&mut self) {
        self.gate.asked_to_pause = true;
        self.pause_is_now(true);
    }

    /// Takes back [`pause`](Self::pause). The kill switch in the cluster still
    /// counts.
    pub fn unpause(&mut self) {
        self.gate.asked_to_pause = false;
    }

    /// Stops the run: nothing more begins, what is under way goes on to its end,
    /// then the run is stopped. Opening the journal again goes on with it.
    pub fn cancel(&mut self) {
        self.inbox.push_back(Record::Input {
            input: Input::Cancelled,
        });
    }

    /// Ends the run for good. Before anything was changed it ends at once. Else no
    /// further target begins; one whose upgrade was begun goes on to the end of its
    /// verification, retries included; drains go on to their end. Every node that
    /// was not changed is given back, then the cluster names no run any more and
    /// the outcome is [`Aborted`](RunOutcome::Aborted). A node that failed stays
    /// cordoned; the report names it. The kill switch holds all of this back.
    ///
    /// Durable with the next step, and kept by a crash from then on. Nothing takes
    /// it back; a run that has ended is left as it is.
    pub fn abort(&mut self) {
        self.to_abort = true;
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.state.run
    }

    /// Counts of targets.
    pub fn progress(&self) -> Progress {
        self.state.rollout.progress()
    }

    /// Where the rollout stands now, for a forecast of its end that is made elsewhere.
    pub fn standpoint(&self) -> Standpoint {
        Standpoint::new(&self.state)
    }

    /// Where the run stands now.
    pub fn report(&self) -> Report {
        self.report_of(RunOutcome::Running, None)
    }

    /// Makes what has happened durable, and begins what follows from it.
    async fn commit(&mut self) -> Result<bool, Error> {
        let mut any = false;
        while let Some(record) = self.inbox.front() {
            let entry = self.pending.get_or_insert_with(|| {
                let now = self.shop.cx.clock.now().max(self.last_at);
                Entry::new(self.next_seq, now, record.clone())
            });
            self.journal.append(entry).await?;
            // No await from here on: what is durable is also applied.
            let Some(entry) = self.pending.take() else {
                break;
            };
            self.inbox.pop_front();
            self.next_seq += 1;
            self.last_at = entry.at;
            let record = entry.record.clone();
            let ended = self.ended_by(&record);
            self.state.apply(&self.place, entry)?;
            self.after(record, ended);
            any = true;
        }
        Ok(any)
    }

    /// The action under way that `record` ends.
    fn ended_by(&self, record: &Record) -> Option<Action> {
        match record {
            Record::Input {
                input: Input::ActionEnded { id, .. },
            } => self.state.open.get(id).cloned(),
            _ => None,
        }
    }

    /// Begins what a durable record announces.
    fn after(&mut self, record: Record, ended: Option<Action>) {
        match (record, ended) {
            (Record::StepBegan { step }, _) => self.begin_step(step),
            (Record::StepEnded { .. }, _) => self.step_is_over(),
            (Record::EpochTaken { epoch }, _) => {
                self.shop.cx.fence.epoch = epoch;
                let now = self.now();
                self.holding.claimed(now);
            }
            (Record::Intent { action }, _) => self.begin_action(action, false),
            // A rollout that is over is not cancelled: it is verified; one that is
            // aborted is over soon.
            (
                Record::Input {
                    input: Input::Cancelled,
                },
                _,
            ) if !self.state.finished && !self.state.aborting => {
                self.resumption = Resumption::Cancelled
            }
            (
                Record::Input {
                    input: Input::Aborted,
                },
                _,
            ) => self.aborted(),
            (
                Record::Input {
                    input: Input::ActionEnded { result, .. },
                },
                Some(action),
            ) => self.action_is_over(action, &result),
            // One that never began: its node is not needed any more.
            (
                Record::Input {
                    input: Input::ActionEnded { .. },
                },
                None,
            ) if self.state.aborting => self.give_back(),
            _ => {}
        }
    }

    /// Does what is due now. Nothing here waits.
    fn act(&mut self) {
        let now = self.now();
        if self.state.end.is_some() {
            self.act_on_the_end(now);
        } else if self.to_abort || self.state.aborting {
            self.act_on_abort(now);
        } else if let Some(cause) = self.state.blocked() {
            self.end(cause);
        } else if let Some(step) = self.next_step(now) {
            self.act_on_step(step, now);
        } else {
            self.act_on_rollout(now);
        }
        self.act_on_effects(now);
        self.act_on_holding(now);
        self.act_on_outage(now);
    }

    /// Waits for something to happen, `until` at the longest.
    async fn next(&mut self, until: Instant) -> Option<Happening> {
        let now = self.now();
        let wake = self
            .wake_at()
            .map_or(until, |at| until.min(Instant::now() + at.since(now)));
        let drains = unless_lapsed(
            &*self.shop.cx.clock,
            self.holding.rests_at(),
            self.drains.next(),
        );
        // In this order, so that the same happenings give the same journal.
        tokio::select! {
            biased;
            Some(ended) = self.jobs.next(), if !self.jobs.is_empty() => {
                Some(Happening::Ended(ended))
            }
            event = drains => Some(Happening::Drain(event)),
            seen = self.view.next() => Some(Happening::Seen(seen)),
            () = self.shop.cx.cancel.cancelled() => None,
            () = tokio::time::sleep_until(wake) => None,
        }
    }

    /// Takes note of what happened.
    fn take(&mut self, happening: Happening) {
        let now = self.now();
        match happening {
            Happening::Ended(ended) => self.take_ended(ended, now),
            Happening::Drain(Some(event)) => self.take_drain_event(event, now),
            Happening::Drain(None) => self.drains.broke(now + self.pace.retry),
            Happening::Seen(seen) => {
                if let Some(Err(error)) = &seen {
                    self.doubt_the_api(error, now);
                }
                self.view.take(seen, &self.state.seen, now, &self.pace);
            }
        }
    }

    fn take_ended(&mut self, ended: Ended, now: Moment) {
        match ended {
            Ended::Prepared(result) => self.prepared(result, now),
            Ended::Baseline(result) => self.baseline_taken(result, now),
            Ended::BackedUp(result) => self.backed_up(result),
            Ended::BackedUpAgain(id, result) => self.backed_up_again(id, result),
            Ended::Claimed(result) => self.claimed(result, now),
            Ended::Renewed(result) => self.lease_renewed(result, now),
            Ended::TakenOver(result) => self.taken_over(result, now),
            Ended::Preferred(result) => self.preferred(result, now),
            Ended::Anchor(result) => self.anchor_read(result, now),
            Ended::Begun(id, result) => {
                let ended = self.upgrades.begun(&id, result, now, &self.pace);
                self.action_ended(id, ended);
            }
            Ended::Probed(id, result, notes) => {
                self.noted(notes);
                if result.is_ok() {
                    self.looks.seen(&id);
                }
                if matches!(result, Ok(ActionStatus::Absent))
                    && !self.looks.are_over()
                    && let Some(action) = self.upgrades.put_back(&id)
                {
                    self.looks.absent.push_back(action);
                    return;
                }
                let ended = self.upgrades.probed(&id, result, now, &self.pace);
                self.action_ended(id, ended);
            }
            Ended::Looked(id, result) => self.looked(id, result, now),
            Ended::LookedAfter(id, ended, look) => self.looked_after(id, ended, look),
            Ended::Observed(round, result) => self.observed(round, &result, now),
            Ended::Tried(key, result) => {
                let outputs = self.checks.tried(key, result, now, &self.pace);
                self.take_check_outputs(outputs);
            }
            Ended::Spread(result) => self.spread_seen(result, now),
            Ended::Drainer(result) => self.drainer_answered(result, now),
            Ended::Closed(result) => self.closed(result, now),
        }
    }

    /// The outcome, once there is one.
    fn ended(&mut self) -> Option<StepOutcome> {
        if self.outcome.is_none() {
            // Once the end is durable this runner takes its mark away itself, and
            // a look at the anchor that was under way finds none.
            if let (None, Some(cause)) = (&self.state.end, &self.barred) {
                return Some(self.interrupted(cause.clone()));
            }
            if self.shop.cx.cancel.is_cancelled() {
                return Some(self.interrupted(StopCause::Asked));
            }
        }
        self.outcome.clone()
    }

    fn now(&self) -> Moment {
        self.shop.cx.clock.now().max(self.last_at)
    }

    /// When something is due without anything happening.
    fn wake_at(&self) -> Option<Moment> {
        [
            self.steps.wake_at(),
            self.view.wake_at(),
            self.gate.wake_at(),
            self.holding.wake_at(),
            self.drains.wake_at(),
            self.upgrades.wake_at(),
            self.checks.wake_at(),
            self.preference.wake_at(),
            self.closing.wake_at(),
            self.outage_wake_at(),
            self.lifting.values().copied().min(),
            self.rollout_wake_at(),
        ]
        .into_iter()
        .flatten()
        // What was due and was left waits for something else.
        .filter(|at| *at > self.now())
        .min()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("run", &self.state.run)
            .field("journal", &self.place)
            .field("entries", &self.next_seq)
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}
