//! Where a run stands, to be forecast by whoever wants to know when it ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use migrate_core::cost::Draws;
use migrate_core::{Action, ClusterModel, Moment, Phase, Plan, Policy, Target};
use migrate_plan::{
    Beliefs, Change, Forecast, Forecaster, LiveWhatIf, Quantiles, Rollout, TargetState,
};

use crate::executor::last_run;
use crate::state::RunState;
use crate::{Entry, Error, longest_silence};

/// What has begun, when, and, if it has ended, when and whether well.
type Span = (Moment, Option<(Moment, bool)>, Target, Phase);

/// A copy of all that says when a run ends: what it began with, where its rollout
/// stands, and what its actions took so far.
///
/// It is owned and takes no part in the run, so that forecasts are made beside it, on
/// another thread. Making it copies no model.
#[derive(Clone, Debug)]
pub struct Standpoint {
    plan: Arc<Plan>,
    policy: Arc<Policy>,
    model: Arc<ClusterModel>,
    rollout: Rollout,
    /// In the order of their beginnings.
    spans: Vec<Span>,
    /// The rollout goes on by itself.
    goes_on: bool,
    /// Of a journal: when it was last written.
    last: Option<Moment>,
    at_start: Option<Quantiles>,
}

impl Standpoint {
    /// Of the last run in the journal at `place`; `None` if it has none.
    ///
    /// # Errors
    /// As [`Executor::open`](crate::Executor::open) has for a journal that says what
    /// this program does not understand.
    pub fn of(place: &str, entries: Vec<Entry>) -> Result<Option<Self>, Error> {
        let last = entries.last().map(|entry| entry.at);
        let state = last_run(place, entries)?;
        Ok(state.map(|state| Self {
            last,
            ..Self::new(&state)
        }))
    }

    pub(crate) fn new(state: &RunState) -> Self {
        let standings = state.rollout.standings();
        let in_work = standings.iter().filter_map(|it| match it.state {
            TargetState::InWork { phase } => Some((state.planned(&it.target).clone(), phase)),
            _ => None,
        });
        let in_work: BTreeSet<(Target, Phase)> = in_work.collect();
        let spans = state.spans.iter().filter_map(|(of, span)| {
            let end = match span.end {
                // It is to be tried once more.
                Some(_) if !span.passed && in_work.contains(of) => None,
                end => end.map(|at| (at, span.passed)),
            };
            // What nobody is at and has no end is not waited for.
            let counts = end.is_some() || in_work.contains(of);
            counts.then(|| (span.begin, end, of.0.clone(), of.1))
        });
        let mut spans: Vec<_> = spans.collect();
        spans.sort();
        let is_at_rest = state.paused || state.stop.is_some() || state.aborting || state.finished;
        Self {
            plan: Arc::clone(&state.plan),
            policy: Arc::clone(&state.policy),
            model: Arc::clone(&state.model),
            rollout: state.rollout.clone(),
            spans,
            goes_on: state.started_at.is_some() && !is_at_rest && state.end.is_none(),
            last: None,
            at_start: state.forecast,
        }
    }

    /// What was forecast before the start, if anybody did
    /// ([`Setup::with_forecast`](crate::Setup::with_forecast)).
    pub const fn at_start(&self) -> Option<Quantiles> {
        self.at_start
    }

    /// When the rollout ends, as it looks at `now`, by so many samples as
    /// [`Forecaster::samples`] says: its last action, without the last verification
    /// of the whole.
    ///
    /// `None` where that cannot be said: before its first action and after its last,
    /// while it is paused, stopped or aborted, where a target waits for something
    /// that nobody knows the end of, and where a journal has been silent for longer than
    /// any action may take: nobody runs it then, or it waits for its window. Pure: the same for the same draws.
    ///
    /// A `now` before a journal's last entry is of a clock that is behind that of the run:
    /// the time of that entry is taken in its place ([`seen_at`](Self::seen_at)).
    ///
    /// # Errors
    /// [`Error::Plan`] where the plan does not fit its model, which no executor writes.
    pub fn forecast(
        &self,
        now: Moment,
        beliefs: &Beliefs,
        draws: &Draws,
    ) -> Result<Option<Forecast>, Error> {
        let now = self.seen_at(now);
        if !self.is_foreseeable(now) {
            return Ok(None);
        }
        let forecaster = self.forecaster(beliefs)?;
        let forecast = forecaster.at(now, &self.rollout, draws, forecaster.samples());
        Ok((forecast.unended == 0).then_some(forecast))
    }

    /// When the rollout ends as things are, and when with `change` from `now` on: clones of
    /// the live rollout, run ahead by the same draws. The run itself is not changed, and what
    /// would have to be done for it is not either.
    ///
    /// `None` where [`forecast`](Self::forecast) says nothing.
    ///
    /// # Errors
    /// [`Error::WhatIf`] with what [`Forecaster::what_if`] refuses; else as
    /// [`forecast`](Self::forecast).
    pub fn what_if(
        &self,
        now: Moment,
        change: &Change,
        beliefs: &Beliefs,
        draws: &Draws,
    ) -> Result<Option<LiveWhatIf>, Error> {
        let now = self.seen_at(now);
        if !self.is_foreseeable(now) {
            return Ok(None);
        }
        let forecaster = self.forecaster(beliefs)?;
        let samples = forecaster.samples();
        let what_if = forecaster.what_if(now, &self.rollout, change, draws, samples);
        let what_if = what_if.map_err(Error::WhatIf)?;
        let has_end = what_if.before.unended == 0 && what_if.after.unended == 0;
        Ok(has_end.then_some(what_if))
    }

    /// The moment that is looked from at `now`: no earlier than what is known was written.
    #[must_use]
    pub fn seen_at(&self, now: Moment) -> Moment {
        self.last.map_or(now, |last| last.max(now))
    }

    /// Whether somebody goes on with it by himself.
    fn is_foreseeable(&self, now: Moment) -> bool {
        let longest = longest_silence(&self.policy);
        self.goes_on && self.last.is_none_or(|last| now <= last + longest)
    }

    /// Told all that began and ended.
    fn forecaster(&self, beliefs: &Beliefs) -> Result<Forecaster<'_>, Error> {
        let mut forecaster = Forecaster::new(&self.model, &self.policy, &self.plan, beliefs)?;
        for (begin, end, target, phase) in &self.spans {
            let (from, to) = (self.plan.from.clone(), self.plan.to_of(target).clone());
            let action = Action::new(&self.plan.id, target.clone(), *phase, from, to);
            forecaster.began(*begin, &action);
            if let Some((end, passed)) = end {
                forecaster.ended(*end, &action, *passed);
            }
        }
        Ok(forecaster)
    }
}
