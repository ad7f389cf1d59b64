//! A store that goes on from another one.

use std::sync::Arc;

use serde_json::Value;

use super::log::ChangeLog;
use super::{ChangeKind, DEFAULT_WINDOW, Object, Resource, Store};
use crate::object::set_at;

impl Store {
    /// A store that goes on from `revision` of another one, whose objects are to be
    /// [adopted](Self::adopt).
    pub(crate) fn resumed(seed: u64, start_ms: u64, revision: u64) -> Self {
        // The other one may have had the same seed: no uid is given a second time.
        let seed = seed.rotate_left(32) ^ revision;
        Self {
            log: ChangeLog::from(revision, DEFAULT_WINDOW),
            ..Self::empty(seed, start_ms)
        }
    }

    /// Takes an object in as it is in another store, last changed at `rv`; there is no
    /// event of it, but observers see it.
    pub(crate) fn adopt(&mut self, resource: &'static Resource, mut json: Value, rv: u64) {
        set_at(&mut json, &["metadata", "resourceVersion"], rv.to_string());
        let object = Arc::new(Object::new(resource, rv, json));
        let change = self.take_in(ChangeKind::Added, object, None);
        self.tell(&change);
    }
}
