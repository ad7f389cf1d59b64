//! An API server that has just started.

use std::time::Duration;

use migrate_core::{Moment, StepContext, StepError, StepErrorKind};

use crate::Error;
use crate::state::RunState;

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

/// How calls are asked again while a run is opened.
pub(super) struct Patience<'a> {
    /// Who gives the time, and cancels.
    pub(super) cx: &'a StepContext,
    /// Between two attempts.
    pause: Duration,
    /// How long an API server that is out of reach is waited for.
    limit: Duration,
    /// The run that is to go on.
    unfinished: Option<Unfinished>,
    has_answered: bool,
    /// The first of its times out of reach.
    away: Option<Away>,
}

/// A run that is to go on, for who cannot.
pub(super) struct Unfinished {
    place: String,
    run: String,
    member: Option<String>,
}

impl Unfinished {
    pub(super) fn new(place: &str, state: &RunState) -> Self {
        Self {
            place: place.to_owned(),
            run: state.run.clone(),
            member: state.only_member_at_work(),
        }
    }
}

/// That the API server was out of reach.
pub(super) struct Away {
    /// When the first call that had no answer was made.
    pub(super) since: Moment,
    /// None had one before.
    pub(super) is_from_the_first: bool,
    /// What that call said.
    pub(super) error: String,
}

impl<'a> Patience<'a> {
    /// `limit` is how long an API server is waited for that is away; only a run that
    /// goes on waits, for a run is what makes API servers go away.
    pub(super) fn new(
        cx: &'a StepContext,
        pause: Duration,
        limit: Option<Duration>,
        unfinished: Option<Unfinished>,
    ) -> Self {
        Self {
            cx,
            pause,
            limit: limit.filter(|_| unfinished.is_some()).unwrap_or_default(),
            unfinished,
            has_answered: false,
            away: None,
        }
    }

    /// Asks again for as long as a refusal may pass and the API server, where it
    /// is away, may come back, or until the run is cancelled.
    ///
    /// # Errors
    /// The last one, as of [`given_up`](Self::given_up).
    pub(super) async fn ask<T, A>(&mut self, mut ask: impl FnMut() -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<T, StepError>>,
    {
        let cx = self.cx;
        let clock = &cx.clock;
        let began = clock.now();
        let comes_back_by = began + self.limit;
        let mut warm_up = WarmUp::default();
        loop {
            let asked_at = clock.now();
            let error = match ask().await {
                Ok(answer) => {
                    self.has_answered = true;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let now = clock.now();
            // Also one that takes calls and does not answer them.
            let is_away = error.is_retryable();
            if is_away {
                warm_up.is_over();
                self.away.get_or_insert_with(|| Away {
                    since: asked_at,
                    is_from_the_first: !self.has_answered,
                    error: error.to_string(),
                });
            } else {
                self.has_answered = true;
            }
            if !(is_away && now < comes_back_by || warm_up.may_pass(&error, now)) {
                return Err(self.given_up(error, began));
            }
            tokio::select! {
                () = cx.cancel.cancelled() => return Err(self.given_up(error, began)),
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    /// What `error` ends, which came of asking since `began`.
    pub(super) fn given_up(&self, error: StepError, began: Moment) -> Error {
        match &self.unfinished {
            Some(unfinished) if error.is_retryable() => Error::ApiAway {
                place: unfinished.place.clone(),
                run: unfinished.run.clone(),
                waited: self.cx.clock.now().since(began),
                member: unfinished.member.clone(),
                source: Box::new(error),
            },
            _ => Error::Cluster(error),
        }
    }

    /// Whether the API server was out of reach, and since when.
    pub(super) fn away(self) -> Option<Away> {
        self.away
    }
}
