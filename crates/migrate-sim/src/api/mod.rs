//! The API server: HTTP requests in, answers and watches out.
//!
//! [`ApiServer`] is a [`tower::Service`] over [`http::Request`], so it stands
//! where a network connection would: [`ApiServer::client`] gives a
//! [`kube::Client`] whose requests, pages and watches are those of a real one.
//! With the feature `loopback`, `ApiServer::listen` serves it on a port too, for
//! other processes.
//!
//! Not there: server-side apply (415), protobuf, tables, conversion between
//! API versions, admission plugins other than namespaces and default
//! tolerations, and all but the most useful field validation.

mod access;
mod audit;
mod body;
mod discovery;
mod eviction;
mod fault;
mod filter;
#[cfg(feature = "loopback")]
mod loopback;
mod outage;
mod patch;
mod query;
mod read;
mod request;
mod route;
mod service;
mod subresource;
mod validate;
mod watch;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as signal;

pub use self::access::AccessRule;
pub use self::audit::AuditEntry;
pub use self::body::ResponseBody;
pub use self::fault::{Contended, Fault};
#[cfg(feature = "loopback")]
pub use self::loopback::Loopback;
pub use self::route::RequestInfo;

use self::fault::Faults;
use self::outage::Outage;
use crate::store::Shared;

/// Time from a request to its answer unless told otherwise.
pub const DEFAULT_LATENCY: Duration = Duration::from_millis(3);

/// The API server of an embedded cluster. Clones are the same server.
#[derive(Debug, Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    settings: Mutex<Settings>,
    faults: Mutex<Faults>,
    audit: Mutex<Vec<AuditEntry>>,
    up: signal::Sender<bool>,
}

#[derive(Debug, Clone)]
struct Settings {
    version: String,
    metrics: String,
    rules: Arc<[AccessRule]>,
    latency: Duration,
    ready: bool,
}

impl ApiServer {
    /// A server over a store; it says that it is `version`, such as `v1.36.3`.
    pub fn new(shared: Arc<Shared>, version: impl Into<String>) -> Self {
        let settings = Settings {
            version: version.into(),
            metrics: String::new(),
            rules: Arc::from([AccessRule::all()]),
            latency: DEFAULT_LATENCY,
            ready: true,
        };
        Self {
            inner: Arc::new(Inner {
                shared,
                settings: Mutex::new(settings),
                faults: Mutex::default(),
                audit: Mutex::default(),
                up: signal::Sender::new(true),
            }),
        }
    }

    /// A client of this server, for the namespace `default`. It never retries.
    ///
    /// Must be called inside a tokio runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// The store behind the server.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The version that `/version` answers with.
    pub fn version(&self) -> String {
        self.settings().version
    }

    /// Changes the version that `/version` answers with.
    pub fn set_version(&self, version: impl Into<String>) {
        lock(&self.inner.settings).version = version.into();
    }

    /// Sets the text of `/metrics`.
    pub fn set_metrics(&self, text: impl Into<String>) {
        lock(&self.inner.settings).metrics = text.into();
    }

    /// Sets what clients may do; everything else is answered with 403.
    pub fn set_access(&self, rules: impl IntoIterator<Item = AccessRule>) {
        lock(&self.inner.settings).rules = rules.into_iter().collect();
    }

    /// Sets the time from a request to its answer; the write happens half way.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.inner.settings).latency = latency;
    }

    /// Sets whether `/readyz` answers 200 or 500.
    pub fn set_ready(&self, ready: bool) {
        lock(&self.inner.settings).ready = ready;
    }

    /// Takes the server down or brings it back. While it is down, connections
    /// are refused; going down breaks all open requests and watches.
    pub fn set_available(&self, available: bool) {
        self.inner.up.send_replace(available);
    }

    /// Asks `hook` about each request from now on, in the order of arrival.
    pub fn set_faults(&self, hook: impl FnMut(&RequestInfo) -> Fault + Send + 'static) {
        lock(&self.inner.faults).0 = Some(Box::new(hook));
    }

    /// Serves every request again.
    pub fn clear_faults(&self) {
        lock(&self.inner.faults).0 = None;
    }

    /// Every request that reached the server so far, in the order of the answers.
    pub fn audit(&self) -> Vec<AuditEntry> {
        lock(&self.inner.audit).clone()
    }

    /// The same, and forgets them.
    pub fn take_audit(&self) -> Vec<AuditEntry> {
        std::mem::take(&mut lock(&self.inner.audit))
    }

    fn settings(&self) -> Settings {
        lock(&self.inner.settings).clone()
    }

    fn outage(&self) -> Outage {
        Outage::new(self.inner.up.subscribe())
    }
}

/// Locks; a panic of a hook leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
