//! Watches: the change log of one kind as a stream of events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

use super::body::{PieceStream, Pieces};
use super::filter::Filter;
use super::outage::Outage;
use super::query::Query;
use super::read::{View, parse_version};
use crate::object::set_at;
use crate::store::{ApiError, Change, ChangeKind, Object, Resource, Shared, Store};

/// How long a watch lives that names no `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// Time between two bookmarks of an idle watch.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// Events that are put together under one lock of the store.
const BATCH: usize = 4_096;

/// One open watch.
pub(super) struct Watch {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    outage: Outage,
    resource: &'static Resource,
    namespace: Option<String>,
    filter: Filter,
    view: View,
    cursor: u64,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    start: Start,
}

/// What a watch sends before the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing: it resumes behind a resourceVersion.
    Resume,
    /// Every object as added.
    Objects,
    /// Every object as added, then the bookmark that says so, if bookmarks are allowed.
    StreamingList,
    /// The watch has ended.
    Ended,
}

impl Watch {
    pub(super) fn open(
        shared: Arc<Shared>,
        outage: Outage,
        resource: &'static Resource,
        namespace: Option<&str>,
        query: &Query,
        view: View,
    ) -> Result<Self, ApiError> {
        let rv = parse_version(&query.resource_version)?;
        let start = match query.send_initial_events {
            Some(true) if query.resource_version_match != "NotOlderThan" => {
                let message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return Err(ApiError::invalid(
                    resource,
                    "",
                    "resourceVersionMatch",
                    "FieldValueForbidden",
                    message,
                ));
            }
            Some(true) => Start::StreamingList,
            Some(false) => Start::Resume,
            None if rv == 0 => Start::Objects,
            None => Start::Resume,
        };
        let timeout = query
            .timeout_seconds
            .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let now = Instant::now();
        Ok(Self {
            changed: shared.changes_of(resource),
            // Without a resourceVersion and without initial events: from now on.
            cursor: if rv == 0 {
                shared.lock().resource_version()
            } else {
                rv
            },
            shared,
            outage,
            resource,
            namespace: namespace.map(str::to_owned),
            filter: Filter::parse(resource, &query.label_selector, &query.field_selector)?,
            view,
            bookmarks: query.allow_bookmarks,
            next_bookmark: now + BOOKMARK_INTERVAL,
            deadline: now + timeout,
            start,
        })
    }

    /// Ends the watch early, as a load balancer or a restart does.
    pub(super) fn close_after(&mut self, duration: Duration) {
        self.deadline = self.deadline.min(Instant::now() + duration);
        self.bookmarks = false;
    }

    pub(super) fn into_stream(self) -> PieceStream {
        Box::pin(stream::unfold(self, |mut watch| async move {
            let next = watch.next().await?;
            Some((next, watch))
        }))
    }

    /// The next events; none when the watch has ended.
    async fn next(&mut self) -> Option<Result<Pieces, BoxError>> {
        loop {
            if self.start == Start::Ended {
                return None;
            }
            // Seen before reading, so that a change in between wakes again.
            self.changed.mark_unchanged();
            let pieces = self.read();
            if !pieces.is_empty() {
                return Some(Ok(pieces));
            }
            let bookmark_at = if self.bookmarks {
                self.next_bookmark
            } else {
                self.deadline
            };
            tokio::select! {
                biased;
                error = self.outage.begins() => {
                    self.start = Start::Ended;
                    return Some(Err(error));
                }
                // The sender lives as long as the store.
                _ = self.changed.changed() => {}
                () = sleep_until(self.deadline.min(bookmark_at)) => {
                    if Instant::now() >= self.deadline {
                        self.start = Start::Ended;
                    }
                    self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    if self.bookmarks {
                        let mut pieces = Pieces::new();
                        self.bookmark(&mut pieces, false);
                        return Some(Ok(pieces));
                    }
                }
            }
        }
    }

    /// What is there to send now.
    fn read(&mut self) -> Pieces {
        let shared = Arc::clone(&self.shared);
        let store = shared.lock();
        let mut pieces = Pieces::new();
        match self.start {
            Start::Objects | Start::StreamingList => {
                self.cursor = store.resource_version();
                for object in store.list(self.resource, self.namespace.as_deref()) {
                    if self.filter.matches(object) {
                        event(&mut pieces, "ADDED", self.view.bytes(object));
                    }
                }
                if self.start == Start::StreamingList && self.bookmarks {
                    self.bookmark(&mut pieces, true);
                }
                self.start = Start::Resume;
            }
            Start::Resume => {
                if let Err(error) = self.read_changes(&store, &mut pieces) {
                    event(
                        &mut pieces,
                        "ERROR",
                        Bytes::from(error.status().to_string()),
                    );
                    self.start = Start::Ended;
                }
            }
            Start::Ended => {}
        }
        pieces
    }

    fn read_changes(&mut self, store: &Store, pieces: &mut Pieces) -> Result<(), ApiError> {
        for change in store.changes_of(self.resource, self.cursor)? {
            self.cursor = change.rv;
            self.change(pieces, change);
            if pieces.len() >= 3 * BATCH {
                return Ok(());
            }
        }
        // All of this kind is read up to now.
        self.cursor = self.cursor.max(store.resource_version());
        Ok(())
    }

    /// The event that this watch sees of a change: an object that starts or
    /// stops to match the selectors comes or goes.
    fn change(&self, pieces: &mut Pieces, change: &Change) {
        if self
            .namespace
            .as_deref()
            .is_some_and(|only| only != change.object.namespace)
        {
            return;
        }
        let was = change
            .previous
            .as_ref()
            .is_some_and(|old| self.filter.matches(old));
        let is = change.kind != ChangeKind::Deleted && self.filter.matches(&change.object);
        match (was, is) {
            (true, true) => event(pieces, "MODIFIED", self.view.bytes(&change.object)),
            (false, true) => event(pieces, "ADDED", self.view.bytes(&change.object)),
            (true, false) if change.kind == ChangeKind::Deleted => {
                event(pieces, "DELETED", self.view.bytes(&change.object));
            }
            (true, false) => {
                // As it last matched, at the resourceVersion of the change.
                if let Some(old) = &change.previous {
                    event(
                        pieces,
                        "DELETED",
                        self.view.bytes_of(&restamped(old, change.rv)),
                    );
                }
            }
            (false, false) => {}
        }
    }

    fn bookmark(&self, pieces: &mut Pieces, initial_events_end: bool) {
        let mut object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": { "resourceVersion": self.cursor.to_string() },
        });
        if initial_events_end {
            set_at(
                &mut object,
                &["metadata", "annotations", "k8s.io/initial-events-end"],
                "true",
            );
        }
        event(pieces, "BOOKMARK", self.view.bytes_of(&object));
    }
}

fn restamped(object: &Object, rv: u64) -> Value {
    let mut json = object.json.clone();
    set_at(&mut json, &["metadata", "resourceVersion"], rv.to_string());
    json
}

fn event(pieces: &mut Pieces, kind: &str, object: Bytes) {
    pieces.push_back(match kind {
        "ADDED" => Bytes::from_static(br#"{"type":"ADDED","object":"#),
        "MODIFIED" => Bytes::from_static(br#"{"type":"MODIFIED","object":"#),
        "DELETED" => Bytes::from_static(br#"{"type":"DELETED","object":"#),
        "BOOKMARK" => Bytes::from_static(br#"{"type":"BOOKMARK","object":"#),
        _ => Bytes::from_static(br#"{"type":"ERROR","object":"#),
    });
    pieces.push_back(object);
    pieces.push_back(Bytes::from_static(b"}\n"));
}
