//! All objects of the cluster, and the one order of their changes.
//!
//! [`Store`] is synchronous and knows nothing of HTTP, of tasks or of wall
//! time. It guarantees what controllers and clients build on:
//! - every write gets the next resourceVersion, and the change log holds the
//!   last so many of them in that order;
//! - a write that changes nothing gets no resourceVersion and no event;
//! - `metadata.generation` counts changes of the desired state;
//! - uids, generated names and timestamps follow from the seed, the calls and
//!   the cluster time alone.
//!
//! [`Shared`] is the store behind a lock, with wake-ups for those who wait for
//! changes.

#[cfg(feature = "snapshot")]
mod adopt;
mod defaults;
mod delete;
mod error;
mod ids;
mod index;
mod log;
mod object;
mod resource;
mod shared;
mod tables;

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

pub use self::delete::{DeleteOptions, Deleted, Propagation};
pub use self::error::{ApiError, Cause};
pub use self::object::{Change, ChangeKind, Object};
pub(crate) use self::object::{encode, encode_metadata};
pub use self::resource::Resource;
pub use self::shared::{Shared, StoreGuard};

use self::ids::Ids;
use self::index::Index;
use self::log::ChangeLog;
use self::tables::Tables;
use crate::object::{name, namespace, remove_at, set_at, timestamp};

/// Where cluster time starts unless told otherwise: 2026-09-01T00:00:00Z, in
/// milliseconds since the Unix epoch.
pub const DEFAULT_START_MS: u64 = 1_788_220_800_000;

/// How many changes the log keeps unless told otherwise.
pub const DEFAULT_WINDOW: usize = 65_536;

/// Sees every change, right after it happened and before any later one.
pub type Observer = Box<dyn FnMut(&Store, &Change) + Send>;

/// All objects, their indexes and the change log.
pub struct Store {
    tables: Tables,
    index: Index,
    log: ChangeLog,
    ids: Ids,
    now_ms: u64,
    observers: Vec<Observer>,
    /// Tables changed since the wake-ups were last sent.
    dirty: Vec<bool>,
}

impl Store {
    /// A store with the namespaces `default`, `kube-node-lease`, `kube-public`
    /// and `kube-system`; identities follow from `seed`.
    pub fn new(seed: u64, start_ms: u64) -> Self {
        let mut store = Self::empty(seed, start_ms);
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            // Cannot be refused: a new store has no object of that name.
            let _ = store.create(
                Resource::NAMESPACES,
                json!({ "metadata": { "name": name } }),
            );
        }
        store
    }

    fn empty(seed: u64, start_ms: u64) -> Self {
        Self {
            tables: Tables::new(),
            index: Index::default(),
            log: ChangeLog::new(DEFAULT_WINDOW),
            ids: Ids::new(seed),
            now_ms: start_ms,
            observers: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Cluster time in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Moves cluster time forward; an earlier time is ignored.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Cluster time as objects carry it, with whole seconds.
    pub fn timestamp(&self) -> String {
        timestamp(self.now_ms)
    }

    /// resourceVersion of the newest change.
    pub fn resource_version(&self) -> u64 {
        self.log.last()
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.tables.get(resource, namespace, name)
    }

    /// All objects of a kind, or those of one namespace, ordered by namespace and name.
    pub fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Arc<Object>> {
        self.tables.list(resource, namespace)
    }

    /// The same from behind (`namespace`, `name`) on, both exclusive; where a page ended.
    pub(crate) fn list_after<'a>(
        &'a self,
        resource: &Resource,
        namespace: Option<&'a str>,
        after: (&'a str, &'a str),
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.tables.list_after(resource, namespace, after)
    }

    /// How many objects of a kind there are.
    pub fn count(&self, resource: &Resource) -> usize {
        self.tables.count(resource)
    }

    /// Every kind that the store serves, built-in ones first.
    pub fn resources(&self) -> impl Iterator<Item = &'static Resource> {
        self.tables.resources()
    }

    /// Finds a kind that the store serves by `apiVersion` and `kind`, custom ones too.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&'static Resource> {
        let mut resources = self.resources();
        resources.find(|resource| resource.is_of(api_version, kind))
    }

    /// The pods bound to a node, ordered by namespace and name.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.index.pods_on(node)
    }

    /// The objects of any kind that name `uid` as an owner, ordered by kind, namespace and name.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.index.dependents(uid)
    }

    /// Every change after `rv`, oldest first; costs what it yields.
    ///
    /// # Errors
    /// [`ApiError::Expired`] when the log does not reach back that far: list again.
    pub fn changes_since(&self, rv: u64) -> Result<impl Iterator<Item = &Change>, ApiError> {
        self.log.since(rv)
    }

    /// Every change of one kind after `rv`, oldest first; costs what it yields.
    ///
    /// # Errors
    /// [`ApiError::Expired`] when the log does not reach back that far: list again.
    pub fn changes_of(
        &self,
        resource: &Resource,
        rv: u64,
    ) -> Result<impl Iterator<Item = &Change>, ApiError> {
        self.log.of_kind_since(resource, rv)
    }

    /// Sets how many changes the log keeps.
    pub fn set_window(&mut self, changes: usize) {
        self.log.set_window(changes);
    }

    /// Forgets the change log, so that every older resourceVersion is too old.
    pub fn compact(&mut self) {
        self.log.compact(0);
    }

    /// Calls `observer` after every change from now on.
    pub fn on_change(&mut self, observer: impl FnMut(&Self, &Change) + Send + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// Creates an object: fills in identity, defaults and generation.
    ///
    /// # Errors
    /// [`ApiError::AlreadyExists`]; [`ApiError::Invalid`] without a name;
    /// [`ApiError::NotFound`] or [`ApiError::Forbidden`] when the namespace
    /// does not exist or is terminating.
    pub fn create(
        &mut self,
        resource: &'static Resource,
        json: Value,
    ) -> Result<Arc<Object>, ApiError> {
        self.create_with(resource, json, false)
    }

    pub(crate) fn create_with(
        &mut self,
        resource: &'static Resource,
        mut json: Value,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        let ids = self.ids;
        let prefix = json["metadata"]["generateName"]
            .as_str()
            .unwrap_or_default();
        if name(&json).is_empty() && !prefix.is_empty() {
            let generated = format!("{prefix}{}", self.ids.suffix());
            set_at(&mut json, &["metadata", "name"], generated);
        }
        let checked = self.check_new(resource, &json);
        if checked.is_err() {
            self.ids = ids;
        }
        checked?;
        set_at(&mut json, &["apiVersion"], resource.api_version());
        set_at(&mut json, &["kind"], resource.kind);
        set_at(
            &mut json,
            &["metadata", "creationTimestamp"],
            self.timestamp(),
        );
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            remove_at(&mut json, &["metadata", field]);
        }
        if !resource.namespaced {
            remove_at(&mut json, &["metadata", "namespace"]);
        }
        if resource.has_generation {
            set_at(&mut json, &["metadata", "generation"], 1);
        }
        defaults::apply(resource, &mut json);
        let uid = self.ids.uid();
        set_at(&mut json, &["metadata", "uid"], uid);
        if dry_run {
            self.ids = ids;
            remove_at(&mut json, &["metadata", "resourceVersion"]);
            return Ok(Arc::new(Object::new(resource, 0, json)));
        }
        let object = self.stamp(resource, json);
        self.commit(ChangeKind::Added, Arc::clone(&object), None);
        Ok(object)
    }

    /// Changes an object; a change that leaves it equal is none.
    ///
    /// Identity (`apiVersion`, `kind`, name, namespace, uid, creation time,
    /// resourceVersion) cannot be changed. A terminating object whose grace
    /// period is over goes with its last finalizer.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub fn modify(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Object>, ApiError> {
        self.modify_with(resource, namespace, name, false, |json| {
            change(json);
            Ok(())
        })
    }

    pub(crate) fn modify_with(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        dry_run: bool,
        change: impl FnOnce(&mut Value) -> Result<(), ApiError>,
    ) -> Result<Arc<Object>, ApiError> {
        let current = Arc::clone(self.expect(resource, namespace, name)?);
        let mut json = current.json.clone();
        change(&mut json)?;
        keep_identity(&current.json, &mut json);
        if json == current.json {
            return Ok(current);
        }
        if resource.has_generation && differs_in_desired_state(&current.json, &json) {
            set_at(
                &mut json,
                &["metadata", "generation"],
                current.generation() + 1,
            );
        }
        if delete::is_released(resource, &json) {
            return self.erase(&current, dry_run);
        }
        self.put(&current, json, dry_run)
    }

    fn expect(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<&Arc<Object>, ApiError> {
        self.get(resource, namespace, name)
            .ok_or_else(|| ApiError::not_found(resource, name))
    }

    fn check_new(&self, resource: &'static Resource, json: &Value) -> Result<(), ApiError> {
        let (namespace, name) = (namespace(json), name(json));
        if resource.namespaced {
            self.check_namespace(resource, namespace, name)?;
        }
        if name.is_empty() {
            let message = "Required value: name or generateName is required";
            return Err(ApiError::invalid(
                resource,
                "",
                "metadata.name",
                "FieldValueRequired",
                message,
            ));
        }
        match self.get(
            resource,
            if resource.namespaced { namespace } else { "" },
            name,
        ) {
            Some(_) => Err(ApiError::AlreadyExists {
                resource,
                name: name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses new content in a namespace that is missing or terminating.
    pub(crate) fn check_namespace(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        if !self
            .expect(Resource::NAMESPACES, "", namespace)?
            .is_terminating()
        {
            return Ok(());
        }
        Err(ApiError::Forbidden {
            resource,
            name: name.to_owned(),
            message: format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            ),
            cause: Some(Box::new(Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".to_owned(),
            })),
        })
    }

    /// Writes a new version.
    fn put(
        &mut self,
        current: &Arc<Object>,
        json: Value,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        if dry_run {
            return Ok(Arc::new(Object::new(current.resource, current.rv, json)));
        }
        let object = self.stamp(current.resource, json);
        self.commit(
            ChangeKind::Modified,
            Arc::clone(&object),
            Some(Arc::clone(current)),
        );
        Ok(object)
    }

    /// Ends an object; the last version carries the resourceVersion of the deletion.
    fn erase(&mut self, current: &Arc<Object>, dry_run: bool) -> Result<Arc<Object>, ApiError> {
        if dry_run {
            return Ok(Arc::clone(current));
        }
        let object = self.stamp(current.resource, current.json.clone());
        self.commit(
            ChangeKind::Deleted,
            Arc::clone(&object),
            Some(Arc::clone(current)),
        );
        Ok(object)
    }

    fn stamp(&self, resource: &'static Resource, mut json: Value) -> Arc<Object> {
        let rv = self.log.last() + 1;
        set_at(&mut json, &["metadata", "resourceVersion"], rv.to_string());
        Arc::new(Object::new(resource, rv, json))
    }

    fn commit(&mut self, kind: ChangeKind, object: Arc<Object>, previous: Option<Arc<Object>>) {
        let change = self.take_in(kind, object, previous);
        self.log.push(change.clone());
        self.tell(&change);
    }

    /// Puts a change into tables and indexes.
    fn take_in(
        &mut self,
        kind: ChangeKind,
        object: Arc<Object>,
        previous: Option<Arc<Object>>,
    ) -> Change {
        match kind {
            ChangeKind::Deleted => self.tables.remove(&object),
            ChangeKind::Added | ChangeKind::Modified => self.tables.insert(&object),
        }
        self.index.replace(
            previous.as_ref(),
            (kind != ChangeKind::Deleted).then_some(&object),
        );
        let index = object.resource.index;
        if self.dirty.len() <= index {
            self.dirty.resize(index + 1, false);
        }
        self.dirty[index] = true;
        if object.resource == Resource::CUSTOM_RESOURCE_DEFINITIONS {
            self.tables.define(&object);
        }
        Change {
            rv: object.rv,
            at_ms: self.now_ms,
            kind,
            object,
            previous,
        }
    }

    /// Shows observers a change.
    fn tell(&mut self, change: &Change) {
        let mut observers = std::mem::take(&mut self.observers);
        for observer in &mut observers {
            observer(self, change);
        }
        observers.append(&mut self.observers);
        self.observers = observers;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("resource_version", &self.resource_version())
            .field("now", &self.timestamp())
            .finish_non_exhaustive()
    }
}

fn keep_identity(old: &Value, new: &mut Value) {
    for field in ["apiVersion", "kind"] {
        set_at(new, &[field], old[field].clone());
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "generation",
    ] {
        match old["metadata"].get(field) {
            Some(value) => set_at(new, &["metadata", field], value.clone()),
            None => remove_at(new, &["metadata", field]),
        }
    }
}

/// Whether anything but metadata and status differs.
fn differs_in_desired_state(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return old != new;
    };
    let counts = |key: &&String| !matches!(key.as_str(), "metadata" | "status");
    old.keys()
        .chain(new.keys())
        .filter(counts)
        .any(|key| old.get(key) != new.get(key))
}
