//! Get and list.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::body::Pieces;
use super::filter::Filter;
use super::query::Query;
use crate::store::{ApiError, Object, Resource, Store, encode, encode_metadata};

/// How objects are shown, as the `Accept` header asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As they are.
    Full,
    /// `PartialObjectMetadata` only.
    Metadata,
}

/// Objects of one kind at one past resourceVersion, where they differ from now.
type Overlay<'a> = BTreeMap<(&'a str, &'a str), Option<&'a Arc<Object>>>;

impl View {
    pub(super) fn of_accept(accept: &str) -> Self {
        if accept.contains("as=PartialObjectMetadata") {
            Self::Metadata
        } else {
            Self::Full
        }
    }

    pub(super) fn bytes(self, object: &Object) -> Bytes {
        match self {
            Self::Full => object.bytes(),
            Self::Metadata => object.metadata_bytes(),
        }
    }

    /// The same for an object that no store holds.
    pub(super) fn bytes_of(self, json: &Value) -> Bytes {
        match self {
            Self::Full => encode(json),
            Self::Metadata => encode_metadata(json),
        }
    }

    fn list_head(self, resource: &'static Resource) -> (String, String) {
        match self {
            Self::Full => (format!("{}List", resource.kind), resource.api_version()),
            Self::Metadata => (
                "PartialObjectMetadataList".to_owned(),
                "meta.k8s.io/v1".to_owned(),
            ),
        }
    }
}

/// One list, or one page of it; every page shows the resourceVersion of the first.
pub(super) fn list(
    store: &Store,
    resource: &'static Resource,
    namespace: Option<&str>,
    query: &Query,
    view: View,
) -> Result<Pieces, ApiError> {
    let filter = Filter::parse(resource, &query.label_selector, &query.field_selector)?;
    let page = Page::parse(store, query)?;
    let changed = overlay(store, resource, page.rv)?;
    let shown = |object: &&Arc<Object>| {
        namespace.is_none_or(|only| object.namespace == only) && filter.matches(object)
    };
    let now: Box<dyn Iterator<Item = &Arc<Object>>> = match filter.node() {
        Some(node) if resource == Resource::PODS => Box::new(
            store
                .pods_on(node)
                .filter(|object| key(object) > page.after()),
        ),
        _ if page.is_first() => Box::new(store.list(resource, namespace)),
        _ => Box::new(store.list_after(resource, namespace, page.after())),
    };
    let now = now.filter(|object| !changed.contains_key(&key(object)));
    let then = changed
        .iter()
        .filter(|(key, _)| **key > page.after())
        .filter_map(|(_, object)| *object);
    let mut found = Merge {
        left: now.peekable(),
        right: then.peekable(),
    }
    .filter(shown);

    let limit = if query.limit == 0 {
        usize::MAX
    } else {
        query.limit
    };
    let mut items = Pieces::new();
    let mut last = None;
    for object in found.by_ref().take(limit) {
        items.push_back(view.bytes(object));
        items.push_back(Bytes::from_static(b","));
        last = Some(object);
    }
    items.pop_back();
    let mut metadata = json!({ "resourceVersion": page.rv.to_string() });
    if let Some(last) = last.filter(|_| found.next().is_some()) {
        metadata["continue"] = format!("{}.{}/{}", page.rv, last.namespace, last.name).into();
    }
    let (kind, api_version) = view.list_head(resource);
    items.push_front(Bytes::from(format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#
    )));
    items.push_back(Bytes::from_static(b"]}"));
    Ok(items)
}

/// Where a page starts and which moment it shows.
struct Page {
    rv: u64,
    namespace: String,
    name: String,
}

impl Page {
    fn parse(store: &Store, query: &Query) -> Result<Self, ApiError> {
        let now = store.resource_version();
        if !query.continue_token.is_empty() {
            return Self::resume(&query.continue_token);
        }
        let asked = parse_version(&query.resource_version)?;
        if asked > now {
            return Err(too_large(asked, now));
        }
        let rv = if query.resource_version_match == "Exact" {
            asked
        } else {
            now
        };
        Ok(Self {
            rv,
            namespace: String::new(),
            name: String::new(),
        })
    }

    fn resume(token: &str) -> Result<Self, ApiError> {
        let read = || {
            let (rv, key) = token.split_once('.')?;
            let (namespace, name) = key.split_once('/')?;
            Some(Self {
                rv: rv.parse().ok()?,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        };
        read().ok_or_else(|| ApiError::bad_request("continue key is not valid"))
    }

    fn is_first(&self) -> bool {
        self.name.is_empty()
    }

    fn after(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

/// What the objects that changed after `rv` were at `rv`; none for those that were not there.
fn overlay<'a>(
    store: &'a Store,
    resource: &'static Resource,
    rv: u64,
) -> Result<Overlay<'a>, ApiError> {
    let mut overlay = Overlay::new();
    let changes = store
        .changes_of(resource, rv)
        .map_err(|_| ApiError::Expired {
            message:
                "The provided continue parameter is too old to display a consistent list result. \
                  You can start a new list without the continue parameter."
                    .to_owned(),
        })?;
    for change in changes {
        overlay
            .entry(key(&change.object))
            .or_insert(change.previous.as_ref());
    }
    Ok(overlay)
}

/// Reads a resourceVersion; an empty one and `0` are 0.
pub(super) fn parse_version(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: must be a number"
        ))
    })
}

fn too_large(asked: u64, now: u64) -> ApiError {
    ApiError::Other {
        code: 504,
        reason: "Timeout".to_owned(),
        message: format!("Timeout: Too large resource version: {asked}, current: {now}"),
        retry_after_seconds: Some(1),
    }
}

fn key(object: &Object) -> (&str, &str) {
    (&object.namespace, &object.name)
}

/// Two ordered sequences as one.
struct Merge<L: Iterator, R: Iterator> {
    left: std::iter::Peekable<L>,
    right: std::iter::Peekable<R>,
}

impl<'a, L, R> Iterator for Merge<L, R>
where
    L: Iterator<Item = &'a Arc<Object>>,
    R: Iterator<Item = &'a Arc<Object>>,
{
    type Item = &'a Arc<Object>;

    fn next(&mut self) -> Option<&'a Arc<Object>> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if key(right) < key(left) => self.right.next(),
            (Some(_), _) => self.left.next(),
            (None, _) => self.right.next(),
        }
    }
}
