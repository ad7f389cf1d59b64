//! Garbage collection by owner references, and the end of namespaces.

use std::sync::Arc;

use serde_json::Value;

use super::context::Context;
use super::work::{Key, ObjectRef};
use crate::object::{array_at, is_terminating, items_at, remove_at, str_at};
use crate::store::{DeleteOptions, Object, Propagation, Resource};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Looks at an object whose owners may be gone: it goes when all of them are.
pub(crate) fn sync(cx: &mut Context<'_>, object: &ObjectRef) {
    let Some(current) = cx.get(object.resource, &object.key) else {
        return;
    };
    let owners = current.owners();
    if owners.is_empty() || is_terminating(&current.json) {
        return;
    }
    if !owners
        .iter()
        .any(|owner| owner_of(cx, &current.namespace, owner).is_some())
    {
        cx.delete(object.resource, &object.key);
    }
}

/// Whether an owner that an object names does not exist.
pub(crate) fn has_lost_owner(cx: &Context<'_>, object: &Object) -> bool {
    object
        .owners()
        .iter()
        .any(|owner| owner_of(cx, &object.namespace, owner).is_none())
}

/// Owners of an object that wait for their dependents.
pub(crate) fn waiting_owners(cx: &Context<'_>, object: &Object) -> Vec<ObjectRef> {
    let owners = object
        .owners()
        .iter()
        .filter_map(|owner| owner_of(cx, &object.namespace, owner));
    owners
        .filter(waits)
        .map(|owner| ObjectRef::of(&owner))
        .collect()
}

/// Whether the removal of an object waits for what it owns.
pub(crate) fn waits(object: &Arc<Object>) -> bool {
    is_terminating(&object.json)
        && object
            .finalizers()
            .iter()
            .any(|name| name == FOREGROUND || name == ORPHAN)
}

/// Looks at an object whose removal waits: its dependents are let go or deleted first.
pub(crate) fn sync_owner(cx: &mut Context<'_>, owner: &ObjectRef) {
    let Some(current) = cx.get(owner.resource, &owner.key).filter(waits) else {
        return;
    };
    let dependents: Vec<ObjectRef> = cx
        .store
        .dependents(current.uid())
        .map(|object| ObjectRef::of(object))
        .collect();
    if current.finalizers().iter().any(|name| name == ORPHAN) {
        for dependent in &dependents {
            cx.modify(dependent.resource, &dependent.key, |object| {
                remove_owner(object, current.uid())
            });
        }
        cx.modify(owner.resource, &owner.key, |object| {
            remove_finalizer(object, ORPHAN)
        });
        return;
    }
    let mut blocking = false;
    for dependent in &dependents {
        let Some(object) = cx.get(dependent.resource, &dependent.key) else {
            continue;
        };
        blocking |= object.owners().iter().any(|reference| {
            str_at(reference, &["uid"]) == current.uid()
                && crate::object::bool_at(reference, &["blockOwnerDeletion"])
        });
        if !is_terminating(&object.json) {
            // What owns nothing has nothing to wait for.
            let has_dependents = cx.store.dependents(object.uid()).next().is_some();
            let options = DeleteOptions {
                propagation: has_dependents.then_some(Propagation::Foreground),
                ..DeleteOptions::default()
            };
            cx.delete_with(dependent.resource, &dependent.key, &options);
        }
    }
    if dependents.is_empty() || !blocking {
        cx.modify(owner.resource, &owner.key, |object| {
            remove_finalizer(object, FOREGROUND)
        });
    }
}

/// Looks at a namespace: a terminating one loses its content, then goes.
pub(crate) fn sync_namespace(cx: &mut Context<'_>, name: &str) {
    let key = Key::global(name);
    let Some(namespace) = cx.get(Resource::NAMESPACES, &key) else {
        return;
    };
    if !is_terminating(&namespace.json) {
        return;
    }
    let kinds: Vec<&'static Resource> = cx
        .store
        .resources()
        .filter(|resource| resource.namespaced)
        .collect();
    let mut is_empty = true;
    for resource in kinds {
        let objects: Vec<(Key, bool)> = cx
            .store
            .list(resource, Some(name))
            .map(|object| (Key::of(object), is_terminating(&object.json)))
            .collect();
        for (object, already) in objects {
            if !already {
                cx.delete(resource, &object);
            }
            is_empty &= cx.get(resource, &object).is_none();
        }
    }
    // Whatever is left wakes the namespace when it goes.
    if is_empty {
        cx.remove(Resource::NAMESPACES, &key);
    }
}

/// The object that an owner reference means, if it is there.
fn owner_of(cx: &Context<'_>, namespace: &str, owner: &Value) -> Option<Arc<Object>> {
    let (api_version, kind) = (str_at(owner, &["apiVersion"]), str_at(owner, &["kind"]));
    let resource = cx.store.by_kind(api_version, kind)?;
    let namespace = if resource.namespaced { namespace } else { "" };
    cx.get(resource, &Key::new(namespace, str_at(owner, &["name"])))
        .filter(|object| object.uid() == str_at(owner, &["uid"]))
}

fn remove_owner(object: &mut Value, uid: &str) {
    array_at(object, &["metadata", "ownerReferences"])
        .retain(|owner| str_at(owner, &["uid"]) != uid);
    if items_at(object, &["metadata", "ownerReferences"]).is_empty() {
        remove_at(object, &["metadata", "ownerReferences"]);
    }
}

fn remove_finalizer(object: &mut Value, finalizer: &str) {
    array_at(object, &["metadata", "finalizers"]).retain(|name| name != finalizer);
    if items_at(object, &["metadata", "finalizers"]).is_empty() {
        remove_at(object, &["metadata", "finalizers"]);
    }
}
