//! Graceful deletion: preconditions, grace periods, finalizers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ApiError, Object, Resource, Store};
use crate::object::{
    array_at, int_at, items_at, parse_timestamp, remove_at, set_at, str_at, timestamp,
};

/// Grace of a pod that names none, in seconds.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteOptions {
    /// Grace in seconds; none leaves it to the object, a negative one counts as 1.
    pub grace_period_seconds: Option<i64>,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must be this version.
    pub resource_version: Option<String>,
    /// What becomes of the objects it owns.
    pub propagation: Option<Propagation>,
    /// Checks everything and writes nothing.
    pub dry_run: bool,
}

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Propagation {
    /// They stay, without their owner reference.
    Orphan,
    /// They are deleted after the owner is gone.
    Background,
    /// The owner goes after its blocking dependents.
    Foreground,
}

/// What a deletion did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Deleted {
    /// The object is gone; this was its last version.
    Gone(Arc<Object>),
    /// The object waits for its grace period or its finalizers.
    Terminating(Arc<Object>),
}

impl DeleteOptions {
    /// Deletes at once, without grace.
    pub fn now() -> Self {
        Self {
            grace_period_seconds: Some(0),
            ..Self::default()
        }
    }
}

impl Deleted {
    /// The object as the deletion left it.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Gone(object) | Self::Terminating(object) => object,
        }
    }
}

impl Store {
    /// Deletes an object as the API server does.
    ///
    /// A bound, unfinished pod gets `deletionTimestamp` = now + grace and stays
    /// until [`Store::remove`]; an object with finalizers gets
    /// `deletionTimestamp` = now and goes with the last finalizer; anything
    /// else is gone at once. Deleting a terminating object again changes
    /// nothing unless the new grace is shorter.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Conflict`] when a precondition does not hold.
    pub fn delete(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let current = Arc::clone(self.expect(resource, namespace, name)?);
        check_preconditions(&current, options)?;
        let was_terminating = current.is_terminating();
        let old_grace =
            int_at(&current.json, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default();
        let grace = match options.grace_period_seconds {
            None if was_terminating => old_grace,
            asked => grace_of(&current, asked),
        };
        let mut json = current.json.clone();
        set_propagation_finalizers(&mut json, options.propagation);
        if grace == 0 && !is_held(resource, &json) {
            return self.erase(&current, options.dry_run).map(Deleted::Gone);
        }
        if !was_terminating || grace < old_grace {
            let asked_ms = match str_at(&json, &["metadata", "deletionTimestamp"]) {
                "" => self.now_ms(),
                text => parse_timestamp(text)
                    .unwrap_or_else(|| self.now_ms())
                    .saturating_sub(millis(old_grace)),
            };
            set_at(
                &mut json,
                &["metadata", "deletionTimestamp"],
                timestamp(asked_ms.saturating_add(millis(grace))),
            );
            set_at(
                &mut json,
                &["metadata", "deletionGracePeriodSeconds"],
                grace,
            );
            if !was_terminating && resource.has_generation {
                set_at(
                    &mut json,
                    &["metadata", "generation"],
                    current.generation() + 1,
                );
            }
            if resource == Resource::NAMESPACES {
                set_at(&mut json, &["status", "phase"], "Terminating");
            }
        }
        if json == current.json {
            return Ok(Deleted::Terminating(current));
        }
        self.put(&current, json, options.dry_run)
            .map(Deleted::Terminating)
    }

    /// Ends an object: what a kubelet does when the containers of a pod have
    /// stopped, or a namespace controller when a namespace is empty.
    ///
    /// Finalizers in `metadata` are honoured; the grace period and
    /// `spec.finalizers` of a namespace are over.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub fn remove(
        &mut self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Deleted, ApiError> {
        if resource == Resource::NAMESPACES {
            let object = self.modify(resource, namespace, name, |ns| {
                remove_at(ns, &["spec", "finalizers"])
            })?;
            if self.get(resource, namespace, name).is_none() {
                return Ok(Deleted::Gone(object));
            }
        }
        self.delete(resource, namespace, name, &DeleteOptions::now())
    }
}

/// Whether a version of a terminating object has nothing left to wait for.
pub(super) fn is_released(resource: &'static Resource, json: &Value) -> bool {
    !str_at(json, &["metadata", "deletionTimestamp"]).is_empty()
        && int_at(json, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default() == 0
        && !is_held(resource, json)
}

/// Whether finalizers keep the object.
fn is_held(resource: &'static Resource, json: &Value) -> bool {
    !items_at(json, &["metadata", "finalizers"]).is_empty()
        || (resource == Resource::NAMESPACES && !items_at(json, &["spec", "finalizers"]).is_empty())
}

/// Grace in seconds that a deletion of this object gets.
fn grace_of(object: &Object, asked: Option<i64>) -> i64 {
    if object.resource != Resource::PODS {
        return 0;
    }
    let own = int_at(&object.json, &["spec", "terminationGracePeriodSeconds"]);
    match asked.or(own).unwrap_or(DEFAULT_GRACE_SECONDS) {
        _ if object.node_name().is_empty() || matches!(object.phase(), "Succeeded" | "Failed") => 0,
        negative if negative < 0 => 1,
        grace => grace,
    }
}

fn check_preconditions(current: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let uid = current.uid();
    if let Some(asked) = options.uid.as_deref().filter(|asked| *asked != uid) {
        return Err(ApiError::conflict(
            current.resource,
            &current.name,
            format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {uid}"),
        ));
    }
    let version = current.rv.to_string();
    if let Some(asked) = options
        .resource_version
        .as_deref()
        .filter(|asked| *asked != version)
    {
        return Err(ApiError::conflict(
            current.resource,
            &current.name,
            format!(
                "Precondition failed: ResourceVersion in precondition: {asked}, \
                 ResourceVersion in object meta: {version}"
            ),
        ));
    }
    Ok(())
}

fn set_propagation_finalizers(json: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let wanted = match propagation {
        Propagation::Orphan => Some("orphan"),
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Background => None,
    };
    let finalizers = array_at(json, &["metadata", "finalizers"]);
    finalizers.retain(|f| f != "orphan" && f != "foregroundDeletion");
    finalizers.extend(wanted.map(|f| json!(f)));
    if finalizers.is_empty() {
        remove_at(json, &["metadata", "finalizers"]);
    }
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds)
        .unwrap_or_default()
        .saturating_mul(1_000)
}
