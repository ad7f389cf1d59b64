//! Watches that never end.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Api;
use kube::core::Resource;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;

use crate::{ApiCall, Error, Selection};

/// The pause after the first error in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause. Short, because an API server that is being upgraded is
/// away for seconds and a drain that is deaf cannot go on.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What can be watched: any kind that is known when this is compiled, all of
/// [`resources`](crate::resources) among them.
pub trait Watchable:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<K> Watchable for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchEvent<K> {
    /// The watch began, or began anew: these are all objects there are. What
    /// was known before and is not among them is gone.
    Restarted(Vec<K>),
    /// An object was added or changed.
    Applied(K),
    /// An object is gone; this is its last state.
    Deleted(K),
}

/// Watches the objects of `api`.
///
/// # Guarantees
/// The first event is `Restarted`. The stream never ends: after an error it goes
/// on by itself, from where it was if the server still knows, else with
/// `Restarted`. Errors are handed out for the caller to judge
/// ([`Error::Forbidden`] will not go away by waiting) and each is followed by a
/// pause of 200 ms that doubles with every further one up to 5 s. The pauses
/// have no random part, so a rehearsal repeats exactly.
///
/// # Caveats
/// Events of one object come in order; those of two watches do not.
pub fn watch<K: Watchable>(
    api: Api<K>,
    selection: &Selection,
) -> impl Stream<Item = Result<WatchEvent<K>, Error>> + Send + use<K> {
    let config = watcher::Config {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        ..watcher::Config::default()
    };
    let state = State {
        events: Box::pin(watcher(api, config)),
        initial: Vec::new(),
        pause: None,
        next_pause: FIRST_PAUSE,
    };
    stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item, state))
    })
}

struct State<K> {
    events: Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>,
    /// Objects of a list that is not complete yet.
    initial: Vec<K>,
    /// The pause to make before going on.
    pause: Option<Duration>,
    next_pause: Duration,
}

impl<K: Resource<DynamicType = ()>> State<K> {
    async fn next(&mut self) -> Option<Result<WatchEvent<K>, Error>> {
        loop {
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            let event = match self.events.next().await? {
                Ok(Event::Init) => {
                    self.initial.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    self.initial.push(object);
                    continue;
                }
                Ok(Event::InitDone) => WatchEvent::Restarted(std::mem::take(&mut self.initial)),
                Ok(Event::Apply(object)) => WatchEvent::Applied(object),
                Ok(Event::Delete(object)) => WatchEvent::Deleted(object),
                Err(error) => {
                    self.pause = Some(self.next_pause);
                    self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
                    match failed::<K>(error) {
                        // The server has forgotten our place: `Restarted` follows.
                        Error::Api { code: 410, .. } => continue,
                        error => return Some(Err(error)),
                    }
                }
            };
            // Only here: `Init` comes before every attempt, also one that fails.
            self.next_pause = FIRST_PAUSE;
            return Some(Ok(event));
        }
    }
}

fn failed<K: Resource<DynamicType = ()>>(error: watcher::Error) -> Error {
    let call = |verb| ApiCall::new::<K>(verb);
    match error {
        watcher::Error::InitialListFailed(error) => call("list").failed(error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            call("watch").failed(error)
        }
        watcher::Error::WatchError(status) => call("watch").failed(kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => Error::Decode {
            call: call("watch"),
            message: "an object without resourceVersion".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::resources::Namespace;
    use crate::testing::{Scripted, reply, status};

    fn object(name: &str, version: u32) -> Value {
        json!({ "metadata": { "name": name, "resourceVersion": version.to_string() } })
    }

    fn listed(names: &[&str]) -> Value {
        let items: Vec<Value> = names.iter().map(|name| object(name, 1)).collect();
        json!({ "kind": "NamespaceList", "apiVersion": "v1",
                "metadata": { "resourceVersion": "7" }, "items": items })
    }

    fn names(event: WatchEvent<Namespace>) -> (&'static str, Vec<String>) {
        let (what, objects) = match event {
            WatchEvent::Restarted(objects) => ("restarted", objects),
            WatchEvent::Applied(object) => ("applied", vec![object]),
            WatchEvent::Deleted(object) => ("deleted", vec![object]),
        };
        (
            what,
            objects
                .into_iter()
                .filter_map(|object| object.metadata.name)
                .collect(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_after_errors_and_starts_anew_when_its_place_is_forgotten() {
        let gone = status(410, "Expired", "too old resource version", json!({}));
        let lines = [
            json!({ "type": "MODIFIED", "object": object("a", 8) }),
            json!({ "type": "DELETED", "object": object("b", 9) }),
            json!({ "type": "ERROR", "object": gone }),
        ];
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let forbidden = status(403, "Forbidden", "no", json!({}));
        let mut script = vec![
            reply(403, forbidden),
            reply(200, listed(&["a", "b"])),
            reply(200, lines),
            reply(200, listed(&["c"])),
        ]
        .into_iter();
        let down = status(503, "ServiceUnavailable", "down", json!({}));
        let api = Scripted::new(move |_| script.next().unwrap_or_else(|| reply(503, &down)));
        let namespaces = Api::<Namespace>::all(api.client.clone());
        let mut events = Box::pin(watch(namespaces, &Selection::all().labels("x=y")));

        let began = Instant::now();
        let forbidden = events.next().await.unwrap().unwrap_err();
        assert!(
            forbidden
                .to_string()
                .contains(r#"resources: ["namespaces"], verbs: ["list"]"#)
        );
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(names(events.next().await.unwrap().unwrap()));
        }
        let expected = [
            ("restarted", vec!["a".to_owned(), "b".to_owned()]),
            ("applied", vec!["a".to_owned()]),
            ("deleted", vec!["b".to_owned()]),
            ("restarted", vec!["c".to_owned()]),
        ];
        assert_eq!(seen, expected);
        assert_eq!(began.elapsed(), FIRST_PAUSE * 2);
        assert!(
            api.asked()
                .iter()
                .all(|asked| asked.uri.contains("labelSelector=x%3Dy"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_and_do_not_hammer() {
        let down = status(503, "ServiceUnavailable", "down", json!({}));
        let api = Scripted::new(move |_| reply(503, &down));
        let namespaces = Api::<Namespace>::all(api.client.clone());
        let mut events = Box::pin(watch(namespaces, &Selection::all()));
        let mut last = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(events.next().await.unwrap().unwrap_err().is_retryable());
            pauses.push(last.elapsed().as_millis());
            last = Instant::now();
        }
        assert_eq!(pauses, [0, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
