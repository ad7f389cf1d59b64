//! What the audit log says about who did what.

use std::collections::{BTreeMap, BTreeSet};

use migrate_preflight::{Permission, REQUIRED, Target};
use migrate_testbed::{AuditEvent, ControlPlane};

/// Everything so far.
pub(crate) fn all(plane: &ControlPlane) -> Vec<AuditEvent> {
    plane.audit().unwrap().read_new().unwrap()
}

/// The requests of `user`.
pub(crate) fn of<'a>(events: &'a [AuditEvent], user: &str) -> Vec<&'a AuditEvent> {
    events
        .iter()
        .filter(|event| event.user.username == user)
        .collect()
}

/// The requests of `user` that could change something, whatever the answer was.
pub(crate) fn mutations<'a>(events: &'a [AuditEvent], user: &str) -> Vec<&'a AuditEvent> {
    let mut events = of(events, user);
    events.retain(|event| !event.is_read() && !event.is_dry_run() && !is_review(event));
    events
}

/// One line for a message.
pub(crate) fn line(event: &AuditEvent) -> String {
    format!("{} {} -> {}", event.verb, event.request_uri, event.code())
}

/// Lines of several.
pub(crate) fn lines<'a>(events: impl IntoIterator<Item = &'a AuditEvent>) -> Vec<String> {
    events.into_iter().map(line).collect()
}

/// A question of a user about itself changes nothing.
pub(crate) fn is_review(event: &AuditEvent) -> bool {
    event
        .object_ref
        .as_ref()
        .is_some_and(|object| object.resource.starts_with("selfsubject"))
}

/// How often the testbed's hook changed each node: it writes the status of a
/// node twice, as the kubelet goes and as it comes back.
pub(crate) fn node_changes(events: &[AuditEvent]) -> BTreeMap<String, usize> {
    let mut writes: BTreeMap<String, usize> = BTreeMap::new();
    for event in of(events, "testbed:hook") {
        if let Some(node) = &event.object_ref
            && event.is_for("nodes/status")
            && !event.is_read()
            && event.code() < 300
        {
            *writes.entry(node.name.clone()).or_default() += 1;
        }
    }
    writes
        .into_iter()
        .map(|(node, writes)| (node, writes.div_ceil(2)))
        .collect()
}

/// What `user` asked for, compared with the rights that the project ships.
pub(crate) struct Rights {
    /// Asked for and not granted.
    pub(crate) missing: BTreeSet<String>,
    /// Granted and never asked for.
    pub(crate) unused: BTreeSet<String>,
}

/// Compares the requests of `user` with [`REQUIRED`].
pub(crate) fn rights(events: &[AuditEvent], user: &str) -> Rights {
    let granted = || {
        REQUIRED
            .iter()
            .flat_map(|p| p.verbs.iter().map(move |verb| (p, *verb)))
    };
    let mut missing = BTreeSet::new();
    let mut used = BTreeSet::new();
    for event in of(events, user)
        .into_iter()
        .filter(|event| !is_review(event))
    {
        let covering: Vec<_> = granted()
            .filter(|(permission, verb)| covers(permission, verb, event))
            .collect();
        if covering.is_empty() {
            missing.insert(line(event));
        }
        used.extend(
            covering
                .into_iter()
                .map(|(permission, verb)| shown(permission, verb)),
        );
    }
    let all: BTreeSet<String> = granted()
        .map(|(permission, verb)| shown(permission, verb))
        .collect();
    Rights {
        missing,
        unused: all.difference(&used).cloned().collect(),
    }
}

fn covers(permission: &Permission, verb: &str, event: &AuditEvent) -> bool {
    if verb != event.verb {
        return false;
    }
    match (permission.target, &event.object_ref) {
        (Target::Path(path), None) => event.request_uri.split('?').next() == Some(path),
        (Target::Resource { group, resource }, Some(object)) => {
            object.api_group == group
                && event.is_for(resource)
                && permission
                    .namespace
                    .is_none_or(|namespace| namespace == object.namespace)
                && permission.name.is_none_or(|name| name == object.name)
        }
        _ => false,
    }
}

/// `VERB RESOURCE.GROUP`, for the core group without one, and where the right is
/// for one namespace or name, that.
fn shown(permission: &Permission, verb: &str) -> String {
    let mut shown = match permission.target {
        Target::Path(path) => format!("{verb} {path}"),
        Target::Resource {
            group: "",
            resource,
        } => format!("{verb} {resource}"),
        Target::Resource { group, resource } => format!("{verb} {resource}.{group}"),
        _ => verb.to_owned(),
    };
    for part in [permission.name, permission.namespace] {
        shown.extend(part.into_iter().flat_map(|part| [" ", part]));
    }
    shown
}
