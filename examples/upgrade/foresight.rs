//! When the run ends, and how far to trust that: before the start, and on the way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use migrate_core::cost::Draws;
use migrate_core::{ClusterModel, Moment, Plan};
use migrate_executor::{Executor, FileJournal, Standpoint};
use migrate_plan::{Beliefs, Forecast, Forecaster, History, Measured, Quantiles};
use serde::Serialize;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::failure::Failure;
use crate::progress::Progress;
use crate::run::Environment;

/// The same draws each time, so that two forecasts differ by what is known.
pub(crate) const DRAWS: Draws = Draws::new(1);
/// Between two looks ahead.
const EVERY: Duration = Duration::from_secs(60);

/// What is believed of durations: by public figures, and by earlier runs where there are
/// any.
pub(crate) fn beliefs(measured: Option<&Measured>, history: Option<&History>) -> Beliefs {
    match (measured, history) {
        (Some(measured), _) => Beliefs::measured(measured),
        (None, Some(history)) => Beliefs::learned(history),
        (None, None) => Beliefs::default(),
    }
}

/// What is forecast of a plan; nothing of one that is empty, or in which something can
/// never begin.
pub(crate) fn of_plan(
    env: &Environment,
    model: &ClusterModel,
    plan: &Plan,
) -> Result<Option<Quantiles>, Failure> {
    let forecast = Forecaster::of_plan(model, &env.policy, plan, &env.beliefs, &DRAWS)?;
    Ok(forecast.map(|forecast| forecast.makespan))
}

/// When the nodes of a run are done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ends {
    /// When this was said.
    at: Moment,
    p50: Moment,
    p80: Moment,
    p95: Moment,
    /// On track, or how late and why.
    outlook: String,
}

impl Ends {
    pub(crate) fn new(at: Moment, forecast: &Forecast) -> Self {
        let Quantiles { p50, p80, p95, .. } = forecast.makespan;
        let [p50, p80, p95] = [p50, p80, p95].map(|after| forecast.start + after);
        let outlook = forecast.outlook().to_string();
        Self {
            at,
            p50,
            p80,
            p95,
            outlook,
        }
    }

    /// Of the last run in the journal at `path`; nothing of one that does not go on.
    pub(crate) fn of_journal(
        path: &Path,
        now: Moment,
        beliefs: &Beliefs,
    ) -> Result<Option<Self>, Failure> {
        let entries = FileJournal::read(path)?;
        let Some(standpoint) = Standpoint::of(&path.display().to_string(), entries)? else {
            return Ok(None);
        };
        let now = standpoint.seen_at(now);
        let forecast = standpoint.forecast(now, beliefs, &DRAWS)?;
        Ok(forecast.map(|forecast| Self::new(now, &forecast)))
    }

    /// `14:05 (P50) … 14:20 (P95) UTC`; of another day than when it is said, with the date.
    pub(crate) fn when(&self) -> String {
        let today = self.at.to_string();
        let time = |moment: Moment| {
            let text = moment.to_string();
            let (day, time) = text.split_once('T').unwrap_or_default();
            let minutes = time.get(..5).unwrap_or(time);
            match today.starts_with(day) {
                true => minutes.to_owned(),
                false => format!("{day} {minutes}"),
            }
        };
        let (p50, p95) = (time(self.p50), time(self.p95));
        format!("{p50} (P50) … {p95} (P95) UTC")
    }
}

/// `14:05 (P50) … 14:20 (P95) UTC, on track`.
impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.when(), self.outlook)
    }
}

/// Looks ahead now and then while a run goes on, on another thread: no step waits for
/// it.
pub(crate) struct Lookout {
    beliefs: Arc<Beliefs>,
    due: Moment,
    /// Asked when, and who is at it.
    pending: Option<(Moment, JoinHandle<Option<Ends>>)>,
}

impl Lookout {
    pub(crate) fn new(beliefs: Beliefs, now: Moment) -> Self {
        Self {
            beliefs: Arc::new(beliefs),
            due: now + EVERY,
            pending: None,
        }
    }

    /// Shows what was found out, or asks once more. What was asked at this very
    /// moment is shown at a later one: a virtual clock stands still until the answer is
    /// there, so that equal runs say the same.
    pub(crate) async fn look(&mut self, executor: &Executor, now: Moment, progress: &Progress) {
        let is_there =
            |(asked, task): &mut (Moment, JoinHandle<_>)| *asked < now && task.is_finished();
        if let Some((_, task)) = self.pending.take_if(is_there) {
            // One that panicked has said so itself, and the run goes on.
            progress.ends(now, task.await.ok().flatten().as_ref());
        }
        if self.pending.is_none() && self.due <= now {
            self.due = now + EVERY;
            let (standpoint, beliefs) = (executor.standpoint(), Arc::clone(&self.beliefs));
            let task = spawn_blocking(move || {
                let forecast = standpoint.forecast(now, &beliefs, &DRAWS).ok().flatten()?;
                Some(Ends::new(now, &forecast))
            });
            self.pending = Some((now, task));
        }
    }
}
