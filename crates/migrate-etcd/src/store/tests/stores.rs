//! Stores that do as they are told.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

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
        id: Mutex::default(),
        loses_end: AtomicBool::new(false),
        watched: Mutex::default(),
        was_held: Mutex::default(),
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
    /// What the next upload is called instead.
    pub(super) id: Mutex<Option<String>>,
    /// It finishes an upload, and the answer is lost: a client that asks again hears that there
    /// is none.
    pub(super) loses_end: AtomicBool,
    /// A backup, and whether somebody held it at each end of an upload that was not finished.
    pub(super) watched: Mutex<PathBuf>,
    pub(super) was_held: Mutex<Vec<bool>>,
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
        if let Some(id) = self.id.lock().unwrap().take() {
            return Ok(id);
        }
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
        let put = self.inner.complete_multipart(path, id, parts).await;
        match self.loses_end.swap(false, Ordering::Relaxed) {
            false => put,
            true => self.refuse_unknown(id).and(put),
        }
    }

    async fn abort_multipart(&self, path: &Location, id: &MultipartId) -> Answer<()> {
        if let Ok(backup) = fs::File::open(&*self.watched.lock().unwrap()) {
            let is_held = backup.try_lock_shared().is_err();
            self.was_held.lock().unwrap().push(is_held);
        }
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
    /// … but these.
    pub(super) removable: Mutex<BTreeSet<&'static str>>,
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
            removable: Mutex::default(),
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
        let removable = self.removable.lock().unwrap().clone();
        let stays = move |name: &str| name < until && !removable.contains(name);
        let asked = all.map(move |at| match at {
            Ok(at) if at.filename().is_some_and(&stays) && !is_manifest(&at) => Err(refusal(&at)),
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
fn in_words(at: &Location, message: &str, code: &str) -> object_store::Error {
    let text = format!("DeleteObjects request failed for key {at}: {message} (code: {code})");
    object_store::Error::Generic {
        store: "S3",
        source: text.into(),
    }
}

pub(super) fn denied_in_words(at: &Location) -> object_store::Error {
    in_words(at, "Access Denied", "AccessDenied")
}

pub(super) fn locked_in_words(at: &Location) -> object_store::Error {
    in_words(at, "it stays", "ObjectLocked")
}

/// What it says of one alone.
pub(super) fn locked(at: &Location) -> object_store::Error {
    let text = "403 Forbidden: <Error><Code>AccessDenied</Code><Message>Access Denied because \
                object protected by object lock.</Message></Error>";
    object_store::Error::PermissionDenied {
        path: at.to_string(),
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
