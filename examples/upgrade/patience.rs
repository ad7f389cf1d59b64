//! Waiting for an API server that is away, as it is while it is upgraded.

use std::path::Path;
use std::time::Duration;

use migrate_core::{Cancellation, Clock, ClusterModel};
use migrate_kube::{Error, observe};

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

/// Observes the cluster; for a run that goes on, an API server that is out of
/// reach is waited for, for `patience` at the longest, and one that has just
/// started.
pub(crate) async fn observed(
    client: &kube::Client,
    clock: &dyn Clock,
    cancel: &Cancellation,
    patience: Option<Duration>,
) -> Result<ClusterModel, Failure> {
    let began = clock.now();
    let mut say_at = began;
    let mut refused_since = None;
    loop {
        let error = match observe(client, clock.now()).await {
            Ok(model) => return Ok(model),
            Err(error) => error,
        };
        let now = clock.now();
        let waited = now.since(began);
        let may_pass = if matches!(error, Error::Forbidden { .. }) {
            now < *refused_since.get_or_insert(now) + WARMS_UP
        } else {
            refused_since = None;
            error.is_retryable()
        };
        let Some(patience) = patience.filter(|_| may_pass) else {
            return Err(error.into());
        };
        if waited >= patience {
            return Err(gave_up(&error, waited));
        }
        if now >= say_at {
            say_at = now + SAY;
            eprintln!(
                "{error}; an unfinished run is to go on: waiting, {} of at most {}",
                human(waited),
                human(patience)
            );
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(gave_up(&error, waited)),
            () = tokio::time::sleep(PAUSE.min(patience)) => {}
        }
    }
}

fn gave_up(error: &Error, waited: Duration) -> Failure {
    Failure::plain(format!(
        "{error}; waited {} to go on with the unfinished run, which is as it was: the same command \
         goes on with it later, --wait says for how long it waits",
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
