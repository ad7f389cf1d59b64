//! Stores that do as they are told.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::PartId;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as Answer, UploadPart,
};

use crate::store::*;

pub(super) fn memory() -> (Arc<InMemory>, Store) {
    let memory = Arc::new(InMemory::new());
    let mut store = Store::new(memory.clone(), "clusters/c").unwrap();
    store.part = 999;
    (memory, store)
}

pub(super) fn in_parts() -> (Arc<Parts>, Store) {
    let parts = Arc::new(Parts {
        inner: InMemory::new(),
        known: Mutex::default(),
        put: AtomicUsize::new(0),
        fail_at: AtomicUsize::new(usize::MAX),
    });
    // Both see the same objects.
    let objects = Arc::new(parts.inner.clone());
    let mut store = Store::new(objects, "clusters/c").unwrap();
    store.part = 999;
    let store = store.with_parts(parts.clone());
    (parts, store)
}

/// A store with parts that counts what it is asked and fails as it is told.
#[derive(Debug)]
pub(super) struct Parts {
    inner: InMemory,
    /// Uploads that are not finished.
    pub(super) known: Mutex<BTreeSet<String>>,
    pub(super) put: AtomicUsize,
    pub(super) fail_at: AtomicUsize,
}

impl Parts {
    fn refuse_unknown(&self, id: &MultipartId) -> Answer<()> {
        match self.known.lock().unwrap().contains(id) {
            true => Ok(()),
            // What S3 says of an upload that it has thrown away.
            false => Err(object_store::Error::NotFound {
                path: id.clone(),
                source: "NoSuchUpload".into(),
            }),
        }
    }
}

#[async_trait]
impl MultipartStore for Parts {
    async fn create_multipart(&self, path: &Location) -> Answer<MultipartId> {
        let id = self.inner.create_multipart(path).await?;
        self.known.lock().unwrap().insert(id.clone());
        Ok(id)
    }

    async fn put_part(
        &self,
        path: &Location,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> Answer<PartId> {
        self.refuse_unknown(id)?;
        if part == self.fail_at.load(Ordering::Relaxed) {
            return Err(object_store::Error::Generic {
                store: "test",
                source: "cut off".into(),
            });
        }
        self.put.fetch_add(1, Ordering::Relaxed);
        self.inner.put_part(path, id, part, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Location,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Answer<PutResult> {
        self.refuse_unknown(id)?;
        self.known.lock().unwrap().remove(id);
        self.inner.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Location, id: &MultipartId) -> Answer<()> {
        self.refuse_unknown(id)?;
        self.known.lock().unwrap().remove(id);
        self.inner.abort_multipart(path, id).await
    }
}

/// A store in memory that fails as it is told.
#[derive(Debug)]
pub(super) struct Faulty {
    pub(super) inner: InMemory,
    /// Nothing goes whose name is before this one, manifests apart: they are put last,
    /// when the time of their backup may be over.
    pub(super) locked_until: Mutex<&'static str>,
    /// What it says then.
    pub(super) refusal: Mutex<Refusal>,
    /// A request for more bytes than this breaks off, as where time is up.
    pub(super) longest: AtomicU64,
    /// What the requests asked for.
    pub(super) asked: Mutex<Vec<u64>>,
    /// Names of what is there and is not given: of another owner, or in an archive.
    pub(super) denied: Mutex<BTreeSet<&'static str>>,
    /// What each object is said to be a version of.
    pub(super) version: Mutex<Option<&'static str>>,
    /// Uploads that were aborted.
    pub(super) aborted: Arc<AtomicUsize>,
    /// Names that a listing passes by: it was there already when they came.
    pub(super) unlisted: Mutex<BTreeSet<&'static str>>,
}

impl Faulty {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            locked_until: Mutex::new(""),
            refusal: Mutex::new(denied),
            longest: AtomicU64::new(u64::MAX),
            asked: Mutex::default(),
            denied: Mutex::default(),
            version: Mutex::default(),
            aborted: Arc::default(),
            unlisted: Mutex::default(),
        })
    }

    pub(super) fn store(self: &Arc<Self>) -> Store {
        let mut store = Store::new(self.clone(), "clusters/c").unwrap();
        store.part = 999;
        store
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        at: &Location,
        data: PutPayload,
        options: PutOptions,
    ) -> Answer<PutResult> {
        self.inner.put_opts(at, data, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Location,
        options: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(at, options).await?;
        let aborted = Arc::clone(&self.aborted);
        Ok(Box::new(Upload { inner, aborted }))
    }

    async fn get_opts(&self, at: &Location, options: GetOptions) -> Answer<GetResult> {
        let is_head = options.head;
        let mut got = self.inner.get_opts(at, options).await?;
        got.meta.version = self.version.lock().unwrap().map(str::to_owned);
        let name = at.filename().unwrap_or_default();
        if !is_head && self.denied.lock().unwrap().contains(name) {
            return Err(denied(at));
        }
        if !is_head && !is_manifest(at) {
            let bytes = got.range.end - got.range.start;
            self.asked.lock().unwrap().push(bytes);
            if bytes > self.longest.load(Ordering::Relaxed) {
                return Err(object_store::Error::Generic {
                    store: "test",
                    source: "operation timed out".into(),
                });
            }
        }
        Ok(got)
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, Answer<Location>>,
    ) -> BoxStream<'static, Answer<Location>> {
        let until = *self.locked_until.lock().unwrap();
        let refusal = *self.refusal.lock().unwrap();
        let asked = all.map(move |at| match at {
            // What S3 says of an object that is locked.
            Ok(at) if at.filename().is_some_and(|name| name < until) && !is_manifest(&at) => {
                Err(refusal(&at))
            }
            at => at,
        });
        self.inner.delete_stream(asked.boxed())
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Answer<ObjectMeta>> {
        let unlisted = self.unlisted.lock().unwrap().clone();
        let is_seen = move |found: &Answer<ObjectMeta>| {
            let name = found.as_ref().ok().and_then(|it| it.location.filename());
            futures::future::ready(name.is_none_or(|name| !unlisted.contains(name)))
        };
        self.inner.list(prefix).filter(is_seen).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Answer<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Answer<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload at once, whose end is counted.
#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    aborted: Arc<AtomicUsize>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Answer<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Answer<()> {
        self.aborted.fetch_add(1, Ordering::Relaxed);
        self.inner.abort().await
    }
}

/// What a store says of an object.
pub(super) type Refusal = fn(&Location) -> object_store::Error;

/// What S3 says of one of several that are removed at once.
pub(super) fn denied_in_words(at: &Location) -> object_store::Error {
    let text =
        format!("DeleteObjects request failed for key {at}: Access Denied (code: AccessDenied)");
    object_store::Error::Generic {
        store: "S3",
        source: text.into(),
    }
}

/// What becomes of every request while a store is away.
pub(super) fn away(_: &Location) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: "Error performing DeleteObjects request: connection closed".into(),
    }
}

pub(super) fn denied(at: &Location) -> object_store::Error {
    object_store::Error::PermissionDenied {
        path: at.to_string(),
        source: "AccessDenied".into(),
    }
}

fn is_manifest(at: &Location) -> bool {
    at.as_ref().ends_with(".manifest.json")
}
