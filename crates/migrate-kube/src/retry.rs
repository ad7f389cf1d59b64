//! Reads that are tried again.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use migrate_core::{Cancellation, StepErrorKind};

use crate::Error;

/// How often a read is tried when nobody says how often.
const TRIES: u32 = 5;
/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause that a server may ask for here.
const LONGEST_NAMED: Duration = Duration::from_secs(30);
/// Pause after "too many requests" that do not say how long: what an API
/// server itself asks for.
const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

/// How often a read that failed is tried again, each by itself.
///
/// A look at a cluster is many reads, and is of no use unless all of them come
/// through. Where one read in eight fails, one look of twenty reads in fifteen
/// does; with five tries of each read nearly every one.
///
/// # Guarantees
/// * Tried again is only what may succeed later by itself: 429, 5xx and broken
///   connections. What was refused comes back at once, and so does a read without
///   an answer in time: a server that slow is not helped by more of them.
/// * Pauses are 0.25 s, doubled by each failure, at most 2 s; the one that the
///   server names (`Retry-After`, or `retryAfterSeconds` of its status) if that is
///   longer. A server that asks for more than 30 s is left alone: its error comes
///   back.
/// * A cancellation ends a pause, and gives back the error before it.
/// * The same answers at the same moments give the same tries: time is tokio's,
///   and nothing is random.
///
/// For reads alone: it does not ask whether a change has taken effect.
#[derive(Clone, Debug)]
pub struct Retries {
    tries: u32,
    cancel: Cancellation,
}

impl Retries {
    /// Up to five tries, none of them begun after `cancel`.
    pub fn until(cancel: &Cancellation) -> Self {
        Self {
            tries: TRIES,
            cancel: cancel.clone(),
        }
    }

    /// One try.
    pub fn none() -> Self {
        Self::default().with_tries(1)
    }

    /// Up to `tries`, at least one.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn run<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut failures = 0;
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            let Some(pause) = pause(&error, failures).filter(|_| failures < self.tries) else {
                return Err(error);
            };
            tracing::debug!(%error, ?pause, "a read is tried again");
            let cancelled = tokio::time::timeout(pause, self.cancel.cancelled()).await;
            if cancelled.is_ok() {
                return Err(error);
            }
        }
    }
}

/// Up to five tries, which nobody cancels.
impl Default for Retries {
    fn default() -> Self {
        Self::until(&Cancellation::new())
    }
}

/// How long to wait after `error`, the last of `failures` in a row; nothing if
/// waiting does not help.
fn pause(error: &Error, failures: u32) -> Option<Duration> {
    if error.kind() != StepErrorKind::Unavailable {
        return None;
    }
    let doublings = failures.saturating_sub(1).min(8);
    let own = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    let named = match error {
        Error::Api {
            retry_after: Some(named),
            ..
        } => *named,
        Error::Api { code: 429, .. } => THROTTLED_PAUSE,
        _ => Duration::ZERO,
    };
    (named <= LONGEST_NAMED).then(|| own.max(named))
}

/// The seconds that `Retry-After` names; nothing for a date, which no API server
/// sends.
pub(crate) fn named_pause(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::Response;
    use http::header::HeaderValue;
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::resources::Pod;
    use crate::testing::{Scripted, reply, status};
    use crate::{Selection, list, list_retried};

    fn names(pods: &[Pod]) -> Vec<&str> {
        let names = pods.iter().map(|pod| pod.metadata.name.as_deref());
        names.map(Option::unwrap_or_default).collect()
    }

    fn page(name: &str, next: &str) -> Response<Body> {
        let page = json!({ "kind": "PodList", "apiVersion": "v1",
            "metadata": { "continue": next }, "items": [{ "metadata": { "name": name } }] });
        reply(200, page)
    }

    fn busy(code: u16) -> Response<Body> {
        reply(code, status(code, "Busy", "words", json!({})))
    }

    fn script(answers: impl IntoIterator<Item = Response<Body>>) -> Scripted {
        let mut answers = answers.into_iter().collect::<Vec<_>>().into_iter();
        Scripted::new(move |_| answers.next().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_fails_is_read_again_by_itself() {
        let answers = || {
            [
                page("a", "next"),
                busy(500),
                busy(503),
                page("b", "last"),
                busy(500),
                page("c", ""),
            ]
        };
        let api = script(answers());
        let started = Instant::now();
        let pods = list_retried::<Pod>(&api.client, &Selection::all(), &Retries::default()).await;
        assert_eq!(names(&pods.unwrap()), ["a", "b", "c"]);
        let pauses = Duration::from_millis(250 + 500 + 250);
        assert_eq!(started.elapsed(), pauses, "each page begins anew");
        assert_eq!(api.asked().len(), 6, "no page is read twice");

        // Control: without tries the first failure throws the pages away.
        let api = script(answers());
        let error = list::<Pod>(&api.client, &Selection::all()).await;
        assert!(matches!(error, Err(Error::Api { code: 500, .. })));
        assert_eq!(api.asked().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tries_are_bounded_and_their_pauses_too() {
        let api = Scripted::new(|_| busy(500));
        let started = Instant::now();
        let retries = Retries::default().with_tries(7);
        let error = list_retried::<Pod>(&api.client, &Selection::all(), &retries).await;
        assert!(matches!(error, Err(Error::Api { code: 500, .. })));
        assert_eq!(api.asked().len(), 7);
        let pauses = Duration::from_millis(250 + 500 + 1_000 + 2_000 * 3);
        assert_eq!(started.elapsed(), pauses);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_does_not_cure_comes_back_at_once() {
        for code in [400, 401, 403, 404, 409] {
            let api = Scripted::new(move |_| busy(code));
            let answer =
                list_retried::<Pod>(&api.client, &Selection::all(), &Retries::default()).await;
            assert!(answer.is_err());
            assert_eq!(api.asked().len(), 1, "{code}");
        }
        let silent = tower::service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<Response<Body>, std::io::Error>>()
        });
        let client = kube::Client::new(silent, "default");
        let started = Instant::now();
        let silence = list_retried::<Pod>(&client, &Selection::all(), &Retries::default()).await;
        assert!(matches!(silence, Err(Error::Deadline { .. })));
        assert_eq!(started.elapsed(), crate::READ_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_that_the_server_names_is_kept() {
        let in_header = |seconds: &'static str| {
            let mut answer = reply(429, "too many requests, please try again later");
            let value = HeaderValue::from_static(seconds);
            answer.headers_mut().insert(RETRY_AFTER, value);
            answer
        };
        let in_status = || {
            let details = json!({ "retryAfterSeconds": 7 });
            reply(503, status(503, "Busy", "words", details))
        };
        for (refusal, pause) in [(in_header("5"), 5), (in_status(), 7), (busy(429), 1)] {
            let api = script([refusal, page("a", "")]);
            let started = Instant::now();
            let pods =
                list_retried::<Pod>(&api.client, &Selection::all(), &Retries::default()).await;
            assert_eq!(names(&pods.unwrap()), ["a"]);
            assert_eq!(started.elapsed(), Duration::from_secs(pause));
        }
        let api = script([in_header("31")]);
        let started = Instant::now();
        let left = list_retried::<Pod>(&api.client, &Selection::all(), &Retries::default()).await;
        assert!(left.is_err(), "it asked to be left alone for longer");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_ends_the_pause() {
        let api = script([busy(500)]);
        let cancel = Cancellation::new();
        let started = Instant::now();
        let retries = Retries::until(&cancel);
        let all = Selection::all();
        let read = list_retried::<Pod>(&api.client, &all, &retries);
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel();
        };
        let (answer, ()) = tokio::join!(read, stop);
        assert!(matches!(answer, Err(Error::Api { code: 500, .. })));
        assert_eq!(started.elapsed(), Duration::from_millis(100));
    }
}
