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

/// Asks again, every `pause`, for as long as a refusal may pass or until the
/// run is cancelled.
///
/// # Errors
/// The last one.
pub(super) async fn once_warm<T, A>(
    cx: &StepContext,
    pause: Duration,
    mut ask: impl FnMut() -> A,
) -> Result<T, StepError>
where
    A: Future<Output = Result<T, StepError>>,
{
    let mut warm_up = WarmUp::default();
    loop {
        let error = match ask().await {
            Err(error) if warm_up.may_pass(&error, cx.clock.now()) => error,
            answer => return answer,
        };
        tokio::select! {
            () = cx.cancel.cancelled() => return Err(error),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
