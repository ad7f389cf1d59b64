//! Pods of one template that stand alike: what is found out of one holds for all.

use migrate_core::Pod;
use migrate_core::model::{Resources, Shared};

/// Marks those of `pods` that are like the one before them. Looked at one after the
/// other, with nothing else in between, so that the waits for what lies far from the
/// processor overlap.
pub(super) fn mark_alike(before: Option<&Pod>, pods: &[Pod], alike: &mut [bool]) {
    let mut before = before;
    for (is_alike, pod) in alike.iter_mut().zip(pods) {
        *is_alike = before.is_some_and(|before| are_alike(before, pod));
        before = Some(pod);
    }
}

/// Whether two pods differ in nothing that is asked of them but their names, uids
/// and nodes, and in what claims they have if both have any. Told by where shared
/// values are, so that `false` says nothing.
fn are_alike(a: &Pod, b: &Pod) -> bool {
    a.labels.is_same(&b.labels)
        && is_one(a.workload.as_ref(), b.workload.as_ref())
        && is_one(a.controller.as_ref(), b.controller.as_ref())
        && a.placement.is_same(&b.placement)
        && (a.phase, a.ready, a.deletion) == (b.phase, b.ready, b.deletion)
        && (a.mirror, a.empty_dir, a.grace_seconds) == (b.mirror, b.empty_dir, b.grace_seconds)
        && a.do_not_disrupt.is_none()
        && b.do_not_disrupt.is_none()
        && a.claims.is_empty() == b.claims.is_empty()
        && ask_the_same(&a.requests, &b.requests)
        && a.id.namespace == b.id.namespace
}

fn ask_the_same(a: &Resources, b: &Resources) -> bool {
    (a.cpu_milli, a.memory_bytes, a.pods) == (b.cpu_milli, b.memory_bytes, b.pods)
        && (a.extended.is_empty() && b.extended.is_empty() || a.extended == b.extended)
}

fn is_one<T: PartialEq>(a: Option<&Shared<T>>, b: Option<&Shared<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is_same(b),
        (None, None) => true,
        _ => false,
    }
}
