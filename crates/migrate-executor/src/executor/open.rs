//! Opening: who the cluster is, whose run it is in, where that run stands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use migrate_core::{ClusterId, Fence, Moment, StepInput, content_hash};
use migrate_kube::RunMark;

use super::close::Closing;
use super::drain::DrainLink;
use super::gate::Gate;
use super::job::Workshop;
use super::resumption::Resumption;
use super::steps::Steps;
use super::upgrade::Upgrades;
use super::verify::Checks;
use super::view::View;
use super::waits::WaitBook;
use super::warm_up::once_warm;
use super::{Executor, StepOutcome};
use crate::access::AnchorState;
use crate::report::RunOutcome;
use crate::setup::Planned;
use crate::state::RunState;
use crate::{Entry, Error, Origin, Record, RunOpened, Setup};

/// What a journal holds, as far as it matters.
struct History {
    /// The last run; `None` in an empty journal.
    last: Option<RunState>,
    next_seq: u64,
    last_at: Moment,
}

impl Executor {
    /// Goes on with the run in the journal, or begins a new one. Nothing in
    /// the cluster is changed, except that the anchor of a run that is done is
    /// cleared if that was left undone. An API server that refuses, as one does
    /// for a moment after its start, is asked again for a minute.
    ///
    /// # Errors
    /// * [`Error::OtherCluster`], [`Error::PlanForOtherCluster`]: the journal or
    ///   the plan is for another cluster.
    /// * [`Error::OtherRun`]: the cluster is in the middle of a run that the
    ///   journal does not hold; [`Setup::adopt`] takes it over.
    /// * [`Error::OtherTarget`], [`Error::OtherPolicy`]: the unfinished run in
    ///   the journal is not the one that was planned.
    /// * [`Error::NothingPlanned`]: there is nothing to do.
    /// * [`Error::Cluster`]: the cluster does not answer, or refuses.
    /// * those of the journal.
    pub async fn open(setup: Setup) -> Result<Self, Error> {
        let Setup {
            access,
            migration,
            mut journal,
            mut context,
            planned,
            adopt,
            pace,
        } = setup;
        let place = journal.place();
        let history = History::read(&place, journal.load().await?)?;
        let (cx, pause) = (&context, pace.retry);
        let cluster = once_warm(cx, pause, || access.identity()).await?;
        history.is_for(&place, &cluster)?;
        let mut anchor = once_warm(cx, pause, || access.anchor()).await?;
        if let Some(last) = history.last.as_ref().filter(|last| last.is_over())
            && anchor.run.as_ref() == Some(&last.run)
        {
            once_warm(cx, pause, || access.clear(&last.run)).await?;
            anchor.run = None;
            anchor.journal = None;
        }
        let last = history.last.filter(|last| !last.is_over());
        let (mut next_seq, mut last_at) = (history.next_seq, history.last_at);
        let now = context.clock.now().max(last_at);
        let mut nothing_to_do = false;
        let mut state = match choose(
            last,
            &place,
            &cluster,
            &anchor,
            planned,
            adopt,
            &context.fence.run,
        )? {
            Choice::GoOn(state) => {
                if state.claimed && anchor.run.is_none() {
                    // Somebody removed the mark of an unfinished run.
                    let mark = mark_of(&state, &place);
                    once_warm(cx, pause, || access.claim(&mark)).await?;
                }
                *state
            }
            Choice::NothingToDo(opened) => {
                nothing_to_do = true;
                RunState::open(now, *opened)?
            }
            Choice::Begin(opened) => {
                // A plan that cannot be run leaves no trace.
                let state = RunState::open(now, RunOpened::clone(&opened))?;
                let entry = Entry::new(next_seq, now, Record::RunOpened(opened));
                journal.append(&entry).await?;
                next_seq += 1;
                last_at = now;
                state
            }
        };
        context.fence = Fence::new(state.run.clone(), context.fence.epoch);
        let input = StepInput::new(
            Arc::clone(&state.model),
            Arc::clone(&state.policy),
            state.plan.to.clone(),
        )
        .with_way_back(state.plan.way_back());
        let mut executor = Self {
            shop: Workshop {
                cx: context,
                input,
                migration,
                access,
                answer: pace.answer,
            },
            pace,
            journal,
            place,
            next_seq,
            last_at,
            inbox: VecDeque::new(),
            pending: None,
            jobs: FuturesUnordered::new(),
            steps: Steps::default(),
            view: View::default(),
            gate: Gate::default(),
            resumed: state.open.values().cloned().collect(),
            drains: DrainLink::new(),
            upgrades: Upgrades::default(),
            checks: Checks::default(),
            lifting: BTreeMap::new(),
            waits: WaitBook::default(),
            closing: Closing::default(),
            resumption: Resumption::new(state.reopen(), anchor.paused),
            barred: None,
            outcome: None,
            state,
        };
        if !anchor.paused {
            executor.lift();
        }
        if nothing_to_do {
            let report = executor.report_of(RunOutcome::NothingToDo, None);
            executor.outcome = Some(StepOutcome::Done(Box::new(report)));
        }
        Ok(executor)
    }
}

impl History {
    /// Folds the entries of the last run.
    fn read(place: &str, entries: Vec<Entry>) -> Result<Self, Error> {
        let mut history = Self {
            last: None,
            next_seq: entries.len() as u64,
            last_at: entries.last().map_or(Moment::EPOCH, |entry| entry.at),
        };
        let is_opening = |entry: &Entry| matches!(entry.record, Record::RunOpened(_));
        let begin = entries
            .iter()
            .rposition(is_opening)
            .unwrap_or(entries.len());
        for entry in entries.into_iter().skip(begin) {
            match (entry.record, &mut history.last) {
                (Record::RunOpened(opened), last) => {
                    *last = Some(RunState::open(entry.at, *opened)?);
                }
                (record, Some(state)) => {
                    state.apply(place, Entry { record, ..entry })?;
                }
                (_, None) => {}
            }
        }
        Ok(history)
    }

    fn is_for(&self, place: &str, cluster: &ClusterId) -> Result<(), Error> {
        match &self.last {
            Some(last) if last.cluster != *cluster => Err(Error::OtherCluster {
                place: place.to_owned(),
                run: last.run.clone(),
                journal: last.cluster.clone(),
                cluster: cluster.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// What to do with what was found.
enum Choice {
    /// Go on with the run in the journal.
    GoOn(Box<RunState>),
    /// Begin a new run.
    Begin(Box<RunOpened>),
    /// A new run would have nothing to do: write nothing.
    NothingToDo(Box<RunOpened>),
}

/// Chooses between the unfinished run in the journal, if there is one, and a
/// new one. To adopt is the way out of a disagreement and changes nothing
/// where there is none.
fn choose(
    unfinished: Option<RunState>,
    place: &str,
    cluster: &ClusterId,
    anchor: &AnchorState,
    planned: Option<Planned>,
    adopt: bool,
    run: &str,
) -> Result<Choice, Error> {
    let disagreement = match &unfinished {
        Some(state) => anchor_of_another(anchor, &state.run, place).or_else(|| {
            planned
                .as_ref()
                .and_then(|planned| differs(state, place, planned))
        }),
        None => anchor.run.as_ref().map(|run| other_run(run, anchor, place)),
    };
    let old_run = match (disagreement, unfinished) {
        (Some(error), _) if !adopt => return Err(error),
        (None, Some(state)) => return Ok(Choice::GoOn(Box::new(state))),
        (_, unfinished) => anchor
            .run
            .clone()
            .or_else(|| unfinished.map(|state| state.run)),
    };
    let Some(planned) = planned else {
        return Err(Error::NothingPlanned {
            place: place.to_owned(),
        });
    };
    if planned.plan.cluster != *cluster {
        return Err(Error::PlanForOtherCluster {
            plan: planned.plan.id,
            planned: planned.plan.cluster,
            cluster: cluster.clone(),
        });
    }
    let is_empty = planned.plan.is_empty();
    let opened = Box::new(RunOpened::new(
        // An adopted run keeps its id, and so its cordons.
        old_run.unwrap_or_else(|| run.to_owned()),
        if adopt {
            Origin::Adopted
        } else {
            Origin::Fresh
        },
        planned.plan,
        planned.policy,
        planned.model,
    ));
    Ok(if is_empty && !adopt {
        Choice::NothingToDo(opened)
    } else {
        Choice::Begin(opened)
    })
}

/// The error if the cluster names another run than `run`, or another journal.
fn anchor_of_another(anchor: &AnchorState, run: &str, place: &str) -> Option<Error> {
    let named = anchor.run.as_ref()?;
    let same = named == run && anchor.journal.as_deref() == Some(place);
    (!same).then(|| other_run(named, anchor, place))
}

fn other_run(run: &str, anchor: &AnchorState, place: &str) -> Error {
    Error::OtherRun {
        run: run.to_owned(),
        journal: anchor.journal.clone().unwrap_or_default(),
        place: place.to_owned(),
    }
}

/// The error if `planned` is not what the unfinished run was about. The plan
/// itself may differ: made from the cluster as it is now, it must.
fn differs(state: &RunState, place: &str, planned: &Planned) -> Option<Error> {
    if planned.plan.to != state.plan.to {
        return Some(Error::OtherTarget {
            place: place.to_owned(),
            run: state.run.clone(),
            journal: Box::new(state.plan.to.clone()),
            given: Box::new(planned.plan.to.clone()),
        });
    }
    let (journal, given) = (content_hash(&*state.policy), content_hash(&planned.policy));
    (journal != given).then(|| Error::OtherPolicy {
        place: place.to_owned(),
        run: state.run.clone(),
        journal,
        given,
    })
}

pub(super) fn mark_of(state: &RunState, place: &str) -> RunMark {
    RunMark::new(&state.run, place, &state.plan.id)
}
