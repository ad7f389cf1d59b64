//! An API server that has just started.

use std::time::Duration;

use migrate_core::{Moment, StepContext, StepError, StepErrorKind};

/// How long a refusal may pass. An API server that has just started refuses
/// what it allowed before until its authorizer has caught up, and a run is what
/// makes API servers start.
const AUTHORIZER_WARMS_UP: Duration = Duration::from_secs(60);

/// Tells a refusal that may pass from one that stays.
#[derive(Default)]
pub(super) struct WarmUp {
    refused_since: Option<Moment>,
}

impl WarmUp {
    /// Whether `error` is a refusal that asking again may cure.
    pub(super) fn may_pass(&mut self, error: &StepError, now: Moment) -> bool {
        if error.kind != StepErrorKind::Forbidden {
            return false;
        }
        let since = *self.refused_since.get_or_insert(now);
        now < since + AUTHORIZER_WARMS_UP
    }

    /// It has answered: the next refusal is new.
    pub(super) fn is_over(&mut self) {
        self.refused_since = None;
    }
}

/// How a call is asked again while a run is opened.
pub(super) struct Patience<'a> {
    /// Who gives the time, and cancels.
    pub(super) cx: &'a StepContext,
    /// Between two attempts.
    pub(super) pause: Duration,
    /// How long an API server that is out of reach is waited for.
    pub(super) limit: Duration,
}

impl Patience<'_> {
    /// Asks again for as long as a refusal may pass and the API server, where it
    /// is away, may come back, or until the run is cancelled.
    ///
    /// # Errors
    /// The last one.
    pub(super) async fn ask<T, A>(&self, mut ask: impl FnMut() -> A) -> Result<T, StepError>
    where
        A: Future<Output = Result<T, StepError>>,
    {
        let clock = &self.cx.clock;
        let comes_back_by = clock.now() + self.limit;
        let mut warm_up = WarmUp::default();
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let now = clock.now();
            // Also one that takes calls and does not answer them.
            let is_away = error.is_retryable();
            if is_away {
                warm_up.is_over();
            }
            if !(is_away && now < comes_back_by || warm_up.may_pass(&error, now)) {
                return Err(error);
            }
            tokio::select! {
                () = self.cx.cancel.cancelled() => return Err(error),
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }
}
