//! Waiting for an API server that is away, as it is while it is upgraded.

use std::path::Path;
use std::time::Duration;

use migrate_core::{Cancellation, Clock, StepError, StepErrorKind};

use crate::account::Account;
use crate::failure::Failure;
use crate::progress::human;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a refusal may pass: an API server that has just started refuses what
/// it allowed before until its authorizer has caught up.
const WARMS_UP: Duration = Duration::from_secs(60);
/// Between two lines that say that it still waits.
const SAY: Duration = Duration::from_secs(30);

/// How the API server of a run that goes on is asked.
pub(crate) struct Patience<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) cancel: &'a Cancellation,
    /// How long it is waited for at each call; `None` is not at all.
    pub(crate) limit: Option<Duration>,
}

/// An error of which waiting may be the cure.
pub(crate) trait MayPass: std::error::Error {
    /// The API server is out of reach or busy.
    fn is_away(&self) -> bool;
    /// It does not allow it.
    fn is_refusal(&self) -> bool;
}

impl MayPass for migrate_kube::Error {
    fn is_away(&self) -> bool {
        self.is_retryable()
    }

    fn is_refusal(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }
}

impl MayPass for StepError {
    fn is_away(&self) -> bool {
        self.is_retryable()
    }

    fn is_refusal(&self) -> bool {
        self.kind == StepErrorKind::Forbidden
    }
}

impl Patience<'_> {
    /// Asks until there is an answer: an API server that is out of reach is waited
    /// for, and one that has just started.
    pub(crate) async fn ask<T, E, A>(&self, mut ask: impl FnMut() -> A) -> Result<T, Failure>
    where
        E: MayPass,
        A: Future<Output = Result<T, E>>,
    {
        let began = self.clock.now();
        let mut say_at = began;
        let mut refused_since = None;
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let now = self.clock.now();
            let waited = now.since(began);
            let may_pass = if error.is_refusal() {
                now < *refused_since.get_or_insert(now) + WARMS_UP
            } else {
                refused_since = None;
                error.is_away()
            };
            let Some(limit) = self.limit.filter(|_| may_pass) else {
                return Err(error.into());
            };
            if waited >= limit {
                return Err(gave_up(&error, waited));
            }
            if now >= say_at {
                say_at = now + SAY;
                eprintln!(
                    "{error}; an unfinished run is to go on: waiting, {} of at most {}",
                    human(waited),
                    human(limit)
                );
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(gave_up(&error, waited)),
                () = tokio::time::sleep(PAUSE.min(limit)) => {}
            }
        }
    }
}

fn gave_up(error: &dyn std::error::Error, waited: Duration) -> Failure {
    Failure::plain(format!(
        "{error}; waited {} to go on with the unfinished run, which is as it was: the same command \
         goes on with it later, --wait says for how long it waits. If the only control-plane member \
         was being upgraded, that may have left no API server: bring it back by hand first \
         (docs/kubeadm.md, \"A manifest that was lost\")",
        human(waited)
    ))
}

/// Whether one of these journals holds a run that the same command goes on with.
/// One that cannot be read is nobody's business here: whoever opens it says why.
pub(crate) fn is_unfinished<'a>(journals: impl IntoIterator<Item = &'a Path>) -> bool {
    journals
        .into_iter()
        .filter_map(|path| Account::read(path).ok().flatten())
        .any(|account| account.is_unfinished())
}

/// `90s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("give a number with s, m or h, as in 5m".to_owned()),
    };
    let number: u32 = number.parse().map_err(|error| format!("{error}"))?;
    Ok(Duration::from_secs(seconds * u64::from(number)))
}
