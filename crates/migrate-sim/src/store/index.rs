//! Secondary orders of the objects: pods by node, dependents by owner.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::object::ByKey;
use super::{Object, Resource};
use crate::object::str_at;

/// Kept in step with every write; the order of the outer maps never shows.
#[derive(Debug, Default)]
pub(super) struct Index {
    pods_by_node: FxHashMap<String, BTreeSet<ByKey>>,
    by_owner: FxHashMap<String, BTreeSet<ByKey>>,
}

impl Index {
    pub(super) fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Object>> {
        objects(&self.pods_by_node, node)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Object>> {
        objects(&self.by_owner, uid)
    }

    /// Takes the old version out and the new version in.
    pub(super) fn replace(&mut self, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) {
        if let Some(old) = old {
            take(&mut self.pods_by_node, node_of(old), old);
            for owner in old.owners() {
                take(&mut self.by_owner, str_at(owner, &["uid"]), old);
            }
        }
        if let Some(new) = new {
            put(&mut self.pods_by_node, node_of(new), new);
            for owner in new.owners() {
                put(&mut self.by_owner, str_at(owner, &["uid"]), new);
            }
        }
    }
}

fn objects<'a>(
    map: &'a FxHashMap<String, BTreeSet<ByKey>>,
    key: &str,
) -> impl Iterator<Item = &'a Arc<Object>> {
    map.get(key).into_iter().flatten().map(|entry| &entry.0)
}

fn node_of(object: &Object) -> &str {
    if object.resource == Resource::PODS {
        object.node_name()
    } else {
        ""
    }
}

fn put(map: &mut FxHashMap<String, BTreeSet<ByKey>>, key: &str, object: &Arc<Object>) {
    if key.is_empty() {
        return;
    }
    match map.get_mut(key) {
        Some(entries) => {
            entries.insert(ByKey(Arc::clone(object)));
        }
        None => {
            map.insert(key.to_owned(), BTreeSet::from([ByKey(Arc::clone(object))]));
        }
    }
}

fn take(map: &mut FxHashMap<String, BTreeSet<ByKey>>, key: &str, object: &Arc<Object>) {
    if let Some(entries) = map.get_mut(key) {
        entries.remove(&ByKey(Arc::clone(object)));
        if entries.is_empty() {
            map.remove(key);
        }
    }
}
