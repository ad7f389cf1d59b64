//! Waiting for a condition, with a deadline and a reason.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

/// Time between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Waits until `check` says `Ok(true)`, looking ten times a second.
///
/// An `Err` of `check` means "not yet" and is shown when the time is up, so
/// that `check` may simply pass on refused connections.
///
/// # Errors
/// [`Error::Timeout`] after `within`.
pub async fn eventually<C, F, E>(what: &str, within: Duration, mut check: C) -> Result<(), Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<bool, E>>,
    E: Display,
{
    let deadline = Instant::now() + within;
    let mut last = "no answer".to_owned();
    loop {
        last = match tokio::time::timeout_at(deadline, check()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => "not yet true".to_owned(),
            Ok(Err(error)) => error.to_string(),
            // What the look before this one saw says more.
            Err(_) => last,
        };
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                what: what.to_owned(),
                within,
                last,
            });
        }
        sleep(PAUSE).await;
    }
}
