//! What every controller is given: the store, the time, the queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::index::Index;
use super::settings::Settings;
use super::work::{Key, Timer, Timers, Work};
use crate::object::str_at;
use crate::store::{ApiError, DeleteOptions, Object, Resource, Store};

/// The part of the world that controllers share.
///
/// Writes that the store refuses are logged and left: the same object comes
/// back with the next change, as in a level-triggered controller.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) now: u64,
    pub(crate) settings: &'a Settings,
    pub(crate) index: &'a Index,
    pub(crate) queue: &'a mut BTreeSet<Work>,
    pub(crate) timers: &'a mut Timers,
}

impl Context<'_> {
    /// The current version of an object.
    pub(crate) fn get(&self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        self.store.get(resource, &key.namespace, &key.name).cloned()
    }

    /// The current version of a cluster-scoped object.
    pub(crate) fn get_global(&self, resource: &Resource, name: &str) -> Option<Arc<Object>> {
        self.store.get(resource, "", name).cloned()
    }

    /// Creates an object.
    pub(crate) fn create(
        &mut self,
        resource: &'static Resource,
        value: Value,
    ) -> Option<Arc<Object>> {
        let outcome = self.store.create(resource, value);
        self.logged("create", resource, outcome)
    }

    /// Changes an object in place; writing what is there already changes nothing.
    pub(crate) fn modify(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        change: impl FnOnce(&mut Value),
    ) -> Option<Arc<Object>> {
        let outcome = self
            .store
            .modify(resource, &key.namespace, &key.name, change);
        self.logged("modify", resource, outcome)
    }

    /// Asks for the deletion of an object, with its own grace period.
    pub(crate) fn delete(&mut self, resource: &'static Resource, key: &Key) {
        self.delete_with(resource, key, &DeleteOptions::default());
    }

    /// Asks for the deletion of an object.
    pub(crate) fn delete_with(
        &mut self,
        resource: &'static Resource,
        key: &Key,
        options: &DeleteOptions,
    ) {
        let outcome = self
            .store
            .delete(resource, &key.namespace, &key.name, options);
        self.logged("delete", resource, outcome);
    }

    /// Takes an object away at once.
    pub(crate) fn remove(&mut self, resource: &'static Resource, key: &Key) {
        let outcome = self.store.remove(resource, &key.namespace, &key.name);
        self.logged("remove", resource, outcome);
    }

    /// Looks at `work` again at `at_ms`.
    pub(crate) fn again_at(&mut self, at_ms: u64, work: Work) {
        self.timers.set(at_ms, Timer::Work(work));
    }

    /// Current versions of the pods that `owner_uid` controls, by name.
    pub(crate) fn pods_of(&self, owner_uid: &str) -> Vec<Arc<Object>> {
        self.store
            .dependents(owner_uid)
            .filter(|pod| pod.resource == Resource::PODS)
            .filter(|pod| {
                pod.controller()
                    .is_some_and(|owner| str_at(owner, &["uid"]) == owner_uid)
            })
            .cloned()
            .collect()
    }

    fn logged<T>(
        &self,
        verb: &str,
        resource: &Resource,
        outcome: Result<T, ApiError>,
    ) -> Option<T> {
        outcome
            .inspect_err(|error| tracing::debug!(verb, kind = resource.kind, %error, "controller write refused"))
            .ok()
    }
}
