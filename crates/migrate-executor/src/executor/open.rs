//! Opening: who the cluster is, whose run it is in, where that run stands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use migrate_core::{
    ClusterId, Fence, Migration, Moment, ObjectName, Plan, PlannedPool, PlannedTask, StepError,
    StepErrorKind, StepInput, Target,
};
use migrate_kube::{Claim, Holder, RunMark};
use tokio::time::{Instant, sleep_until};

use super::ahead::not_before;
use super::drain::DrainLink;
use super::gate::Gate;
use super::holding::Holding;
use super::job::Workshop;
use super::looks::Looks;
use super::outage::OutageWatch;
use super::preference::Preference;
use super::resumption::Resumption;
use super::steps::Steps;
use super::tries::Tries;
use super::upgrade::Upgrades;
use super::verify::Checks;
use super::view::View;
use super::waits::WaitBook;
use super::warm_up::{Patience, Unfinished};
use super::{Executor, StepOutcome};
use crate::access::{AnchorState, ClusterAccess};
use crate::report::RunOutcome;
use crate::setup::Planned;
use crate::state::RunState;
use crate::{Entry, Error, Origin, Pace, Record, RunOpened, Setup};

/// What a journal holds, as far as it matters.
struct History {
    /// The last run; `None` in an empty journal.
    last: Option<RunState>,
    /// The highest epoch that any of its runs has taken.
    epoch: u64,
    next_seq: u64,
    last_at: Moment,
}

impl Executor {
    /// Goes on with the run in the journal, or begins a new one. Of the cluster
    /// only the anchor is changed: a run that goes on takes its next epoch there,
    /// and one that is done is cleared if that was left undone.
    ///
    /// Answers soon, except where it adopts a run that somebody may hold: then it
    /// watches for as long as that holder's Lease lasts. An API server that refuses, as one
    /// does for a moment after its start, is asked again for a minute, and one that is
    /// away for as long as [`Setup::patience`] says.
    ///
    /// # Errors
    /// * [`Error::OtherCluster`], [`Error::PlanForOtherCluster`]: the journal or
    ///   the plan is for another cluster.
    /// * [`Error::OtherRun`]: the cluster is in the middle of a run that the
    ///   journal does not hold; [`Setup::adopt`] takes it over.
    /// * [`Error::Held`]: another runner holds the run, and renews its Lease where
    ///   it was to be adopted.
    /// * [`Error::ApiOlder`]: the API was restored from a backup.
    /// * [`Error::OtherTarget`], [`Error::OtherPolicy`]: the unfinished run in
    ///   the journal is not the one that was planned.
    /// * [`Error::NoAddonDriver`]: nothing upgrades the addons of the plan.
    /// * [`Error::NoSurge`]: the plan has nodes go behind replacements, which nothing makes.
    /// * [`Error::NothingPlanned`], [`Error::NothingToAbort`]: there is nothing to do.
    /// * [`Error::ApiAway`]: the cluster does not answer, and an unfinished run is to go on.
    /// * [`Error::Cluster`]: the cluster does not answer, or refuses.
    /// * those of the journal.
    pub async fn open(setup: Setup) -> Result<Self, Error> {
        let Setup {
            access,
            migration,
            mut journal,
            mut context,
            planned,
            forecast,
            adopt,
            abort,
            own_pod,
            patience,
            pace,
        } = setup;
        let adopt = adopt && !abort;
        let planned = planned.filter(|_| !abort);
        let place = journal.place();
        let history = History::read(&place, journal.load().await?)?;
        context.clock = not_before(history.last_at, context.clock);
        let unfinished = history.last.as_ref().filter(|last| !last.is_over());
        let unfinished = unfinished.map(|last| Unfinished::new(&place, last));
        let mut patient = Patience::new(&context, pace.retry, patience, unfinished);
        let cluster = patient.ask(|| access.identity()).await?;
        history.is_for(&place, &cluster)?;
        let mut anchor = patient.ask(|| access.anchor()).await?;
        if let Some(last) = history.last.as_ref().filter(|last| last.is_over())
            && anchor.run.as_ref() == Some(&last.run)
            && anchor.epoch == last.epoch
        {
            let fence = Fence::new(&last.run, last.epoch);
            patient.ask(|| access.clear(&fence)).await?;
            anchor.run = None;
            anchor.journal = None;
            anchor.holder = None;
        }
        let last = history.last.filter(|last| !last.is_over());
        let (mut next_seq, mut last_at) = (history.next_seq, history.last_at);
        let now = context.clock.now();
        let mut nothing_to_do = false;
        let choice = choose(
            last,
            &place,
            &cluster,
            &anchor,
            planned,
            adopt,
            &context.fence.run,
        )
        .map_err(|error| match error {
            Error::NothingPlanned { place } if abort => Error::NothingToAbort { place },
            error => error,
        })?;
        needs_addons(&choice, &migration)?;
        needs_no_surge(&choice)?;
        let rival = anchor.holder.take_if(|holder| {
            holder.identity != place && !matches!(choice, Choice::NothingToDo(_))
        });
        let lapsed = match rival {
            Some(rival) if adopt => watch(&*access, &place, rival, &patient, &pace).await?,
            Some(rival) => {
                return Err(Error::Held {
                    holder: rival.identity,
                });
            }
            None => None,
        };
        let mut epoch = history.epoch.max(anchor.epoch);
        let mut lost = None;
        let mut state = match choice {
            Choice::GoOn(mut state) => {
                lost = state.outages.lost.clone();
                if state.claimed {
                    let claim = Claim::new(mark_of(&state, &place), pace.lease);
                    let claim = claim.with_floor(epoch).with_lapsed(lapsed.clone());
                    epoch = patient
                        .ask(|| access.claim(&claim, context.clock.now()))
                        .await?;
                    let entry = Entry::new(next_seq, now, Record::EpochTaken { epoch });
                    journal.append(&entry).await?;
                    state.apply(&place, entry)?;
                    next_seq += 1;
                    last_at = now;
                }
                *state
            }
            Choice::NothingToDo(opened) => {
                nothing_to_do = true;
                RunState::open(now, *opened)?
            }
            Choice::Begin(mut opened) => {
                opened.forecast = forecast;
                // A plan that cannot be run leaves no trace.
                let state = RunState::open(now, RunOpened::clone(&opened))?;
                let entry = Entry::new(next_seq, now, Record::RunOpened(opened));
                journal.append(&entry).await?;
                next_seq += 1;
                last_at = now;
                state
            }
        };
        let mut inbox = VecDeque::new();
        if let Some((namespace, name)) = own_pod.as_ref().filter(|_| !nothing_to_do) {
            let node = patient.ask(|| access.node_of_pod(namespace, name)).await?;
            // No runner comes from nowhere: where nothing is known, the plan is
            // right.
            let news = node.and_then(|node| state.runner_on(Some(node)));
            inbox.extend(news.map(|input| Record::Input { input }));
        }
        // Before the run has claimed the cluster nothing is counted.
        let away = patient.away().filter(|_| state.claimed);
        context.fence = Fence::new(state.run.clone(), epoch);
        let mut holding = Holding::new(pace.lease, lapsed);
        if state.claimed {
            holding.renewed(now);
        }
        let input = StepInput::new(
            Arc::clone(&state.model),
            Arc::clone(&state.policy),
            state.plan.to.clone(),
        )
        .with_way_back(state.plan.way_back());
        let checks = Checks::new(&migration);
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
            inbox,
            pending: None,
            jobs: FuturesUnordered::new(),
            steps: Steps::default(),
            view: View::default(),
            gate: Gate::default(),
            holding,
            resumed: state.open.values().cloned().collect(),
            looks: Looks::new(&state.open),
            drains: DrainLink::new(),
            upgrades: Upgrades::default(),
            checks,
            lifting: BTreeMap::new(),
            waits: WaitBook::default(),
            preference: Preference::default(),
            closing: Tries::default(),
            resumption: Resumption::new(state.reopen(), anchor.paused),
            to_abort: abort,
            own_pod,
            outage: OutageWatch::default(),
            barred: None,
            outcome: None,
            state,
        };
        if let Some(away) = away {
            executor.was_away(away, lost);
        }
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
            epoch: 0,
            next_seq: entries.len() as u64,
            last_at: entries.last().map_or(Moment::EPOCH, |entry| entry.at),
        };
        for entry in &entries {
            if let Record::EpochTaken { epoch } = entry.record {
                history.epoch = history.epoch.max(epoch);
            }
        }
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

/// The state of the last run of the journal at `place`, whose entries these are.
pub(crate) fn last_run(place: &str, entries: Vec<Entry>) -> Result<Option<RunState>, Error> {
    Ok(History::read(place, entries)?.last)
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

impl Choice {
    fn plan(&self) -> &Plan {
        match self {
            Self::GoOn(state) => state.plan.as_ref(),
            Self::Begin(opened) | Self::NothingToDo(opened) => &opened.plan,
        }
    }
}

/// The error if the plan has nodes go behind replacements: the executor knows no driver
/// that makes machines.
fn needs_no_surge(choice: &Choice) -> Result<(), Error> {
    let plan = choice.plan();
    let is_used = |pool: &&PlannedPool| {
        let mut slots = plan.slots.iter();
        pool.surge > 0 && slots.any(|slot| slot.pool == pool.name)
    };
    match plan.pools.iter().find(is_used) {
        None => Ok(()),
        Some(pool) => Err(Error::NoSurge {
            pool: pool.name.clone(),
            surge: pool.surge,
        }),
    }
}

/// The error if the plan has addons and nothing upgrades them.
fn needs_addons(choice: &Choice, migration: &Migration) -> Result<(), Error> {
    let mut tasks = choice.plan().tasks.iter();
    let is_addon = |task: &&PlannedTask| matches!(task.target, Target::Addon { .. });
    match tasks.find(is_addon) {
        Some(task) if migration.addons.is_none() => Err(Error::NoAddonDriver {
            addon: task.target.name().to_owned(),
        }),
        _ => Ok(()),
    }
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
        Some(state) => older(anchor, state, place)
            .or_else(|| anchor_of_another(anchor, &state.run, place))
            .or_else(|| {
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

/// The error if the anchor is as it was before this run took its last epoch.
fn older(anchor: &AnchorState, state: &RunState, place: &str) -> Option<Error> {
    (anchor.epoch < state.epoch).then(|| Error::ApiOlder {
        place: place.to_owned(),
        run: state.run.clone(),
        taken: state.epoch,
        found: anchor.epoch,
    })
}

/// Watches whether `rival` renews its Lease, for as long as that lasts; gives it
/// if it did not, and nothing if it has let go. A read that fails tells nothing, and is
/// made up for, for as long again.
async fn watch(
    access: &dyn ClusterAccess,
    place: &str,
    rival: Holder,
    patient: &Patience<'_>,
    pace: &Pace,
) -> Result<Option<Holder>, Error> {
    let cx = patient.cx;
    let began = cx.clock.now();
    let until = Instant::now() + rival.lasts;
    loop {
        let now = Instant::now();
        let soon = now + pace.retry;
        let next = if now < until { until.min(soon) } else { soon };
        tokio::select! {
            () = cx.cancel.cancelled() => {
                let lease = ObjectName::namespaced("Lease", "kube-system", "kube-migrate");
                let message = "asked to leave off while its holder was watched; adopt the run again";
                return Err(StepError::new(StepErrorKind::Cancelled, lease, message).into());
            }
            () = sleep_until(next) => {}
        }
        let seen = match access.anchor().await {
            Err(error) if error.is_retryable() && next < until + rival.lasts => {
                continue;
            }
            Err(error) => return Err(patient.given_up(error, began)),
            Ok(seen) => seen.holder,
        };
        match seen {
            Some(holder) if holder == rival && next >= until => return Ok(Some(rival)),
            Some(holder) if holder == rival => {}
            Some(holder) if holder.identity != place => {
                return Err(Error::Held {
                    holder: holder.identity,
                });
            }
            _ => return Ok(None),
        }
    }
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
    let (journal, given) = (state.policy.identity(), planned.policy.identity());
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
